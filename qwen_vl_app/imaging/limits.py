"""How large and how long a picture may be, asked of a header before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_vl_app.errors import ImageShapeError, ImageTooLargeError, UnreadableImageError

CLIP_PATIENCE = 12
"""Times the seconds of a picture that a clip may take, of which hundreds of frames are decoded."""
MAX_ASPECT = 200
"""Longer side over shorter side; the models' own resizing refuses more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most bytes of a file and most pixels of a picture."""

    max_bytes: int
    max_pixels: int

    def check_bytes(self, count: int) -> None:
        """Raise UnreadableImageError for an empty file, ImageTooLargeError for one that is over the limit."""
        if not count:
            raise UnreadableImageError("image.empty")
        if count > self.max_bytes:
            raise ImageTooLargeError("image.too_many_bytes", size=count, limit=self.max_bytes)

    def check_size(self, width: float, height: float, *, format: str) -> None:  # noqa: A002 - the fact's name
        """Raise for a size in pixels or points that has no area, too much of it, or is too long and thin."""
        if not (width > 0 and height > 0):
            raise UnreadableImageError("image.unreadable", format=format)
        if width * height > self.max_pixels:
            raise ImageTooLargeError(
                "image.too_many_pixels",
                format=format,
                megapixels=width * height / 1e6,
                limit=self.max_pixels / 1e6,
            )
        check_shape(width, height)


def check_shape(width: float, height: float) -> None:
    """Raise ImageShapeError for a picture over 200 times as long as it is wide."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageShapeError("image.shape", ratio=max(width, height) / min(width, height), limit=MAX_ASPECT)
