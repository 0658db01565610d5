"""Large pictures in parts: which parts, and how what was found in them becomes what the whole shows.

Knows rectangles as fractions of the upright original. Does not know models, queues or pages, or how texts are put together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qwen_vl_app.chat import Box, Region, Size

OVERLAP = 0.15
"""Of a part's side: what is cut by one part's border lies whole in its neighbour, if it is no larger than this."""
MAX_PARTS = 24
"""More would take longer than anybody waits; the parts are then larger, and seen smaller than they are."""
WORTH_IT = 1.6
"""How much larger than the model sees it, along a side, a picture has to be for parts to show anything new."""
MAX_RATIO = 2.2
"""Of a part's sides. Long strips are seen worse than squares."""
SAME_IOU = 0.45
SAME_COVER = 0.7
"""Two boxes with one label are one thing where they overlap by the first, or the smaller lies in the larger by the second."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, in fractions of the whole, and what the model said of it: regions in fractions of the whole, and text."""

    box: Box
    regions: tuple[Region, ...] = ()
    text: str = ""


def parts_of(size: Size, seen: Size, *, max_pixels: int) -> tuple[Box, ...]:
    """Return the overlapping parts to look at, row by row; none where the whole shows as much.

    `size` is the upright original's, `seen` what the model sees of it whole, `max_pixels` the area of a part that the model
    sees at full size.
    """
    if size.width < WORTH_IT * seen.width and size.height < WORTH_IT * seen.height:
        return ()
    best = min(
        (
            (columns, rows)
            for columns, rows in itertools.product(range(1, MAX_PARTS + 1), repeat=2)
            if _fits(columns, rows)
        ),
        key=lambda grid: _cost(size, *grid, max_pixels=max_pixels),
    )
    columns, rows = best
    if columns * rows == 1:
        return ()
    return tuple(Box(left, top, right, bottom) for top, bottom in _spans(rows) for left, right in _spans(columns))


def mapped(regions: Iterable[Region], part: Box) -> tuple[Region, ...]:
    """Return regions in fractions of a part as regions in fractions of the whole."""
    width, height = part.x2 - part.x1, part.y2 - part.y1
    return tuple(
        replace(
            region,
            box=Box(
                part.x1 + region.box.x1 * width,
                part.y1 + region.box.y1 * height,
                part.x1 + region.box.x2 * width,
                part.y1 + region.box.y2 * height,
            ),
        )
        for region in regions
    )


def merged_regions(whole: Sequence[Region], parts: Sequence[Part]) -> tuple[Region, ...]:
    """Return each thing once, in reading order.

    Of what several parts show, or a part and the whole, the box that is not cut by a part's border stays, and of those the
    one that was seen larger.
    """
    candidates = [(_is_cut(region.box, part.box), region) for part in parts for region in part.regions]
    kept: list[tuple[bool, Region]] = []
    for is_cut, region in sorted(candidates, key=lambda each: each[0]):
        _take(kept, region, is_cut=is_cut)
    for region in whole:
        _take(kept, region, is_cut=False)
    regions = [region for _, region in kept]
    return tuple(sorted(regions, key=lambda region: (round(region.box.y1, 2), region.box.x1)))


def _take(kept: list[tuple[bool, Region]], region: Region, *, is_cut: bool) -> None:
    for at, (was_cut, other) in enumerate(kept):
        if is_cut and was_cut and _are_pieces(region, other):  # of something that is larger than the overlap
            kept[at] = (True, replace(other, box=_hull(other.box, region.box)))
            return
        if _is_same(region, other):
            if was_cut and not is_cut:
                kept[at] = (False, region)
            return
    kept.append((is_cut, region))


def _fits(columns: int, rows: int) -> bool:
    return columns * rows <= MAX_PARTS


def _cost(size: Size, columns: int, rows: int, *, max_pixels: int) -> tuple[float, int, float]:
    """Judge a grid: detail that is lost, then the number of parts, then long sides."""
    width, height = size.width * _side(columns), size.height * _side(rows)
    lost = max(0.0, math.log(width * height / max_pixels))
    ratio = max(width / height, height / width)
    return (round(lost, 2) + (round(ratio / MAX_RATIO, 2) if ratio > MAX_RATIO else 0.0), columns * rows, ratio)


def _side(count: int) -> float:
    """Return the side of one of so many parts that overlap, as a fraction of the whole."""
    return 1.0 / (count - (count - 1) * OVERLAP)


def _spans(count: int) -> list[tuple[float, float]]:
    side = _side(count)
    step = side * (1.0 - OVERLAP)
    return [(at * step, 1.0 if at == count - 1 else at * step + side) for at in range(count)]


def _is_cut(box: Box, part: Box) -> bool:
    """True where a box touches a border of its part that is no border of the picture."""
    margin_x, margin_y = 0.01 * (part.x2 - part.x1), 0.01 * (part.y2 - part.y1)
    return (
        (part.x1 > 0.0 and box.x1 - part.x1 < margin_x)
        or (part.y1 > 0.0 and box.y1 - part.y1 < margin_y)
        or (part.x2 < 1.0 and part.x2 - box.x2 < margin_x)
        or (part.y2 < 1.0 and part.y2 - box.y2 < margin_y)
    )


def _is_same(one: Region, other: Region) -> bool:
    if one.label.strip().casefold() != other.label.strip().casefold() or one.is_point != other.is_point:
        return False
    if one.is_point:
        return math.dist((one.box.x1, one.box.y1), (other.box.x1, other.box.y1)) < 0.01
    width = min(one.box.x2, other.box.x2) - max(one.box.x1, other.box.x1)
    height = min(one.box.y2, other.box.y2) - max(one.box.y1, other.box.y1)
    shared = max(0.0, width) * max(0.0, height)
    areas = [(each.box.x2 - each.box.x1) * (each.box.y2 - each.box.y1) for each in (one, other)]
    return shared > SAME_IOU * (sum(areas) - shared) or shared > SAME_COVER * min(areas)


def _are_pieces(one: Region, other: Region) -> bool:
    """True for two boxes with one label that meet, and are of one height side by side or of one width one above the other."""
    if one.label.strip().casefold() != other.label.strip().casefold() or one.is_point or other.is_point:
        return False
    a, b = one.box, other.box
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0.0 or height <= 0.0:
        return False
    return height > SAME_COVER * max(a.y2 - a.y1, b.y2 - b.y1) or width > SAME_COVER * max(a.x2 - a.x1, b.x2 - b.x1)


def _hull(one: Box, other: Box) -> Box:
    return Box(min(one.x1, other.x1), min(one.y1, other.y1), max(one.x2, other.x2), max(one.y2, other.y2))
