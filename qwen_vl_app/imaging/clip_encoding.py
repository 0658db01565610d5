"""The seen frames of a clip to its renditions: a strip for the model, a sheet for people, a thumbnail. For the decoder child."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from qwen_vl_app.chat import Clip, Size
from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging.clip_frames import SeenFrame
from qwen_vl_app.imaging.clips import SHEET_COLUMNS, sheet_frame
from qwen_vl_app.imaging.encoding import THUMBNAIL_SIDE
from qwen_vl_app.imaging.seen import clip_id

MOST_STRIP_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class ClipRenditions:
    """The forms of one clip, as bytes."""

    clip: Clip
    view: bytes
    thumbnail: bytes
    seen_png: bytes
    picture_id: str


def render_clip(frames: Iterable[SeenFrame], seconds: float, *, count: int, size: Size) -> ClipRenditions:
    """Return the renditions of a clip of that length from at most `count` frames at the seen size.

    Where there are fewer, an odd last one is doubled. Raises UnreadableImageError where there is none.
    """
    if size.height * count > MOST_STRIP_ROWS:
        raise UnreadableImageError("clip.unreadable", format="")
    strip = Image.new("RGB", (size.width, size.height * count))
    moments: list[float] = []
    for frame in frames:
        strip.paste(frame.image, (0, size.height * len(moments)))
        moments.append(frame.at_s)
    if not moments:
        raise UnreadableImageError("clip.no_frames_decoded")
    if len(moments) % 2:
        last = strip.crop((0, size.height * (len(moments) - 1), size.width, size.height * len(moments)))
        strip.paste(last, (0, size.height * len(moments)))
        moments.append(moments[-1])
    strip = strip.crop((0, 0, size.width, size.height * len(moments)))
    clip = Clip(seconds, tuple(round(at, 3) for at in moments))
    first = strip.crop((0, 0, size.width, size.height))
    first.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    return ClipRenditions(
        clip=clip,
        view=_jpeg(_sheet(strip, size, len(moments))),
        thumbnail=_jpeg(first),
        seen_png=_png(strip),
        picture_id=clip_id(strip, clip),
    )


def _sheet(strip: Image.Image, size: Size, count: int) -> Image.Image:
    small_size = sheet_frame(size)
    width, height = small_size.width, small_size.height
    columns = min(count, SHEET_COLUMNS)
    sheet = Image.new("RGB", (width * columns, height * -(-count // columns)))
    for number in range(count):
        frame = strip.crop((0, size.height * number, size.width, size.height * (number + 1)))
        small = frame.resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(small, (width * (number % columns), height * (number // columns)))
    return sheet


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
