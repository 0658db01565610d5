"""Greys in TIFF files that Pillow refuses or reads wrong: counted from white, or of many bits in the other byte order.

Knows Pillow's table of TIFF layouts, libtiff's habit of swapping bytes, and how a map says which number is none. Does not
scale anything.
"""

from __future__ import annotations

import math

from PIL import Image, TiffImagePlugin

_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_NO_DATA = 42113
"""In words, the number of those pixels of a map that were not measured (GDAL_NODATA)."""
_DEEP_GREYS = {
    (b"II", 1, 16): ("I;16", "I;16"),
    (b"MM", 1, 16): ("I;16B", "I;16B"),
    (b"II", 2, 16): ("I", "I;16S"),
    (b"MM", 2, 16): ("I", "I;16BS"),
    (b"II", 1, 32): ("I", "I;32N"),
    (b"MM", 1, 32): ("I", "I;32B"),
    (b"II", 2, 32): ("I", "I;32S"),
    (b"MM", 2, 32): ("I", "I;32BS"),
}
"""Byte order, sample format (1 unsigned, 2 signed) and bits to Pillow's mode and raw mode."""
_SWAPPED_BY_LIBTIFF = {
    "I;16BS": "I;16NS",
    "I;32B": "I;32N",
    "I;32BS": "I;32NS",
    "F;32BF": "F;32NF",
}
"""What comes out of libtiff has this machine's byte order; Pillow knows that only of unsigned 16 bits."""


def teach_pillow() -> None:
    """Add the layouts of greys that Pillow could read and does not list. Called once in the child."""
    for (order, sample_format, bits), modes in _DEEP_GREYS.items():
        for photometric in (_WHITE_IS_ZERO, 1):
            layout = (order, photometric, (sample_format,), 1, (bits,), ())
            TiffImagePlugin.OPEN_INFO.setdefault(layout, modes)


def mend_byte_order(image: Image.Image) -> None:
    """Have a TIFF that is about to be loaded read what libtiff hands over as it is."""
    tiles = getattr(image, "tile", [])
    for at, tile in enumerate(tiles):
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple) and tile.args[0] in _SWAPPED_BY_LIBTIFF:
            tiles[at] = tile._replace(args=(_SWAPPED_BY_LIBTIFF[tile.args[0]], *tile.args[1:]))


def counts_from_white(image: Image.Image) -> bool:
    """Return whether an opened TIFF has greys of many bits of which 0 is white; Pillow turns round those of 8 alone."""
    tags = getattr(image, "tag_v2", None)
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return is_deep and tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def missing_value(image: Image.Image) -> float | None:
    """Return the number that stands for "not measured" in an opened TIFF; None where it names none that makes sense."""
    tags = getattr(image, "tag_v2", None)
    try:
        value = float(tags.get(_NO_DATA, "")) if tags is not None else math.nan
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
