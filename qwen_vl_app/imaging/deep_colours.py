"""Colours of 16 bits that use fewer, as measuring cameras keep 12 or 14 of them: Pillow takes the upper eight, which are nearly
black then.

Knows Pillow's names for both halves of such a number. Does not know files, nor greys, which Pillow reads whole.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from PIL import Image, ImageChops

from qwen_vl_app.errors import Reason

_PLANES, _APART = 284, 2
_HALF = re.compile(r"16([LBN])$")
_OTHER_HALF = {"L": "16B", "B": "16L", "N": "16B" if sys.byteorder == "little" else "16L"}
"""Pillow takes the upper eight bits by the byte order: in the other one these are the lower ones."""
_USUAL_BITS = (8, 12, 14)
"""What programs and sensors put into 16 bits, beside all of them."""


def are_deep(image: Image.Image) -> bool:
    """Return whether an opened picture is about to be read as the upper halves of colours; asked before it is loaded."""
    tags = getattr(image, "tag_v2", {})
    tiles = getattr(image, "tile", [])
    # libtiff's planes are read by another table, which has the upper halves alone.
    is_apart = tags.get(_PLANES) == _APART and any(tile.codec_name == "libtiff" for tile in tiles)
    return image.mode == "RGB" and bool(tiles) and not is_apart and all(_HALF.search(_layout(tile)) for tile in tiles)


def with_all_bits(image: Image.Image, again: Image.Image, notes: list[Reason]) -> Image.Image:
    """Return loaded deep colours in the scale of the bits that they use; as they are where these are all, or a key is among them.

    `again` is the same picture, opened and not loaded. Raises what decoders raise.
    """
    most = max(int(band[1]) for band in image.getextrema() if isinstance(band, tuple))
    bits = next((bits for bits in _USUAL_BITS if most < 1 << (bits - 8)), None)
    if bits is None or "transparency" in image.info:
        return image
    tiles = getattr(again, "tile", [])
    for at, tile in enumerate(tiles):
        other = _HALF.sub(lambda half: _OTHER_HALF[half[1]], _layout(tile))
        tiles[at] = tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
    again.load()
    lower = again.point([value >> (bits - 8) for value in range(256)] * 3)
    upper = image.point([value << (16 - bits) & 255 for value in range(256)] * 3)
    if bits > 8:
        notes.append(Reason("image.deep_colours", bits=bits))
    whole = ImageChops.add(upper, lower)
    whole.info = image.info
    return whole


def _layout(tile: Any) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)
