"""What a person should know about a picture before a minute is spent on it: blurred, too dark, glaring, letters too small
as the model sees them, or lying on its side.

Knows brightness, edges and lines of print, measured on the picture itself. Does not know what is on it, and rather says
nothing than blames a good picture: upside-down print, for one, looks like print to it. For the decoder child.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageChops, ImageFilter, ImageStat

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import Reason

WORK_SIDE = 2000
"""Print is looked for at this size: 10 points on a page are some 15 pixels then."""
LEAST_LETTER_PX = 7.0
"""Lower-case letters under this height were read wrongly far more often than not."""
LEAST_LINE_PX = 6
"""Lower runs, at `WORK_SIDE`, are texture as often as print."""
_PHOTO_FORMATS = frozenset({"JPEG", "HEIF", "AVIF", "WEBP", "MPO"})
_STRIPS = 12
_FAR = 4
_TILES = 32


def look_over(image: Image.Image, seen: Size, *, format: str) -> tuple[Reason, ...]:  # noqa: A002 - the fact's name
    """Return what stands between this upright RGB picture, seen at that size, and a good answer; mostly nothing."""
    grey = image.convert("L")
    found: list[Reason] = []
    if format in _PHOTO_FORMATS:
        small = _within(grey, 512)
        if _is_dark(small):
            found.append(Reason("preflight.dark"))
        elif _has_glare(small):
            found.append(Reason("preflight.glare"))
        if seen.pixels <= image.width * image.height and _is_blurred(grey, seen):
            found.append(Reason("preflight.blurred"))
    work = _within(grey, WORK_SIDE)
    lines, columns = _print_lines(work), _print_lines(work.transpose(Image.Transpose.ROTATE_90))
    if columns.count >= 3 * max(lines.count, 4):
        found.append(Reason("preflight.sideways"))
        lines = columns
    if lines.count:
        letter = lines.height * math.sqrt(seen.pixels / (work.width * work.height))
        if letter < LEAST_LETTER_PX:
            found.append(Reason("preflight.small_letters", pixels=max(1, round(letter))))
    return tuple(found)


def _within(grey: Image.Image, side: int) -> Image.Image:
    shrink = side / max(grey.size)
    if shrink >= 1:
        return grey
    size = (max(1, round(grey.width * shrink)), max(1, round(grey.height * shrink)))
    return grey.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _is_dark(grey: Image.Image) -> bool:
    """True where nearly nothing reaches a third of full brightness, and there is something to see at all."""
    stat = ImageStat.Stat(grey)
    return _percentile(grey, 0.98) < 75 and stat.mean[0] < 40 and stat.stddev[0] > 2


def _has_glare(grey: Image.Image) -> bool:
    """True for a burnt-out spot with a soft rim, inside a picture that is not bright otherwise.

    Sky and windows reach the border, white paper makes the whole picture bright, and a white label has a hard rim.
    """
    tiles = grey.resize((_TILES, _TILES), Image.Resampling.BOX).tobytes()
    burnt = {at for at, level in enumerate(tiles) if level >= 250}
    rest = [level for at, level in enumerate(tiles) if at not in burnt]
    if not rest or statistics.median(rest) > 140:
        return False
    for spot in _spots(burnt):
        rim = {near for at in spot for near in _neighbours(at)} - spot
        around = (
            {near for at in rim for near in _neighbours(at)} - spot - rim
        )  # the rim's tiles may lie half in the spot
        if len(spot) < 6 or any(_is_border(at) for at in spot) or not around:
            continue
        if statistics.median(tiles[at] for at in around) > statistics.median(rest) + 25:
            return True
    return False


def _spots(burnt: set[int]) -> list[set[int]]:
    spots, left = [], set(burnt)
    while left:
        spot, edge = set(), {left.pop()}
        while edge:
            spot |= edge
            edge = {near for at in edge for near in _neighbours(at)} & left
            left -= edge
        spots.append(spot)
    return spots


def _neighbours(at: int) -> set[int]:
    y, x = divmod(at, _TILES)
    return {
        ny * _TILES + nx
        for ny in range(max(0, y - 1), min(_TILES, y + 2))
        for nx in range(max(0, x - 1), min(_TILES, x + 2))
    } - {at}


def _is_border(at: int) -> bool:
    y, x = divmod(at, _TILES)
    return y in (0, _TILES - 1) or x in (0, _TILES - 1)


def _is_blurred(grey: Image.Image, seen: Size) -> bool:
    """True where not even the sharpest parts change from pixel to pixel, at the size that the model sees.

    Compares each tile's change over one pixel with its change over four: at a sharp edge both are alike.
    """
    image = grey.resize((seen.width, seen.height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    if min(image.size) < 96:
        return False
    # Noise of a dark sensor is sharp, whatever the lens did.
    image = image.filter(ImageFilter.MedianFilter(3))
    fine, coarse = _change(image, 1), _change(image, _FAR)
    ratios = sorted(near / far for near, far in zip(fine, coarse, strict=True) if far >= 24)
    if len(ratios) < 12:
        return False  # too little to see for a judgement
    return ratios[int(len(ratios) * 0.9)] < BLURRED_RATIO


BLURRED_RATIO = 0.42


def _change(image: Image.Image, step: int) -> bytes:
    """Return the largest difference over `step` pixels in each tile of 16 x 16, as bytes."""
    across = ImageChops.difference(image, ImageChops.offset(image, step, 0))
    down = ImageChops.difference(image, ImageChops.offset(image, 0, step))
    largest = ImageChops.lighter(across, down).crop((_FAR, _FAR, *image.size))
    for reach in (1, 2, 4, 8):  # far quicker than a rank filter of that size
        largest = ImageChops.lighter(largest, ImageChops.offset(largest, -reach, 0))
        largest = ImageChops.lighter(largest, ImageChops.offset(largest, 0, -reach))
    tiles = [
        largest.crop((0, y, largest.width, y + 1)).tobytes()[: largest.width - 15 : 16]
        for y in range(0, largest.height - 15, 16)
    ]
    return b"".join(tiles)


@dataclass(frozen=True, slots=True)
class _Print:
    """Lines of print: how many pieces of lines were found, and the height of their letters in pixels."""

    count: int = 0
    height: float = 0.0


def _print_lines(grey: Image.Image) -> _Print:
    """Return the level lines of print on a grey picture; a count of 0 where there is no clear evidence.

    A row of print changes between dark and light many times; rows between lines hardly do. Strips side by side find the
    lines of columns and tables, too.
    """
    if min(grey.size) < 64:
        return _Print()
    smooth = grey.filter(ImageFilter.BoxBlur(max(grey.size) / 60))
    ink = ImageChops.difference(grey, smooth).point([255 if level > 28 else 0 for level in range(256)])
    changes = ImageChops.difference(ink, ImageChops.offset(ink, 1, 0))
    profile = changes.resize((_STRIPS, grey.height), Image.Resampling.BOX).tobytes()
    heights: list[int] = []
    strips = 0
    for strip in range(_STRIPS):
        found = _lines_in(profile[strip::_STRIPS])
        heights += found
        strips += bool(found)
    if strips < 3 or len(heights) < 20:
        return _Print()
    return _Print(len(heights), statistics.median(heights))


def _lines_in(rows: Sequence[int]) -> list[int]:
    """Return the heights of the lines in one strip: runs of busy rows of one height with calm rows between."""
    busy = [level >= 20 for level in rows]
    runs: list[tuple[int, int]] = []
    start = None
    for at, is_busy in enumerate([*busy, False]):
        if is_busy and start is None:
            start = at
        elif not is_busy and start is not None:
            runs.append((start, at))
            start = None
    lines = [(first, last) for first, last in runs if LEAST_LINE_PX <= last - first <= len(rows) / 12]
    if len(lines) < 5:
        return []
    heights = [last - first for first, last in lines]
    middle = statistics.median(heights)
    alike = [height for height in heights if 0.6 * middle <= height <= 1.67 * middle]
    pitches = [after[0] - before[0] for before, after in pairwise(lines)]
    pitch = statistics.median(pitches)
    regular = [each for each in pitches if abs(each - pitch) <= 0.25 * pitch]
    is_print = len(alike) >= 0.7 * len(heights) and len(regular) >= 0.6 * len(pitches) and 1.25 <= pitch / middle <= 4
    return alike if is_print else []


def _percentile(grey: Image.Image, fraction: float) -> int:
    counts, total = grey.histogram(), grey.width * grey.height
    below = 0
    for level, count in enumerate(counts):
        below += count
        if below >= fraction * total:
            return level
    return 255
