"""Boxes, points and labels drawn on a view, and regions cut out of it. Reads this app's own renditions only.

Knows lines, colours and fonts; does not know who located anything. Odd regions (outside, empty, not a number) are drawn
as far as they can be, and never stop a picture from being shown.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter

from qwen_vl_app.chat import Box, Region, Size
from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging.fonts import font_for, writable
from qwen_vl_app.imaging.label_places import LabelPlaces, Rectangle
from qwen_vl_app.imaging.own_form import MOST_VIEW_PIXELS, check_pixels

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Okabe and Ito's palette, without its black: told apart with every kind of colour vision."""
MAX_LABEL = 60
_Pixels = tuple[int, int, int, int]


def draw_regions(
    view: bytes,
    regions: Sequence[Region],
    *,
    labels: bool = True,
    numbers: bool = False,
    max_side: int | None = None,
    as_png: bool = False,
) -> bytes:
    """Return the view with its regions drawn in, in the format it came in (PNG or JPEG), or `as_png` without loss.

    A box's line lies on the outermost pixels of `Box.to_pixels`, inwards. Regions with one label share a colour. With
    `numbers` each carries its place in `regions`, counted from 1, before its label or, without `labels`, alone. A label of
    which this machine's fonts can write nothing is its number. `max_side` makes the result smaller first, so that lines
    and letters keep their width. Raises UnreadableImageError where the view itself is damaged.
    """
    image, source = open_view(view, max_side=max_side)
    if max_side is not None and max(image.size) > max(1, max_side):
        shrink = max(1, max_side) / max(image.size)
        smaller = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        image = image.resize(smaller, Image.Resampling.BICUBIC, reducing_gap=3.0)
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 400))
    colours = _colours(regions)
    placed = [
        (number, region, pixels)
        for number, region in enumerate(regions, start=1)
        if (pixels := _pixels(region.box, image)) is not None
    ]
    for _, region, pixels in placed:
        _draw_shape(draw, pixels, colour=colours[region.label], width=width, is_point=region.is_point)
    if labels or numbers:  # last: no later box's line runs through a word
        covered = [_covered(region, pixels, width) for _, region, pixels in placed]
        places = LabelPlaces(Rectangle(0, 0, image.width - 1, image.height - 1), covered)
        for (number, region, _), box in zip(placed, covered, strict=True):
            shown = _shown(region.label if labels else "", number, has_number=numbers)
            if shown:
                _draw_label(draw, shown, box, colour=colours[region.label], places=places)
    return encode_view(image, "PNG" if as_png else source)


def crop_region(view: bytes, box: Box, *, margin: float = 0.05, as_png: bool = False) -> bytes:
    """Return the part of a view in a box with a margin around it, in the view's format or `as_png`; at least one pixel.

    Without a margin it has exactly the pixels of `Box.to_pixels`. `margin` is a fraction of the box's longer side. Raises
    UnreadableImageError where the view itself is damaged.
    """
    image, source = open_view(view)
    return encode_view(image.crop(_cut(image, box, margin)), "PNG" if as_png else source)


def _cut(image: Image.Image, box: Box, margin: float) -> _Pixels:
    x1, y1, x2, y2 = _pixels(box, image) or (0, 0, image.width - 1, image.height - 1)
    around = round(max(0.0, margin if math.isfinite(margin) else 0.0) * max(x2 + 1 - x1, y2 + 1 - y1))
    return (
        max(0, x1 - around),
        max(0, y1 - around),
        min(image.width, x2 + around + 1),
        min(image.height, y2 + around + 1),
    )


def blank_outside(view: bytes, box: Box, *, margin: float = 0.05) -> bytes:
    """Return the view with everything outside a box and its margin painted in the box's own ground colour, as PNG.

    For models that see small pictures as large as any other: what is inside stays where and as large as it was, but sharpened, so
    that it is not the very same pixels over again. `margin` as in `crop_region`. Raises UnreadableImageError where the view itself is damaged.
    """
    image, _ = open_view(view)
    cut = _cut(image, box, margin)
    inside = image.crop(cut)
    sheet = Image.new("RGB", image.size, _ground(inside))
    sheet.paste(inside.filter(ImageFilter.UnsharpMask(0.007 * max(image.size), 150, 0)), cut[:2])
    return encode_view(sheet, "PNG")


def _ground(image: Image.Image) -> tuple[int, int, int]:
    """Return the colour that most of a picture has, as its median: letters are the smaller part of a plate."""
    middle = image.width * image.height // 2
    levels: list[int] = []
    histogram = image.histogram()
    for channel in range(3):
        seen = 0
        for level, count in enumerate(histogram[channel * 256 : channel * 256 + 256]):
            seen += count
            if seen > middle:
                levels.append(level)
                break
    red, green, blue = levels
    return red, green, blue


def size_of(view: bytes) -> Size:
    """Return the size of a view of our own making. Raises UnreadableImageError where it is damaged."""
    image, _ = open_view(view)
    return Size(image.width, image.height)


def open_view(view: bytes, *, max_side: int | None = None) -> tuple[Image.Image, str]:
    """Return a view of our own making and its format. Raises UnreadableImageError where it is damaged or none of ours.

    Where no more than `max_side` is wanted, a JPEG may come smaller, though never below that: it is read much faster.
    """
    try:
        with Image.open(io.BytesIO(view), formats=("PNG", "JPEG")) as opened:
            source = opened.format or "PNG"
            check_pixels(opened.width, opened.height, most=MOST_VIEW_PIXELS)
            if max_side is not None and max(opened.size) > max_side:
                shrink = max_side / max(opened.size)
                opened.draft("RGB", (math.ceil(opened.width * shrink), math.ceil(opened.height * shrink)))
            return opened.convert("RGB"), source
    except Exception as error:  # decoders raise nearly anything, and a damaged rendition is all of it
        raise UnreadableImageError("image.seen_damaged") from error


def encode_view(image: Image.Image, source: str) -> bytes:
    """Return a picture in the format that its view came in."""
    buffer = io.BytesIO()
    if source == "JPEG":
        image.save(buffer, "JPEG", quality=92, subsampling="4:4:4")
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _colours(regions: Sequence[Region]) -> dict[str, tuple[int, int, int]]:
    names = list(dict.fromkeys(region.label for region in regions))
    return {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}


def _pixels(box: Box, image: Image.Image) -> _Pixels | None:
    """Return the first and last pixels of a box, in order and inside the picture; None for a box of no numbers."""
    corners = (box.x1, box.y1, box.x2, box.y2)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in corners):
        return None
    x1, x2 = sorted((_inside(box.x1), _inside(box.x2)))
    y1, y2 = sorted((_inside(box.y1), _inside(box.y2)))
    left, top, right, bottom = Box(x1, y1, x2, y2).to_pixels(Size(image.width, image.height))
    # The pixels lie between the edges; a point at the very edge is in the last one.
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _inside(fraction: float) -> float:
    return min(1.0, max(0.0, fraction))


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    pixels: _Pixels,
    *,
    colour: tuple[int, int, int],
    width: int,
    is_point: bool,
) -> None:
    x1, y1, x2, y2 = pixels
    outline = _contrast(colour)
    if is_point:
        radius = width * 3
        spot = (x1 - radius, y1 - radius, x1 + radius, y1 + radius)
        draw.ellipse(spot, fill=colour, outline=outline, width=max(1, width // 2))
        return
    # A thin line of the other brightness outside keeps the box visible on ground of its own colour.
    edge = max(1, width // 3)
    draw.rectangle((x1 - edge, y1 - edge, x2 + edge, y2 + edge), outline=outline, width=edge)
    draw.rectangle(pixels, outline=colour, width=width)


def _covered(region: Region, pixels: _Pixels, width: int) -> Rectangle:
    """Return what a shape covers, the rim of a box or the spot of a point with it."""
    x1, y1, x2, y2 = pixels
    around = 3 * width if region.is_point else max(1, width // 3)
    return Rectangle(x1 - around, y1 - around, x2 + around, y2 + around)


def _shown(label: str, number: int, *, has_number: bool) -> str:
    """Return what is written at a region; empty where there is nothing to say."""
    told = "".join(char for char in " ".join(label.split()) if char.isprintable())
    words = writable(told)
    if told.strip("? ") and not words.strip("? "):
        return str(number)
    return f"{number} {words}".rstrip() if has_number else words


def _draw_label(
    draw: ImageDraw.ImageDraw, shown: str, box: Rectangle, *, colour: tuple[int, int, int], places: LabelPlaces
) -> None:
    side_x, side_y = draw.im.size
    size = min(max(12, round(max(side_x, side_y) / 55)), 96)
    padding = max(2, size // 6)
    shown = _fitting(draw, shown, size, side_x - 2 * padding)
    font = font_for(shown, size)
    left, top, right, bottom = draw.textbbox((0, 0), shown, font=font)
    wide, high = math.ceil(right - left) + 2 * padding, math.ceil(bottom - top) + 2 * padding
    spot = places.place(box, wide, high)
    draw.rectangle((spot.left, spot.top, spot.right, spot.bottom), fill=colour)
    draw.text((spot.left + padding - left, spot.top + padding - top), shown, font=font, fill=_contrast(colour))


def _fitting(draw: ImageDraw.ImageDraw, text: str, size: int, room: int) -> str:
    """Return the text, cut with an ellipsis where it is wider than the room."""
    font = font_for(text, size)
    if len(text) <= MAX_LABEL and draw.textlength(text, font=font) <= room:
        return text
    length = min(len(text), MAX_LABEL)
    while length > 1 and draw.textlength(f"{text[:length]}…", font=font) > room:
        length -= 1
    return f"{text[:length].rstrip()}…"


def _contrast(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (255, 255, 255)
