"""How an answer is marked: counts of right and asked, by skill and language.

It compares what was read out of an answer (text, JSON, boxes) with the picture's truth. It knows no model and
no tokens, and does not parse answers itself: that is the app's work and is marked with the rest.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from scripts.demo_model.drawing import Box, Picture, Thing
from scripts.demo_model.later_phrases import UNABLE
from scripts.demo_model.phrases import CANNOT_TELL, KINDS, NO_TEXT, NOT_THERE, Language
from scripts.demo_model.questions import Exchange

BoxF = tuple[float, float, float, float]


@dataclass(frozen=True)
class Reply:
    """An answer after parsing. Boxes of `regions` are fractions 0..1 of the picture: left, top, right, bottom."""

    text: str
    data: object = None
    regions: tuple[tuple[str, BoxF], ...] = ()


@dataclass
class Marks:
    """Right answers and questions asked, by name of the score."""

    right: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    asked: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, right: float, asked: float = 1.0) -> None:
        """Count `right` of `asked` under a name."""
        self.right[name] += right
        self.asked[name] += asked

    def take(self, other: Marks) -> None:
        """Count another examiner's marks as well."""
        for name, asked in other.asked.items():
            self.add(name, other.right[name], asked)

    def scores(self) -> dict[str, float]:
        """Return the fraction right for every name, sorted by name."""
        return {name: self.right[name] / n for name, n in sorted(self.asked.items()) if n}


def overlap(a: BoxF | Box, b: BoxF | Box) -> float:
    """Return intersection over union of two boxes in one space."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _fractions(box: Box, picture: Picture) -> BoxF:
    width, height = picture.image.size
    return box.left / width, box.top / height, box.right / width, box.bottom / height


def is_honest(reply: Reply) -> bool:
    """Say whether a reply claims nothing: a sentence that it cannot tell or that nothing is there, only nulls, an empty list."""
    text = reply.text.strip()
    if isinstance(reply.data, dict):
        return all(value is None for value in reply.data.values())
    if isinstance(reply.data, list):
        return not reply.data
    return any(text in said.values() for said in (CANNOT_TELL, NOT_THERE, NO_TEXT, UNABLE))


def mark_wide(
    marks: Marks, exchange: Exchange, paper_kind: str, picture: Picture, reply: Reply, *, goes_on: bool = False
) -> bool:
    """Count one reply of the wider domain against the exchange's own answer; return whether the whole of it was right."""
    body = exchange.answer.removeprefix("```json").removesuffix("```").strip()
    wanted: Any = json.loads(body) if body[:1] in ("[", "{") else None
    name = f"{paper_kind}_{exchange.skill}"
    if exchange.answer in (NOT_THERE[exchange.language], NO_TEXT[exchange.language]) or (
        isinstance(wanted, list) and not wanted
    ):
        name += "_absent"
    if isinstance(wanted, dict):
        found = reply.data if isinstance(reply.data, dict) else {}
        marks.add("all_json_valid", isinstance(reply.data, dict))
        for label, value in wanted.items():
            right = label in found and found[label] == value
            marks.add("all_json_null" if value is None else "all_json_value", right)
        right = isinstance(reply.data, dict) and found == wanted
        marks.add("all_json_whole", right)
    elif isinstance(wanted, list):
        right = _mark_wide_boxes(marks, name, wanted, picture, reply)
    elif exchange.skill in ("read_all", "table"):
        said, lines = reply.text.strip().split("\n"), exchange.answer.split("\n")
        marks.add(f"{name}_line", sum(a.strip() == b for a, b in zip(said, lines, strict=False)), len(lines))
        right = reply.text.strip() == exchange.answer
    else:
        right = reply.text.strip() == exchange.answer
    marks.add(name, right)
    if picture.is_outside and paper_kind == "outside":
        marks.add("outside_honest", is_honest(reply))
    if goes_on:
        marks.add("all_follow_up", right)
    marks.add("all_answers", right)
    marks.add(f"all_answers_{exchange.language}", right)
    return right


def _mark_wide_boxes(marks: Marks, name: str, wanted: list[dict[str, Any]], picture: Picture, reply: Reply) -> bool:
    width, height = picture.image.size
    free, found, near, close = list(reply.regions), 0, 0, 0
    for entry in wanted:
        left, top, right, bottom = (
            v / s for v, s in zip(entry["bbox_2d"], (width, height, width, height), strict=True)
        )
        label = entry.get("label", entry.get("text_content"))
        best = max(free, key=lambda r: overlap(r[1], (left, top, right, bottom)), default=None)
        if best is not None and overlap(best[1], (left, top, right, bottom)) >= 0.5:
            free.remove(best)
            near += 1
            close += overlap(best[1], (left, top, right, bottom)) >= 0.75
            found += best[0] == label
    if wanted:
        for score, right_ones in (("iou50", near), ("iou75", close), ("iou50_label", found)):
            marks.add(f"{name}_{score}", right_ones, len(wanted))
            marks.add(f"all_boxes_{score}", right_ones, len(wanted))
    else:
        marks.add("all_empty_list", not reply.regions and reply.data == [])
    return found == len(wanted) == len(reply.regions)


def mark(marks: Marks, exchange: Exchange, picture: Picture, reply: Reply) -> bool:
    """Count one reply; return whether the whole of it was right."""
    language = exchange.language
    match exchange.skill:
        case "read_all":
            return _mark_reading(marks, picture, reply, language)
        case "json":
            return _mark_json(marks, picture, reply, language)
        case "field":
            right = reply.text.strip() == exchange.answer
            _value(marks, "field_exact", right, 1, language)
            return right
        case "row_box":
            wanted = next(row.box for row in picture.rows if row.label == exchange.subject)
            best = max((overlap(box, _fractions(wanted, picture)) for _, box in reply.regions), default=0.0)
            right = best >= 0.5 and len(reply.regions) == 1
            marks.add("row_box_iou50", right)
            _box(marks, right, 1, language)
            return right
        case "detect_all" | "detect_kind":
            things = tuple(t for t in picture.things if exchange.skill == "detect_all" or t.kind == exchange.subject)
            return _mark_detection(marks, picture, things, reply, language)
        case "count" | "colour" | "yes_no":
            right = reply.text.strip().rstrip(".。") == exchange.answer.rstrip(".。")
            marks.add(exchange.skill, right)
            marks.add(f"{exchange.skill}_{language}", right)
            return right
    raise ValueError(exchange.skill)


def _value(marks: Marks, name: str, right: float, asked: float, language: Language) -> None:
    for full in (f"{name}_{language}", "values_exact", f"values_exact_{language}"):
        marks.add(full, right, asked)


def _box(marks: Marks, right: float, asked: float, language: Language) -> None:
    marks.add("boxes_iou50", right, asked)
    marks.add(f"boxes_iou50_{language}", right, asked)


def _mark_reading(marks: Marks, picture: Picture, reply: Reply, language: Language) -> bool:
    lines = reply.text.strip().split("\n")
    right = sum(line.strip() == f"{row.label} {row.value}" for line, row in zip(lines, picture.rows, strict=False))
    _value(marks, "read_value_exact", right, len(picture.rows), language)
    whole = right == len(picture.rows) == len(lines)
    marks.add("read_whole", whole)
    return whole


def _mark_json(marks: Marks, picture: Picture, reply: Reply, language: Language) -> bool:
    found = reply.data if isinstance(reply.data, dict) else {}
    marks.add("json_valid", isinstance(reply.data, dict))
    right = sum(found.get(row.label) == row.value for row in picture.rows)
    marks.add("json_value_exact", right, len(picture.rows))
    _value(marks, "json_value_exact", right, len(picture.rows), language)
    whole = found == {row.label: row.value for row in picture.rows}
    marks.add("json_whole", whole)
    return whole


def _mark_detection(
    marks: Marks, picture: Picture, things: tuple[Thing, ...], reply: Reply, language: Language
) -> bool:
    free = list(reply.regions)
    found50 = found75 = 0
    for thing in things:
        label, wanted = KINDS[thing.kind][language][0], _fractions(thing.box, picture)
        same = [r for r in free if r[0] == label]
        best = max(same, key=lambda r: overlap(r[1], wanted), default=None)
        if best is not None and overlap(best[1], wanted) >= 0.5:
            free.remove(best)
            found50 += 1
            found75 += overlap(best[1], wanted) >= 0.75
    marks.add("detect_recall_iou50", found50, len(things))
    marks.add("detect_recall_iou75", found75, len(things))
    marks.add("detect_precision", found50, len(reply.regions))
    _box(marks, found50, len(things), language)
    return found50 == len(things) == len(reply.regions)
