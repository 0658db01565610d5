"""Where labels go: beside no other label where that can be, near their own box, and over as little of others as possible.

Knows rectangles in whole pixels. Does not know fonts or colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_ROWS_AWAY = 5
"""Label heights that a label may stand from its box where all places at its edges are taken."""
_ROW_COST = 0.25
"""A row away from its box is as bad as covering this share of the label's size of other boxes."""
_CELLS = 24
"""Cells along the picture's longer side, by which neighbours are found."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Edges in pixels; the right and lower ones belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    def shared_with(self, other: Rectangle) -> int:
        """Return the pixels that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left) + 1
        high = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return wide * high if wide > 0 and high > 0 else 0


class LabelPlaces:
    """The places for labels on one picture. Labels that were placed keep their place."""

    def __init__(self, image: Rectangle, boxes: Iterable[Rectangle]) -> None:
        side = max(image.right - image.left, image.bottom - image.top) // _CELLS + 1
        self._image = image
        self._boxes = _Neighbours(image, side)
        self._labels = _Neighbours(image, side)
        for box in dict.fromkeys(boxes):
            self._boxes.add(box)

    def place(self, box: Rectangle, wide: int, high: int) -> Rectangle:
        """Return where the label of a box goes, which is then taken; a label larger than the picture begins at 0, 0.

        Above its box is best, then below, then inside, then beside it, then up to five rows away.
        """
        best, least = None, (0, 0.0)
        for spot in dict.fromkeys(_spots(box, wide, high, image=self._image)):
            on_labels = self._labels.covered_by(spot)
            if best is not None and on_labels > least[0]:
                continue
            away = max(box.top - spot.bottom, spot.top - box.bottom, 1) - 1
            aside = max(box.left - spot.right, spot.left - box.right, 1) - 1
            on_boxes = self._boxes.covered_by(spot, apart_from=box) / (wide * high)
            cost = (on_labels, on_boxes + _ROW_COST * (away + aside) / high)
            if best is None or cost < least:
                best, least = spot, cost
            if least == (0, 0.0):
                break
        chosen = best or _kept_inside(box.left, box.top, wide, high, image=self._image)
        self._labels.add(chosen)
        return chosen


class _Neighbours:
    """Rectangles by the cells of the picture that they touch, so that hundreds do not all meet each other."""

    def __init__(self, image: Rectangle, side: int) -> None:
        self._image, self._side = image, side
        self._cells: dict[tuple[int, int], list[Rectangle]] = {}

    def add(self, rectangle: Rectangle) -> None:
        for cell in self._touched(rectangle):
            self._cells.setdefault(cell, []).append(rectangle)

    def covered_by(self, spot: Rectangle, *, apart_from: Rectangle | None = None) -> int:
        near = {other for cell in self._touched(spot) for other in self._cells.get(cell, ())}
        return sum(spot.shared_with(other) for other in near if other != apart_from)

    def _touched(self, rectangle: Rectangle) -> Iterator[tuple[int, int]]:
        image, side = self._image, self._side
        left, right = max(rectangle.left, image.left) // side, min(rectangle.right, image.right) // side
        top, bottom = max(rectangle.top, image.top) // side, min(rectangle.bottom, image.bottom) // side
        return ((x, y) for x in range(left, right + 1) for y in range(top, bottom + 1))


def _spots(box: Rectangle, wide: int, high: int, *, image: Rectangle) -> Iterator[Rectangle]:
    above, below = box.top - high, box.bottom + 1
    columns = (box.left, box.right - wide + 1, (box.left + box.right - wide) // 2)
    wanted = [(x, y) for y in (above, below, box.top, box.bottom - high + 1) for x in columns]
    wanted += [(x, y) for x in (box.right + 1, box.left - wide) for y in (box.top, box.bottom - high + 1)]
    for row in range(1, _ROWS_AWAY + 1):
        wanted += [(x, y) for y in (above - row * high, below + row * high) for x in columns]
        wanted += [(x, y) for x in (box.right + 1, box.left - wide) for y in (above - row * high, below + row * high)]
    late: list[Rectangle] = []
    for x, y in wanted:
        spot = _kept_inside(x, y, wide, high, image=image)
        if spot.top == y:  # moved sideways it still touches its box; moved down it would lie across it
            yield spot
        else:
            late.append(spot)
    yield from late


def _kept_inside(x: int, y: int, wide: int, high: int, *, image: Rectangle) -> Rectangle:
    left = max(image.left, min(x, image.right - wide + 1))
    top = max(image.top, min(y, image.bottom - high + 1))
    return Rectangle(left, top, left + wide - 1, top + high - 1)
