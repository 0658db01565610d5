"""Greys in TIFF files that Pillow refuses or reads wrong: counted from white, of many bits in the other byte order, or
with a sign where it takes none, and the other way round.

Knows Pillow's table of TIFF layouts, libtiff's habit of swapping bytes, and how a map says which number is none. Does not
scale anything.
"""

from __future__ import annotations

import math
from typing import Any

from PIL import Image, ImageMath, TiffImagePlugin

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_UNSIGNED, _SIGNED = 1, 2
_WHITE_IS_ZERO = 0
_NO_DATA = 42113
"""In words, the number of those pixels of a map that were not measured (GDAL_NODATA)."""
_BAND_ROWS = 256
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


def with_true_signs(image: Image.Image) -> Image.Image:
    """Return a loaded TIFF's greys as the numbers that the file means.

    Pillow has no greys of 32 bits without a sign: what is over half of their range comes out below zero. And it takes those
    of 8 bits with one for shades, in which -1 is white.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return image
    bits, sample_format = tags.get(_BITS), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    if image.mode == "L" and bits == (8,) and sample_format == (_SIGNED,):
        return image.point([value - 256 * (value > 127) for value in range(256)], "I")
    if image.mode != "I" or bits != (32,) or sample_format != (_UNSIGNED,) or image.getextrema()[0] >= 0:  # type: ignore[operator]  # one band, so numbers
        return image

    wrapped = Image.new("F", image.size)
    for top in range(0, image.height, _BAND_ROWS):  # in bands: the sum takes several times their memory
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        wrapped.paste(ImageMath.lambda_eval(_wrap, numbers=band.convert("F")), (0, top))
    wrapped.info = image.info
    return wrapped


def _wrap(names: dict[str, Any]) -> Any:
    return names["numbers"] + (names["numbers"] < 0) * 2.0**32


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
