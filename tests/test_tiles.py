"""Parts of large pictures: they cover everything, overlap, and what they show becomes one answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vl_app.chat import Box, Region, Size
from qwen_vl_app.tiles import MAX_PARTS, OVERLAP, Part, mapped, merged_regions, parts_of

MAX_PIXELS = 1_000_000


@given(st.integers(100, 30_000), st.integers(100, 30_000))
def test_parts_cover_the_picture_and_overlap(width: int, height: int) -> None:
    """Every point lies in a part; neighbours share a strip; there are never more parts than anybody waits for."""
    parts = parts_of(Size(width, height), Size(200, 200), max_pixels=MAX_PIXELS)
    assert len(parts) <= MAX_PARTS
    if not parts:
        return
    columns = sorted({(part.x1, part.x2) for part in parts})
    rows = sorted({(part.y1, part.y2) for part in parts})
    assert len(parts) == len(columns) * len(rows)
    for spans in (columns, rows):
        assert spans[0][0] == 0.0 and spans[-1][1] == 1.0
        for (left, right), (following, _) in pairwise(spans):
            assert right - following >= 0.9 * OVERLAP * (right - left)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (Size(1000, 800), 0),  # the model sees it whole at nearly its size
        (Size(4000, 3000), 16),
        (Size(2000, 1000), 3),
        (Size(12000, 600), 11),
    ],
)
def test_as_many_parts_as_show_everything_at_full_size(size: Size, count: int) -> None:
    """A part is no larger than what the model sees at full size, and no long strip."""
    seen = Size(1000, round(1000 * size.height / size.width)) if size.width > 1000 else size
    parts = parts_of(size, seen, max_pixels=MAX_PIXELS)
    assert abs(len(parts) - count) <= 2 and bool(parts) == bool(count)
    for part in parts:
        width, height = (part.x2 - part.x1) * size.width, (part.y2 - part.y1) * size.height
        assert width * height <= 1.02 * MAX_PIXELS
        assert max(width / height, height / width) < 3


def test_places_in_a_part_are_places_in_the_whole() -> None:
    """Fractions of the part become fractions of the picture."""
    (region,) = mapped([Region(Box(0.5, 0.0, 1.0, 0.5), "a", 0)], Box(0.2, 0.4, 0.6, 0.8))
    assert (region.box.x1, region.box.y1, region.box.x2, region.box.y2) == pytest.approx((0.4, 0.4, 0.6, 0.6))


LEFT, RIGHT = Box(0.0, 0.0, 0.54, 1.0), Box(0.46, 0.0, 1.0, 1.0)


def test_a_thing_in_the_overlap_is_there_once() -> None:
    """Both parts show it whole: one box stays."""
    found = merged_regions(
        [],
        [
            Part(LEFT, (Region(Box(0.47, 0.1, 0.52, 0.2), "lamp"),)),
            Part(RIGHT, (Region(Box(0.471, 0.1, 0.52, 0.2), "lamp"),)),
        ],
    )
    assert len(found) == 1


def test_what_a_border_cuts_gives_way_to_the_whole_thing() -> None:
    """The left part sees a piece, the right one the whole lamp: the whole lamp stays."""
    whole = Region(Box(0.5, 0.1, 0.62, 0.2), "lamp")
    found = merged_regions([], [Part(LEFT, (Region(Box(0.5, 0.1, 0.54, 0.2), "lamp"),)), Part(RIGHT, (whole,))])
    assert found == (whole,)


def test_what_is_larger_than_the_overlap_is_put_together() -> None:
    """Cut on both sides, and the overview did not see it: the pieces become one box."""
    (found,) = merged_regions(
        [],
        [
            Part(LEFT, (Region(Box(0.30, 0.1, 0.54, 0.2), "pipe"),)),
            Part(RIGHT, (Region(Box(0.46, 0.1, 0.80, 0.2), "pipe"),)),
        ],
    )
    assert (found.box.x1, found.box.x2) == (0.30, 0.80)


def test_two_things_side_by_side_stay_two() -> None:
    """Other labels and other places are other things; the overview adds what no part shows."""
    parts = [Part(LEFT, (Region(Box(0.1, 0.1, 0.2, 0.2), "lamp"), Region(Box(0.1, 0.1, 0.2, 0.2), "button")))]
    found = merged_regions([Region(Box(0.0, 0.0, 0.9, 0.9), "panel"), Region(Box(0.3, 0.1, 0.4, 0.2), "lamp")], parts)
    assert sorted(region.label for region in found) == ["button", "lamp", "lamp", "panel"]
