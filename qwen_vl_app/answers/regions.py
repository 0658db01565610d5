"""Boxes and points in an answer, as fractions of the upright original.

Knows the forms in which both families write them and the space that their numbers live in. Does not know pictures: only the
sizes at which the model saw them. A value that cannot be right is counted, left out and listed, never drawn.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qwen_vl_app.answers.json_blocks import JsonBlock
from qwen_vl_app.answers.named_boxes import (
    CORNERS,
    TINY_PX,
    NamedBox,
    boxes_of_list,
    boxes_of_place_keys,
    boxes_under_names,
    label_before,
    name_of_things,
    reach,
)
from qwen_vl_app.answers.pictures import PictureNames, as_picture_hint, picture_key
from qwen_vl_app.chat import Box, CoordinateSpace, JsonValue, LeftOut, Region, Size

MAX_REGIONS = 5_000
MAX_LISTED = 100
_MAX_WRITTEN = 120
BOX_KEYS = frozenset((
    "bbox2d", "bbox", "box2d", "box", "boundingbox", "boundingbox2d", "bboxes", "bboxes2d", "boxes", "boundingboxes",
    "bboxcoordinates", "boxcoordinates", "boundingboxcoordinates", "bboxxyxy", "bndbox",
    "边界框", "检测框", "目标框", "矩形框",
))  # fmt: skip
POINT_KEYS = frozenset(["point2d", "point", "points2d", "points", "keypoint"])
"""As `plain_key` writes them."""
LABEL_KEYS = ("label", "text_content", "text", "name", "category", "class", "ref", "description")
LISTS_OF_LABELS = ("labels", "names", "classes", "categories", "label")
_MAX_LABEL = 500
_FIGURE = r"[-+]?\d{1,9}(?:\.\d{1,9})?"
_FIGURES = re.compile(_FIGURE)
_POINTS_TAG = re.compile(r"<points?\s([^<>]*)>([^<]{0,500})", re.I)
_ATTRIBUTE = re.compile(r"\b(x|y)(\d{0,3})\s*=\s*[\"']?\s*(" + _FIGURE + r")")
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]{0,500})\"|'([^']{0,500})')", re.I)
_PAIR = rf"\(\s{{0,4}}({_FIGURE})\s{{0,4}},\s{{0,4}}({_FIGURE})\s{{0,4}}\)"
_MARKED_BOX = re.compile(
    rf"(?:<\|object_ref_start\|>([^<]{{0,500}})<\|object_ref_end\|>\s{{0,4}})?<\|box_start\|>\s{{0,4}}{_PAIR}(?:\s{{0,4}},\s{{0,4}}{_PAIR})?\s{{0,4}}<\|box_end\|>"
)
# The markers are special tokens and vanish when an answer is decoded: the label then stands right before the brackets.
_BARE_BOX = re.compile(rf"(?<=\w){_PAIR},{_PAIR}(?!\s?,?\s?\()")
_DATA_BBOX = re.compile(
    r"<([A-Za-z][A-Za-z0-9]{0,20})\s[^<>]{0,1000}?\bdata-bbox\s*=\s*[\"']([^\"'<>]{0,100})[\"'][^<>]*>([^<]{0,500})",
    re.I,
)
_COMMENT_BOX = re.compile(r"<!--\s{0,4}([A-Za-z ]{1,40}?)\s{0,4}\(((?:[^()<>]){0,100})\)\s{0,4}-->")


@dataclass(frozen=True, slots=True)
class _Located:
    """Numbers as the model wrote them: two of a point or four of a box."""

    numbers: tuple[float, ...]
    label: str
    picture: int | None = None
    problem: str = ""
    """The code of why it cannot be a place; then `written` is what stands there."""
    written: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """What an answer locates: regions to draw, and what cannot be right."""

    regions: tuple[Region, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def find_regions(
    text: str,
    values: Sequence[JsonBlock],
    *,
    space: CoordinateSpace,
    seen: Sequence[Size],
    repairs: Counter[str],
    is_asked_for: bool = False,
) -> Places:
    """Return every box and point that can be drawn. `seen` are the sizes that the model saw, in the question's order.

    `is_asked_for` tells that the question asked for places, so that four numbers without a box's key may be one.
    """
    if not seen:
        return Places()
    names = PictureNames(text, values, len(seen))
    within = reach(space, seen) if is_asked_for else None
    located = [*_from_json(values, names, text, within), *_from_marks(text, names)]
    if len(located) > MAX_REGIONS:
        repairs["boxes_too_many"] += len(located) - MAX_REGIONS
        located = located[:MAX_REGIONS]
    regions: list[Region] = []
    left_out: list[LeftOut] = []
    known: set[tuple[Box, str, int]] = set()
    for item in located:
        index = 0 if item.picture is None else item.picture
        own: Counter[str] = Counter()
        box = None
        if item.problem:
            own[item.problem] = 1
        elif not 0 <= index < len(seen):
            own["boxes_unknown_picture"] = 1
        else:
            box = to_fractions(item.numbers, space=space, seen=seen[index], repairs=own)
        if item.picture is None and len(seen) > 1:
            repairs["boxes_picture_guessed"] += 1
        repairs.update(own)
        if box is None:
            left_out.append(LeftOut(item.written or _numbers(item.numbers), next(iter(own), ""), item.label))
            continue
        if item.picture is None and len(seen) > 1:
            own["boxes_picture_guessed"] = 1
        doubts = [*own, *_doubts(box, item.label, index, seen=seen[index], known=known)]
        regions.append(Region(box, item.label, index, tuple(doubts)))
    return Places(tuple(regions), tuple(left_out[:MAX_LISTED]))


def _doubts(box: Box, label: str, index: int, *, seen: Size, known: set[tuple[Box, str, int]]) -> Iterator[str]:
    """Yield why a box that can be drawn should be looked at twice; `known` grows with it."""
    wide, high = (box.x2 - box.x1) * seen.width, (box.y2 - box.y1) * seen.height
    if (wide, high) != (0, 0) and min(wide, high) < TINY_PX:
        yield "boxes_tiny"
    if (box, label, index) in known:
        yield "boxes_repeated"
    known.add((box, label, index))


def _numbers(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{number:.10g}' for number in numbers)}]"


def to_fractions(numbers: Sequence[float], *, space: CoordinateSpace, seen: Size, repairs: Counter[str]) -> Box | None:
    """Return two or four numbers of the model's space as a box in fractions of the original, or None where none can be.

    x and y scale separately. Mended and counted: corners in the wrong order, edges outside the picture.
    """
    width, height = (1000, 1000) if space is CoordinateSpace.THOUSANDTHS else (seen.width, seen.height)
    if len(numbers) not in (2, 4) or width <= 0 or height <= 0:
        repairs["boxes_wrong_count"] += 1
        return None
    if not all(math.isfinite(number) for number in numbers):
        repairs["boxes_not_numbers"] += 1
        return None
    if any(0 < number < 1 for number in numbers) and all(0 <= number <= 1 for number in numbers):
        repairs["boxes_implausible"] += 1  # fractions in a space of pixels or thousandths: all within one corner pixel
        return None
    x1, y1 = numbers[0] / width, numbers[1] / height
    x2, y2 = (x1, y1) if len(numbers) == 2 else (numbers[2] / width, numbers[3] / height)
    if x1 > x2 or y1 > y2:
        repairs["boxes_swapped"] += 1
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    is_point = len(numbers) == 2
    if not is_point and (x1 == x2 or y1 == y2):
        repairs["boxes_empty"] += 1
        return None
    if x2 < 0 or y2 < 0 or x1 > 1 or y1 > 1:
        repairs["boxes_outside"] += 1
        return None
    box = Box(max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
    if not is_point and (box.x1 >= box.x2 or box.y1 >= box.y2):
        repairs["boxes_outside"] += 1
        return None
    if (box.x1, box.y1, box.x2, box.y2) != (x1, y1, x2, y2):
        repairs["boxes_clamped"] += 1
    return box


def _from_json(values: Sequence[JsonBlock], names: PictureNames, text: str, within: Size | None) -> Iterator[_Located]:
    """Yield what the data locates; with `within`, how far coordinates reach, also boxes that have no key of their own."""
    for number, block in enumerate(values):
        first = _Part(block.value, names.of_block(number))
        waiting = [first]
        if isinstance(block.value, list):
            if within is not None:
                label = label_before(text, block.start)
                bare = boxes_of_list(block.value, label=label, within=within)
                if bare is not None:
                    yield from _as_located(bare, first.picture)
                    continue
            if names.is_list_of_pictures(block.value) and len(values) == 1:
                waiting = [_Part(item, index) for index, item in reversed(list(enumerate(block.value)))]
        while waiting:
            part = waiting.pop()
            if isinstance(part.value, list):
                waiting.extend(replace(part, value=item) for item in reversed(part.value) if _is_container(item))
            elif isinstance(value := part.value, dict):
                hint = as_picture_hint(value)
                if hint is not None:
                    part = replace(part, picture=names.resolve(hint))
                own = list(_of_object(value, part))
                named = None if own or within is None else _named(part, value, within)
                if named is not None:
                    yield from _as_located(named, part.picture)
                    continue
                yield from own
                waiting.extend(_children(value, part, names))


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of data, the picture that it speaks about, and the name that it stands under."""

    value: JsonValue
    picture: int | None
    label: str = ""


def _named(part: _Part, value: dict[str, JsonValue], within: Size) -> list[NamedBox] | None:
    if any(picture_key(key) is not None for key in value):
        return None  # what stands under pictures is walked with them
    label = label_of(value) or part.label
    return boxes_under_names(value, label=label, within=within) or boxes_of_place_keys(
        value, label=label, within=within
    )


def _as_located(boxes: Sequence[NamedBox], picture: int | None) -> Iterator[_Located]:
    return (_Located(box.numbers, _short(box.label), picture) for box in boxes)


def _is_container(item: JsonValue) -> bool:
    return isinstance(item, list | dict)


def _children(value: dict[str, JsonValue], part: _Part, names: PictureNames) -> list[_Part]:
    children: list[_Part] = []
    is_by_name = all(_is_container(item) for item in value.values())
    for key, item in reversed(list(value.items())):
        place = plain_key(key)
        if _is_container(item) and not (
            place in BOX_KEYS | POINT_KEYS and _groups(item, sides=4 if place in BOX_KEYS else 2) is not None
        ):
            hint = picture_key(key)
            picture = part.picture if hint is None else names.resolve(hint)
            # Where all a key has is things, it is their name.
            if place in BOX_KEYS | POINT_KEYS:
                label = label_of(value)
            else:
                label = name_of_things(key) if is_by_name and hint is None else ""
            children.append(_Part(item, picture, label or part.label))
    return children


def plain_key(name: str) -> str:
    """Return a key without what languages write within it: `Bounding Box`, `bounding-box` and `boundingBox` are one."""
    return re.sub(r"[\s_-]", "", name[:60]).casefold()


def _of_object(value: dict[str, JsonValue], part: _Part) -> Iterator[_Located]:
    own = label_of(value) or _short(part.label)
    for key, item in value.items():
        name = plain_key(key)
        sides = 4 if name in BOX_KEYS else 2 if name in POINT_KEYS else 0
        groups = _groups(item, sides=sides) if sides else None
        each_label = _labels(value, len(groups or ()))
        for at, group in enumerate(groups or ()):
            label = each_label[at] if each_label else own
            numbers = tuple(_number(each) for each in group)
            known = tuple(number for number in numbers if number is not None)
            problem = (
                "boxes_wrong_count" if len(numbers) != sides else "boxes_not_numbers" if len(known) != sides else ""
            )
            if problem:
                written = json.dumps(group, ensure_ascii=False)[:_MAX_WRITTEN]
                yield _Located((), label, part.picture, problem=problem, written=written)
            else:
                yield _Located(known, label, part.picture)


def _groups(item: JsonValue, *, sides: int) -> list[list[JsonValue]] | None:
    """Return one list of numbers per box or point, or None where the value holds objects to be walked instead."""
    if isinstance(item, str):
        return [list(_FIGURES.findall(item[:200]))]
    if isinstance(item, dict):
        lower = {key.lower(): part for key, part in item.items()}
        for corners in CORNERS if sides == 4 else (("x", "y"),):
            if all(corner in lower for corner in corners):
                return [[lower[corner] for corner in corners]]
        return None
    if not isinstance(item, list) or any(isinstance(part, dict) for part in item):
        return None
    if item and all(isinstance(part, list) for part in item):
        inner = [part for part in item if isinstance(part, list)]
        if sides == 4 and len(inner) == 2 and all(len(part) == 2 for part in inner):
            return [inner[0] + inner[1]]
        return None if any(isinstance(part, list | dict) for one in inner for part in one) else inner
    return [item]


def _number(value: JsonValue) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        return float(value) if re.fullmatch(_FIGURE, value) else None
    return float(value) if isinstance(value, int | float) else None


def label_of(value: dict[str, JsonValue]) -> str:
    """Return what a thing is called in the data about it; empty where it has no name."""
    for key in LABEL_KEYS:
        found = value.get(key)
        if isinstance(found, str) and found.strip():
            return _short(found)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return str(found)
    return ""


def _labels(value: dict[str, JsonValue], count: int) -> list[str]:
    """Return the names of several boxes that stand in a list beside theirs; none where there is no such list."""
    for key in LISTS_OF_LABELS:
        found = value.get(key)
        if isinstance(found, list) and len(found) == count and all(isinstance(name, str) for name in found):
            return [_short(str(name)) for name in found]
    return []


def _short(text: str) -> str:
    return " ".join(html.unescape(text).split())[:_MAX_LABEL] if "&" in text else " ".join(text.split())[:_MAX_LABEL]


def _from_marks(text: str, names: PictureNames) -> Iterator[_Located]:
    for tag in _POINTS_TAG.finditer(text) if "<point" in text.lower() else ():
        alt = _ALT.search(tag[1])
        label = _short(tag[2]) or (_short(alt[1] or alt[2] or "") if alt else "")
        sides: dict[str, dict[str, float]] = {}
        for axis, number, figure in _ATTRIBUTE.findall(tag[1]):
            sides.setdefault(number, {})[axis] = float(figure)
        for point in sides.values():
            if len(point) == 2:
                yield _Located((point["x"], point["y"]), label, names.before(tag.start()))
            else:
                written = tag[0][:_MAX_WRITTEN]
                yield _Located((), label, names.before(tag.start()), problem="boxes_wrong_count", written=written)
    for mark in _MARKED_BOX.finditer(text) if "<|box_start|>" in text else ():
        figures = tuple(float(figure) for figure in mark.groups()[1:] if figure is not None)
        yield _Located(figures, _short(mark[1] or ""), names.before(mark.start()))
    for mark in _BARE_BOX.finditer(text):
        label = re.split(r"[\n,;，；、)]", text[max(mark.start() - 80, 0) : mark.start()])[-1]
        figures = tuple(float(figure) for figure in mark.groups())
        yield _Located(figures, _short(label), names.before(mark.start()))
    for tag in _DATA_BBOX.finditer(text) if "data-bbox" in text else ():
        figures = tuple(float(figure) for figure in _FIGURES.findall(tag[2]))
        yield _Located(
            figures if len(figures) != 2 else (), _short(tag[3]) or tag[1].lower(), names.before(tag.start())
        )
    for mark in _COMMENT_BOX.finditer(text) if "<!--" in text else ():
        figures = tuple(float(figure) for figure in _FIGURES.findall(mark[2]))
        yield _Located(figures if len(figures) != 2 else (), mark[1].strip(), names.before(mark.start()))
