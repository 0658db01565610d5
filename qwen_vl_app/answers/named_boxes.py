"""Boxes that stand under the names of things, or under no name at all: `{"person": [x1, y1, x2, y2]}`, `[[x1, y1, x2, y2]]`.

Models answer so as often as in the published form when they are asked in other words. Four numbers may be anything, so they
are taken only where the question asked for places, where everything beside them is a box as well, and where most of them
could be boxes: in the right order and on the picture. Does not know pictures: only how far their coordinates reach.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_vl_app.chat import CoordinateSpace, JsonValue, Size

_NAMES_A_BOX = re.compile(
    r"\bb(?:ounding[ _-]?|nd)box(?:es)?\b|\bbbox|\bx_?1\b|\bx_?min\b|边界框|检测框|目标框|矩形框|方框|框出|框住|框选",
    re.I,
)
_ASKS_FOR_PLACES = re.compile(
    r"\bcoord(?:inate)?s?\b|\blocate\b|\blocali[sz]e\b|\bwhere\b|\boutline\b|\blocations?\b|\bpositions?\b"
    r"|\bgrounding\b|\bdetect(?:ions?)?\b"
    r"|\b(?:draw|mark|show|give|return|output|report|put|find)\b[^.?!\n]{0,60}\bbox(?:es)?\b"
    r"|坐标|标出|圈出|定位|位置|在哪|检测(?!报告|结果|值|单位|日期|项目|机构|仪|人|员)",
    re.I,
)
_DATA_TO_FILL = re.compile(r"\{[^{}]{0,2000}\}|[\"“][^\"“”]{0,200}[\"”]|(?<!\w)'[^']{0,200}'")
"""What a question names or shows as a form to be filled: `{"position": ""}` asks for no place."""
_FIGURE = r"\d{1,6}(?:\.\d{1,6})?"
_WRITTEN = re.compile(
    rf"[\[(]?\s*\(?\s*({_FIGURE})\s*,\s*({_FIGURE})\s*\)?\s*,\s*\(?\s*({_FIGURE})\s*,\s*({_FIGURE})\s*\)?\s*[\])]?"
)
_NAMES_OF_NOTHING = frozenset((
    "objects", "object", "detections", "detection", "results", "result", "items", "item", "annotations", "annotation",
    "predictions", "prediction", "instances", "instance", "regions", "region", "boxes", "box", "bboxes", "bbox", "data",
    "output", "answer", "image", "images", "elements", "entities", "locations", "coordinates",
    "对象", "物体", "目标", "结果", "检测结果", "坐标",
))  # fmt: skip
"""Words over a list of things that name none of them."""
_COUNTS = frozenset({"count", "total", "total_count", "数量", "总数"})
PLACE_KEYS = frozenset((
    "coordinates", "coordinate", "coords", "location", "position", "rect", "rectangle", "region", "area",
    "坐标", "位置", "区域", "框",
))  # fmt: skip
"""Keys that mean a box only where the question asked for one."""
CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_OPPOSITE = (("top_left", "bottom_right"), ("topleft", "bottomright"), ("左上", "右下"), ("左上角", "右下角"))
TINY_PX = 3
"""Seen pixels along a side below which a box is smaller than what the model can tell apart."""
_BEYOND = 1.02
"""Models write edges a little outside."""
_LABEL_BEFORE = re.compile(r"^[\s*\-+•·>#]*(?:\d{1,3}[.)、]\s*)?([^\n:：]{1,60}?)\s*[*_`]*[:：][*_`\s]*$")
_BOXES_BEFORE = re.compile(r"(?:\[[^\[\]]{0,60}\]\s{0,4}(?:[,;，；、]|and|和)?\s{0,4})+$")
_OF_A_PICTURE = re.compile(r"picture|image|photo|图|照片", re.I)


@dataclass(frozen=True, slots=True)
class NamedBox:
    """Four numbers as the model wrote them, and what they are called."""

    label: str
    numbers: tuple[float, float, float, float]


def asks_for_places(question: str) -> bool:
    """Tell whether a question asks where things are, and not only for values that may be called so."""
    asked = question[:20_000]
    if _NAMES_A_BOX.search(asked) is not None:
        return True
    return _ASKS_FOR_PLACES.search(_DATA_TO_FILL.sub(" ", asked)) is not None


def name_of_things(key: str) -> str:
    """Return a key as the name of what stands under it; empty for words such as `objects`."""
    name = " ".join(key.split())
    return "" if name.casefold() in _NAMES_OF_NOTHING else name


def reach(space: CoordinateSpace, seen: Sequence[Size]) -> Size:
    """Return how far coordinates may go on the largest picture of a question."""
    if space is CoordinateSpace.THOUSANDTHS or not seen:
        return Size(1000, 1000)
    return Size(max(size.width for size in seen), max(size.height for size in seen))


def boxes_under_names(value: dict[str, JsonValue], *, label: str, within: Size) -> list[NamedBox] | None:
    """Return the boxes of an object whose every value is one, or a list of them; None where it is anything else.

    An object of corners is one box, called `label`; null and empty lists are things that were not found, and a count may
    stand beside them.
    """
    corners = _corners(value)
    if corners is not None:
        return _likely([NamedBox(label, corners)], within)
    found: list[NamedBox] = []
    for key, item in value.items():
        if item is None or item == [] or (key.strip().casefold() in _COUNTS and isinstance(item, int)):
            continue
        boxes = _one_or_more(item)
        if boxes is None:
            return None
        found += [NamedBox(name_of_things(key) or label, box) for box in boxes]
    return _likely(found, within)


def boxes_of_place_keys(value: dict[str, JsonValue], *, label: str, within: Size) -> list[NamedBox] | None:
    """Return the boxes under keys such as `coordinates`, beside others; None where there are none."""
    found: list[NamedBox] = []
    for key, item in value.items():
        if key.strip().casefold() in PLACE_KEYS and (boxes := _one_or_more(item)) is not None:
            found += [NamedBox(label, box) for box in boxes]
    corners = _corners(value)
    return _likely([*found, *([] if corners is None else [NamedBox(label, corners)])], within)


def boxes_of_list(value: list[JsonValue], *, label: str, within: Size) -> list[NamedBox] | None:
    """Return the boxes of a list of four numbers, of such lists, or of a name and four numbers each; else None."""
    if (single := _box(value) or _box_with_name(value)) is not None:
        named = [single] if isinstance(single, NamedBox) else [NamedBox(label, single)]
        return _likely(named, within)
    found: list[NamedBox] = []
    for item in value:
        box = None if isinstance(item, dict) else _box(item)  # objects have names of their own
        own = None if box is not None else _box_with_name(item)
        if box is None and own is None:
            return None
        found.append(own if own is not None else NamedBox(label, box or (0, 0, 0, 0)))
    return _likely(found, within)


def label_before(text: str, position: int) -> str:
    """Return the name that stands before bare numbers on their line: `- valve: [x1, y1, x2, y2]`."""
    line = text[max(text.rfind("\n", 0, position) + 1, position - 200) : position]
    line = _BOXES_BEFORE.sub("", line)  # one name may have several
    found = _LABEL_BEFORE.match(line)
    name = name_of_things(found[1].strip("*_`\"'“” ")) if found else ""
    return "" if asks_for_places(name) or _OF_A_PICTURE.search(name) else name


def _likely(boxes: list[NamedBox], within: Size) -> list[NamedBox] | None:
    """Return the boxes where most could be some; a few that cannot are told one by one by who draws them."""
    likely = sum(_could_be(box.numbers, within) for box in boxes)
    return boxes if 2 * likely > len(boxes) else None


def _could_be(numbers: Sequence[float], within: Size) -> bool:
    x1, y1, x2, y2 = numbers
    return (
        min(numbers) >= 0
        and x2 - x1 >= TINY_PX
        and y2 - y1 >= TINY_PX
        and x2 <= within.width * _BEYOND
        and y2 <= within.height * _BEYOND
    )


def _one_or_more(item: JsonValue) -> list[tuple[float, float, float, float]] | None:
    if (box := _box(item)) is not None:
        return [box]
    if not isinstance(item, list) or not item:
        return None
    boxes = [box for part in item if (box := _box(part)) is not None]
    return boxes if len(boxes) == len(item) else None


def _box(item: JsonValue) -> tuple[float, float, float, float] | None:
    if isinstance(item, dict):
        return _corners(item)
    if isinstance(item, str):
        found = _WRITTEN.fullmatch(item.strip()[:100])
        return None if found is None else (float(found[1]), float(found[2]), float(found[3]), float(found[4]))
    if not isinstance(item, list) or len(item) != 4:
        return None
    numbers = [float(part) for part in item if isinstance(part, int | float) and not isinstance(part, bool)]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _corners(value: dict[str, JsonValue]) -> tuple[float, float, float, float] | None:
    lower = {key.strip().casefold(): item for key, item in value.items()}
    for names in CORNERS:
        if all(name in lower for name in names):
            return _box([lower[name] for name in names])
    for first, second in _OPPOSITE:
        if first in lower and second in lower:
            return _box([*_point(lower[first]), *_point(lower[second])])
    return None


def _point(item: JsonValue) -> list[JsonValue]:
    if isinstance(item, dict):
        return [item.get("x"), item.get("y")]
    return item if isinstance(item, list) else []


def _box_with_name(item: JsonValue) -> NamedBox | None:
    """Read `["person", x1, y1, x2, y2]` and `["person", [x1, y1, x2, y2]]`."""
    if not isinstance(item, list) or len(item) not in (2, 5):
        return None
    for name, rest in ((item[0], item[1:]), (item[-1], item[:-1])):
        box = _box(rest if len(item) == 5 else rest[0])
        if isinstance(name, str) and _WRITTEN.fullmatch(name) is None and box is not None:
            return NamedBox(" ".join(name.split()), box)
    return None
