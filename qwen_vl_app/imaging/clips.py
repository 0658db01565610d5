"""What decoding a clip yields: facts about it, or its renditions; and how large and how long it may be. Knows words only."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen_vl_app.chat import Clip, Size
from qwen_vl_app.errors import ImageTooLargeError, Reason, UnreadableImageError

SHEET_COLUMNS = 6
"""Frames in a row of the view; the page cuts it up again."""
SHEET_SIDE = 240
"""Pixels along the longer side of a frame there."""
MOST_FRAME_PIXELS = 8192 * 4320
"""The largest frames there are cameras for; a decoder holds more than a dozen of them."""


def sheet_frame(seen: Size) -> Size:
    """Return how large a frame of that seen size stands in the view."""
    shrink = min(1.0, SHEET_SIDE / max(seen.width, seen.height))
    return Size(max(1, round(seen.width * shrink)), max(1, round(seen.height * shrink)))


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """Most bytes of a file, most pixels of a frame, and the longest clip in seconds."""

    max_bytes: int
    max_pixels: int
    max_seconds: float

    def check_bytes(self, count: int) -> None:
        """Raise UnreadableImageError for an empty file, ImageTooLargeError for one that is over the limit."""
        if not count:
            raise UnreadableImageError("image.empty")
        if count > self.max_bytes:
            raise ImageTooLargeError("clip.too_many_bytes", size=count, limit=self.max_bytes)

    def check_seconds(self, seconds: float) -> None:
        """Raise ImageTooLargeError for a clip that is too long."""
        if seconds > self.max_seconds:
            raise ImageTooLargeError("clip.too_long", length=seconds, limit=self.max_seconds)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a clip is. `size` is a frame's, upright, in pixels; `frame_count` the frames in the file."""

    format: str
    size: Size
    seconds: float
    frame_count: int
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """How many frames of a clip are seen, an even number, and at which size."""

    count: int
    size: Size


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A clip in the forms that the app keeps.

    `view` is a JPEG of the seen frames beside one another, `thumbnail` one of the first, `seen_png` has the frames at the
    seen size, one below the other. `picture_id` is as in `ImageInput`.
    """

    facts: ClipFacts
    clip: Clip
    view: bytes = field(repr=False)
    thumbnail: bytes = field(repr=False)
    seen_png: bytes = field(repr=False)
    picture_id: str
