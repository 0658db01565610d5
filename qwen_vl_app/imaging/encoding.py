"""An upright RGB picture to its renditions: view, thumbnail and seen picture. Knows encoders; for the decoder child."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.imaging.seen import picture_id

VIEW_PIXELS = 24_000_000
VIEW_SIDE = 16_384
"""Pixels along the longer side: JPEG ends at 65,500, and browsers begin to refuse well below."""
THUMBNAIL_SIDE = 320
_DRAWN_FORMATS = frozenset({"PNG", "GIF", "BMP", "PDF", "TIFF", "WEBP"})
"""Where screenshots, charts and print come from: edges that JPEG would blur."""
_LOSSLESS_FORMATS = frozenset({"PNG", "GIF", "BMP"})
_SMALL_PIXELS = 1_000_000
_DRAWN_PIXELS = 16_000_000
_DRAWN_COLOURS = 4096


@dataclass(frozen=True, slots=True)
class Renditions:
    """The forms of one picture, as bytes."""

    view: bytes
    view_mime: str
    thumbnail: bytes
    seen_png: bytes
    picture_id: str


def render_all(image: Image.Image, seen: Size, *, format: str) -> Renditions:  # noqa: A002 - the fact's name
    """Return the renditions of an upright RGB picture; the seen one is resized by Pillow's bicubic filter."""
    seen_size = (seen.width, seen.height)
    seen_image = image if image.size == seen_size else image.resize(seen_size, Image.Resampling.BICUBIC)
    view_image = image
    smaller = view_size(Size(image.width, image.height))
    if (smaller.width, smaller.height) != image.size:
        view_image = image.resize((smaller.width, smaller.height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    is_drawn = _is_drawn(view_image, format)
    return Renditions(
        view=_png(view_image) if is_drawn else _jpeg(view_image, quality=90),
        view_mime="image/png" if is_drawn else "image/jpeg",
        thumbnail=_thumbnail(view_image),
        seen_png=_png(seen_image),
        picture_id=picture_id(seen_image),
    )


def view_size(size: Size) -> Size:
    """Return how large the view of an original of that size is: the same, unless it has very many pixels."""
    shrink = min(math.sqrt(VIEW_PIXELS / size.pixels), VIEW_SIDE / max(size.width, size.height))
    return size if shrink >= 1 else Size(max(1, int(size.width * shrink)), max(1, int(size.height * shrink)))


def _is_drawn(image: Image.Image, source: str) -> bool:
    pixels = image.width * image.height
    if source not in _DRAWN_FORMATS or pixels > _DRAWN_PIXELS:
        return False
    if pixels <= _SMALL_PIXELS and source in _LOSSLESS_FORMATS:
        return True
    return image.getcolors(_DRAWN_COLOURS) is not None


def _thumbnail(image: Image.Image) -> bytes:
    shrink = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    small = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _jpeg(small, quality=85)


def _jpeg(image: Image.Image, *, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # ten times as fast as the default, and kept on the machine itself
    return buffer.getvalue()
