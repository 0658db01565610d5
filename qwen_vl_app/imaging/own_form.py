"""Whether a rendition that comes from elsewhere is of the form in which this app makes them, told by its first bytes.

Views, thumbnails and seen pictures are decoded in the app's own process, where nothing limits memory and time: so they
must be no larger than its own, and take one pass over the pixels. Knows headers; decodes nothing.
"""

from __future__ import annotations

import struct

from qwen_vl_app.chat import Rendition, Size
from qwen_vl_app.errors import UnreadableImageError

MOST_VIEW_PIXELS = 48_000_000
"""The view of a picture has half of it; the sheet of a clip of 768 frames has 44 million."""
MOST_SEEN_PIXELS = 1 << 27
"""A clip of as many tokens as four of the largest pictures: 65,536 for two frames each, of 32 x 32 pixels."""
_MOST_THUMBNAIL_PIXELS = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = struct.Struct(">I4sIIBBBBB")
_JPEG = b"\xff\xd8"
_BASELINE = 0xC0
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""The markers before the size of a JPEG's pixels: one for each way of packing them."""
_START_OF_SCAN = 0xDA


def check_own_form(data: bytes, rendition: Rendition, *, mime: str, seen: Size) -> None:
    """Raise UnreadableImageError where a rendition is none that this app makes. `seen` is the size of the seen one.

    An upload may be anything: it goes to the decoder child like every file, or is downloaded as it came.
    """
    if rendition is Rendition.UPLOAD:
        return
    size = _png_size(data) if mime == "image/png" else _jpeg_size(data) if mime == "image/jpeg" else None
    if size is None:
        raise UnreadableImageError("image.seen_damaged")
    if rendition is Rendition.SEEN:
        if mime != "image/png" or size != seen:
            raise UnreadableImageError("image.seen_damaged")
        check_pixels(size.width, size.height, most=MOST_SEEN_PIXELS)
        return
    check_pixels(
        size.width, size.height, most=MOST_VIEW_PIXELS if rendition is Rendition.VIEW else _MOST_THUMBNAIL_PIXELS
    )


def check_pixels(width: int, height: int, *, most: int) -> None:
    """Raise UnreadableImageError for a picture of no pixels, or of more than a rendition has."""
    if width < 1 or height < 1 or width * height > most:
        raise UnreadableImageError("image.seen_damaged")


def _png_size(data: bytes) -> Size | None:
    """Return the size of a PNG as Pillow writes RGB: eight bits a colour, one pass."""
    if not data.startswith(_PNG) or len(data) < len(_PNG) + _PNG_HEAD.size:
        return None
    length, name, width, height, depth, colours, _, _, interlacing = _PNG_HEAD.unpack_from(data, len(_PNG))
    return Size(width, height) if (length, name, depth, colours, interlacing) == (13, b"IHDR", 8, 2, 0) else None


def _jpeg_size(data: bytes) -> Size | None:
    """Return the size of a baseline JPEG of one scan.

    A progressive one may tell of any number of passes over all of its pixels, in a few bytes each.
    """
    if not data.startswith(_JPEG):
        return None
    size: Size | None = None
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            if marker != _BASELINE or size is not None or at + 9 > len(data):
                return None
            size = Size(int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
        if marker == _START_OF_SCAN:
            # Within a scan no byte 0xFF stands before this one.
            return size if data.find(b"\xff\xda", at + 2) < 0 else None
        at += 2 + length
    return None
