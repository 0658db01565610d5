"""Data about things that have a place: told from mere boxes, moved from a part of a picture to the whole, known again.

Knows the keys under which places stand, and rectangles in the numbers of the answer. Does not know texts, or which parts
there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qwen_vl_app.answers.named_boxes import CORNERS, PLACE_KEYS
from qwen_vl_app.answers.regions import BOX_KEYS, LABEL_KEYS, LISTS_OF_LABELS, POINT_KEYS, label_of, plain_key
from qwen_vl_app.chat import JsonValue

Move: TypeAlias = Callable[[float, float], tuple[int, int]]
"""From x and y on a part to those on the whole, both in the numbers that the model writes."""

_BESIDE = frozenset(("confidence", "conf", "score", "count", "total", "totalcount", "置信度", "数量", "总数"))
"""Keys whose values are worth nothing once the boxes of several parts are put together."""
_CORNERS = frozenset(corner for corners in CORNERS for corner in corners) | {"x", "y"}
_POINT = (("x", "y"),)
_ACROSS = frozenset(("x", "x1", "x2", "xmin", "xmax", "left", "right"))
_FIGURE = re.compile(r"-?\d+(?:\.\d+)?")
_SAME_IOU, _SAME_COVER = 0.45, 0.7
"""Two boxes are of one thing where they overlap by the first, or the smaller lies in the larger by the second."""
_NEAR = 10.0
"""Two points are one that are no further apart than this, across and down."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing by its name, and the four numbers of its box or the two of its point."""

    label: str
    place: tuple[float, ...]


def says_more_than_places(value: JsonValue) -> bool:
    """Tell data that says more of things than where they are and what they are called; without a place it is no such data."""
    return _has_place(value) and not _is_places_alone(value)


def without_places(value: JsonValue) -> JsonValue:
    """Return what data says of things besides where they are."""
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if not isinstance(value, dict):
        return value
    corners = _corner_keys(value)
    return {key: without_places(item) for key, item in value.items() if not _is_place(key, item) and key not in corners}


def moved(value: JsonValue, move: Move) -> JsonValue:
    """Return data with its places moved; one that cannot be read is null, since where it stood it would be wrong."""
    if isinstance(value, list):
        return [moved(item, move) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _moved_place(item, move)
        if _is_place(key, item)
        else moved(item | _moved_corners(item, _POINT, move), move)
        if isinstance(item, dict) and plain_key(key) in POINT_KEYS
        else moved(item, move)
        for key, item in (value | _moved_corners(value, CORNERS, move)).items()
    }


def is_place_key(key: str) -> bool:
    """Tell whether what stands under a key may be a place."""
    return plain_key(key) in BOX_KEYS | POINT_KEYS or key.strip().casefold() in PLACE_KEYS


def thing_of(value: JsonValue) -> Thing | None:
    """Return what is known by its place; None where data has none, or several."""
    if not isinstance(value, dict):
        return None
    places = [item for key, item in value.items() if _is_place(key, item)]
    numbers = tuple(_numbers(places[0])) if len(places) == 1 else ()
    return Thing(label_of(value), numbers) if len(numbers) in (2, 4) else None


def is_one_thing(one: Thing, other: Thing) -> bool:
    """Tell whether two things of one name are in one place."""
    a, b = one.place, other.place
    near = _NEAR if len(a) == 2 else 0.0
    if len(a) != len(b) or b[0] - a[-2] > near or a[0] - b[-2] > near or b[1] - a[-1] > near or a[1] - b[-1] > near:
        return False  # most are: what follows takes longer
    if one.label.casefold() != other.label.casefold():
        return False
    if len(a) == 2:
        return True
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared > _SAME_IOU * (sum(areas) - shared) or shared > _SAME_COVER * min(areas)


def _has_place(value: JsonValue) -> bool:
    if isinstance(value, list):
        return any(map(_has_place, value))
    if not isinstance(value, dict):
        return False
    return any(_is_place(key, item) or _has_place(item) for key, item in value.items()) or bool(_corner_keys(value))


def _corner_keys(value: dict[str, JsonValue]) -> set[str]:
    """Return the keys of a thing's corners where they are values of its own: x1, y1, x2, y2."""
    by_name = {plain_key(key): key for key in value}
    return {by_name[corner] for corners in CORNERS if by_name.keys() >= set(corners) for corner in corners}


def _is_places_alone(value: JsonValue) -> bool:
    if isinstance(value, list):
        rest: list[JsonValue] = [item for item in value if not isinstance(item, str)]
        return _is_box(rest) or all(isinstance(item, list | dict) and _is_places_alone(item) for item in rest)
    if not isinstance(value, dict):
        return False
    names = [key for key in value if key in LABEL_KEYS and not isinstance(value[key], list | dict)]
    return len(names) < 2 and all(
        key in names
        or key in LISTS_OF_LABELS
        or _is_place(key, item)
        or item is None
        or (isinstance(item, list | dict) and _is_places_alone(item))
        or (isinstance(item, int | float) and plain_key(key) in _BESIDE | _CORNERS)
        for key, item in value.items()
    )


def _is_place(key: str, item: JsonValue) -> bool:
    """Tell a place from what is called like one: `"position": "closed"`, `"points": 5`."""
    if plain_key(key) in BOX_KEYS | POINT_KEYS:
        return isinstance(item, list | str) and len(list(_numbers(item))) > 1
    return key.strip().casefold() in PLACE_KEYS and _is_box(item)


def _is_box(item: JsonValue) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 4
        and all(isinstance(part, int | float) and not isinstance(part, bool) for part in item)
    )


def _numbers(item: JsonValue) -> Iterator[float]:
    if isinstance(item, str):
        yield from map(float, _FIGURE.findall(item[:200]))
    elif isinstance(item, list):
        for part in item:
            yield from _numbers(part)
    elif isinstance(item, int | float) and not isinstance(item, bool):
        yield float(item)


def _moved_place(item: JsonValue, move: Move) -> JsonValue:
    if isinstance(item, list) and any(isinstance(part, list | dict) for part in item):
        return [_moved_place(part, move) for part in item]
    numbers = list(_numbers(item))
    if len(numbers) not in (2, 4) or not all(map(math.isfinite, numbers)):
        return None
    found: list[JsonValue] = [
        number for at in range(0, len(numbers), 2) for number in move(numbers[at], numbers[at + 1])
    ]
    return str(found) if isinstance(item, str) else found


def _moved_corners(value: dict[str, JsonValue], kinds: Sequence[Sequence[str]], move: Move) -> dict[str, JsonValue]:
    """Return the corners of a thing that are values of its own: x1, y1, x2, y2."""
    by_name = {plain_key(key): key for key in value}
    for corners in kinds:
        found = [value[by_name[corner]] for corner in corners if corner in by_name]
        numbers = [float(each) for each in found if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(numbers) == len(corners) and all(map(math.isfinite, numbers)):
            return {
                by_name[corner]: move(number, number)[0 if corner in _ACROSS else 1]
                for corner, number in zip(corners, numbers, strict=True)
            }
    return {}
