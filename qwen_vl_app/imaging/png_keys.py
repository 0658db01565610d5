"""The one colour of a PNG that means "nothing there", in the scale of its decoded pixels. Knows a trap of Pillow's.

A PNG names that colour in its own bits; Pillow scales pixels of 2, 4 and 16 bits and leaves the name as it was.
"""

from __future__ import annotations

from PIL import Image

_GREY_STEPS = {"L;2": 85, "L;4": 17}
_DEEP_COLOURS = "RGB;16B"


def raw_mode(image: Image.Image) -> str:
    """Return how the pixels of an opened PNG lie in the file; asked before it is loaded."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0].args) if tiles else ""


def mend_key(image: Image.Image, raw: str) -> None:
    """Bring the transparent colour of a loaded PNG to the scale of its pixels."""
    key = image.info.get("transparency")
    if raw in _GREY_STEPS and isinstance(key, int):
        image.info["transparency"] = key * _GREY_STEPS[raw]
    elif raw == _DEEP_COLOURS and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
