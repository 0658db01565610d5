"""Any colour mode to RGB the way a person would see it: greys scaled, transparency over white, profiles applied.

Knows Pillow's modes and their traps. Does not know files or orientation.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageMath

from qwen_vl_app.errors import Reason

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_USUAL_BITS = (8, 12, 16)
"""What sensors and programs put into 16 bits."""
_LEAST_FLOAT = -3.4028234663852886e38
"""No height or temperature: programs that make maps write it where nothing was measured, and often do not say so."""
_LEAST_INT, _MOST_INT = -(2**31), 2**31 - 1
_PLAIN_FLOATS = (1.0, 255.0)
_PLAIN_INTEGERS = tuple(float((1 << bits) - 1) for bits in _USUAL_BITS)
"""Up to where pictures count that are kept in numbers of 32 bits. Maps have no such end: they do not come from a sensor."""
_LEAST_PART = 0.25
"""Numbers that take up less of such a range are heights or temperatures: by it, 200 to 1800 m would all be black."""
_BAND_ROWS = 256
_ROUNDING = 3
"""By how much the profiles that mean sRGB differ from one another."""
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_VISIBLE_ALPHA = 64
_LIGHTEST_INK = 235
"""What is lighter cannot be read on white; yellow can."""
_SPECKS = 2000
"""Where not one in so many visible pixels is darker than that, white shows nothing."""


def to_rgb(
    image: Image.Image, notes: list[Reason], *, is_white_zero: bool = False, missing: float | None = None
) -> Image.Image:
    """Return a loaded picture as RGB; what was done to its values is added to `notes`.

    `is_white_zero` tells that a grey of more than 8 bits counts from white, which Pillow leaves to us; `missing` is the number
    of such a grey that stands for no value.
    """
    image = _to_eight_bits(image, notes, missing)
    if is_white_zero:
        image = ImageChops.invert(image)
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        image = _from_lab(image)
    if isinstance(profile, bytes) and (image.mode == "LA" or (image.mode == "L" and "transparency" in image.info)):
        # A profile of greys is about greys: behind what follows they are colours.
        layered = image.convert("LA")
        image = _to_srgb(layered.getchannel("L"), profile).convert("RGB")
        image.putalpha(layered.getchannel("A"))
    if image.mode in _WITH_ALPHA or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        image = _over_white(image, notes)
    if isinstance(profile, bytes) and profile:
        # A profile is about colours, and not about their numbers in a palette.
        image = _to_srgb(image.convert("RGB") if image.mode == "P" else image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image, notes: list[Reason], missing: float | None) -> Image.Image:
    """Scale greys of 16 or 32 bits, which `convert` would clip to white; other modes pass."""
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format == "PNG"):
        if missing is None or not (0 <= missing <= 65535 and missing.is_integer()):
            return _scale_sixteen_bits(image, notes)
        image = image.convert("I")  # a map: no photo says which of its greys is none
    if image.mode in ("I", "F"):
        notes.append(Reason("image.values_scaled"))
        return _scale_numbers(image, _stored(missing, image.mode))
    return image


def _scale_sixteen_bits(image: Image.Image, notes: list[Reason]) -> Image.Image:
    """Scale by the fewest usual bits that hold the values: by 16, a picture of a 12-bit camera would be black.

    Where they take up little of that, as temperatures or 14 bits of a sensor do, they go from the least to the most.
    """
    wide = image if image.mode == "I" else image.convert("I")
    least, most = (int(value) for value in _extrema(wide))
    bits = next(bits for bits in _USUAL_BITS if most < 1 << bits)
    low, span = 0, (1 << bits) - 1
    if 0 < most - least < span * _LEAST_PART:
        low, span = least, most - least
        notes.append(Reason("image.values_scaled"))
    elif bits > 8:
        notes.append(Reason("image.sixteen_bit", bits=bits))
    shades = [min(255, max(0, ((value - low) * 255 + span // 2) // span)) for value in range(65536)]
    grey = wide.point(shades, "L")
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):  # a PNG of greys names one value that is not there
        mask = wide.point([0 if value == see_through else 255 for value in range(65536)], "L")
        grey = Image.merge("LA", (grey, mask))
    return grey


def _scale_numbers(image: Image.Image, missing: float | None) -> Image.Image:
    """Map numbers to 0..255: by the plain full range that they take up a good part of, else from least to most.

    A pixel without a value is black, and the others are as they would be without it.
    """
    low, high = (float(value) for value in _extrema(image))
    if not (math.isfinite(low) and math.isfinite(high)):
        image = _without_infinities(image)
        low, high = _extrema(image)
    gone = None
    absent = [missing] if missing is not None and low <= missing <= high else []
    absent += [_LEAST_FLOAT] if image.mode == "F" and low == _LEAST_FLOAT != missing else []
    if absent:
        gone, low, high = _apart_from(image, absent)
        if low > high:
            return Image.new("L", image.size)
    plain = _PLAIN_INTEGERS if image.mode == "I" and missing is None else _PLAIN_FLOATS
    top = next((top for top in plain if low >= 0 and high <= top), None)
    if top is not None and (low == high or high - low >= top * _LEAST_PART):
        low, high = 0.0, top
    scale = 255.0 / (high - low) if high > low else 1.0
    numbers = image if image.mode == "F" else image.convert("F")
    grey = numbers.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    if gone is not None:
        grey.paste(0, mask=gone)
    return grey


def _stored(value: float | None, mode: str) -> float | None:
    """Return a number as a pixel of this mode holds it, None where none can."""
    if value is None:
        return None
    if mode == "F":
        try:
            return float(struct.unpack("<f", struct.pack("<f", value))[0])
        except OverflowError:
            return None
    value -= 2**32 if _MOST_INT < value < 2**32 else 0  # as Pillow reads what is unsigned
    return value if value.is_integer() and value >= _LEAST_INT and value <= _MOST_INT else None


def _apart_from(image: Image.Image, absent: list[float]) -> tuple[Image.Image, float, float]:
    """Return where numbers have these values, and the extrema of all others: the least over the most where there are none."""
    is_float = image.mode == "F"
    over, under = (math.inf, -math.inf) if is_float else (_MOST_INT, _LEAST_INT)
    gone, low, high = Image.new("L", image.size), math.inf, -math.inf
    for top in range(0, image.height, _BAND_ROWS):  # in bands: what compares takes several times their memory
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        here = Image.new("L", band.size)
        for value in absent:
            here.paste(255, mask=_equals(band, value if is_float else int(value)))
        gone.paste(here, (0, top))
        band.paste(over, mask=here)
        low = min(low, _extrema(band)[0])
        band.paste(under, mask=here)
        high = max(high, _extrema(band)[1])
    return gone, low, high


def _equals(image: Image.Image, number: float) -> Image.Image:
    """Return where an image of numbers has one of them."""

    def compare(names: dict[str, Any]) -> Any:
        return names["image"] == number

    found: Image.Image = ImageMath.lambda_eval(compare, image=image)
    return found.convert("L").point([0, *[255] * 255])


def _extrema(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    return float(low), float(high)  # type: ignore[arg-type]  # one band, so two numbers


def _without_infinities(image: Image.Image) -> Image.Image:
    """Mark as not measured where a float picture holds no number; scientific pictures say so in this way."""
    clean = Image.new("F", image.size)
    clean.putdata([number if math.isfinite(number) else _LEAST_FLOAT for number in _numbers(image)])
    return clean


def _numbers(image: Image.Image) -> Iterator[float]:
    return (number for number in image.get_flattened_data() if isinstance(number, int | float))


def _over_white(image: Image.Image, notes: list[Reason]) -> Image.Image:
    """Lay a picture with transparency over white; `convert("RGB")` would show what lies hidden beneath.

    White would swallow light writing, as programs with a dark look save it: that is laid over black.
    """
    if image.mode == "La":
        image = image.convert("LA")
    layered = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return layered.convert("RGB")
    colours = layered.convert("RGB")
    del layered
    visible = sum(alpha.histogram()[_VISIBLE_ALPHA:])
    if alpha.getextrema() == (0, 0):
        notes.append(Reason("image.all_transparent"))
        return Image.new("RGB", colours.size, _WHITE)
    flat = _laid_over(colours, alpha, _WHITE)
    dark = sum(flat.convert("L").histogram()[:_LIGHTEST_INK])
    if dark * _SPECKS > visible:
        notes.append(Reason("image.flattened"))
        return flat
    del flat
    notes.append(Reason("image.flattened_dark"))
    return _laid_over(colours, alpha, _BLACK)


def _laid_over(colours: Image.Image, alpha: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    under = Image.new("RGB", colours.size, ground)
    under.paste(colours, mask=alpha)
    return under


def _from_lab(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return ImageCms.applyTransform(image, transform) or image


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture in sRGB by its own colour profile; a broken profile, or one for other colours, is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "1":
            return image
        space = source.profile.xcolor_space.strip()
        if space != {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(image.mode):
            return image
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if "sRGB" in (ImageCms.getProfileDescription(source) or "") and _changes_nothing(transform, image.mode):
            return image
        return ImageCms.applyTransform(image, transform) or image
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a profile is an ornament: the picture is good without it
        return image


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether greys stay what they are but for rounding. A "Linear sRGB" is called sRGB, and is something else."""
    greys = Image.frombytes("L", (256, 1), bytes(range(256)))
    changed = ImageCms.applyTransform(greys.convert(mode), transform)
    difference = ImageChops.difference(greys.convert("RGB"), changed) if changed is not None else None
    return difference is not None and max(difference.tobytes()) <= _ROUNDING
