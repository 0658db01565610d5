"""A round compared with an earlier one: what changed, by how much, and which boxes are new or gone.

Knows rows, numbers in answers and overlapping boxes. Does not know which of two answers is right: a changed reading may
be a changed gauge or a misread one, and a person looks.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple, TypeAlias

from qwen_vl_app.answers import says_something, says_values, values_of
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.source import reading_order
from qwen_vl_app.chat import Answer, Box, JsonValue, Region
from qwen_vl_app.forms.numbers import plain_signs, read_number

SAME_PLACE_IOU = 0.3
"""Two boxes with one label that overlap this much are one thing: photos of two rounds never stand exactly alike."""
_GROUPED = r"(?<![\w.,] )[-+−]?[1-9]\d{0,2}(?:[ '’]\d{3}(?!\d))+(?:[.,]\d+)?"
"""Thousands with gaps: 12 500. Behind a word, a gap may as well part the number of a thing from its value: Pump 3 400 V."""
_NUMBER = re.compile(rf"(?<![\w.])(?:{_GROUPED}|[-+−]?\d+(?:[.,]\d+)*)(?![\w.]*\d)")

_Picture: TypeAlias = tuple[str, int]
"""A file's name and the page."""


class RoundChange(StrEnum):
    """What became of a question about a picture since the earlier round."""

    SAME = "same"
    CHANGED = "changed"
    NEW = "new"
    """The earlier round has no such picture."""
    VANISHED = "vanished"
    """This round has no such picture."""
    NOT_COMPARABLE = "not_comparable"
    """One of the two has no answer."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One value that is different. `delta` and `percent` are given where both are numbers."""

    field: str
    before: str
    after: str
    delta: float | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One line of the report. `key` is what the pictures were matched by, with the `page` where that is a file's name."""

    key: str
    question: str
    change: RoundChange
    before: BatchRow | None = None
    after: BatchRow | None = None
    fields: tuple[FieldChange, ...] = ()
    new_regions: tuple[Region, ...] = ()
    vanished_regions: tuple[Region, ...] = ()
    page: int | None = None
    is_one_of_several: bool = False
    """Other pictures have the same key: the names of the files tell them apart."""


class _Key(NamedTuple):
    """What a question about a picture is known by in both rounds."""

    known_by: str
    page: int | None
    question: str
    again: int = 0
    """Of a question that a run asks twice in the same words."""
    number: int = 0
    """Of several pictures with one tag, counted from 1; 0 where there is one."""


def compare_rounds(rows: Sequence[BatchRow], *, earlier: Sequence[BatchRow], tag: str = "") -> tuple[RoundRow, ...]:
    """Return a line for each question about each picture of either round, in the order people read names.

    Pictures belong together by their path below the folder, or by their file name where that is the only one of its kind
    in both rounds; with a `tag`, by the value of that field in an answer, and several of one value among themselves by
    their names, else in their order. Duplicates stand for what they repeat.
    """
    earlier, rows = tuple(_with_duplicates(earlier)), tuple(_with_duplicates(rows))
    before, after = _by_key(earlier), _by_key(rows)
    if tag:
        known, now = _pictures_by_tag(earlier, tag), _pictures_by_tag(rows, tag)
        before, after = _matched_by_tag(before, after, known=known, now=now)
    else:
        before, after = _matched_by_file_name(before, after)
    before, after = _spread(before, over=after), _spread(after, over=before)
    keys = sorted(before.keys() | after.keys(), key=_order)
    return tuple(_compared(key, before.get(key), after.get(key)) for key in keys)


def _order(key: _Key) -> tuple[object, ...]:
    return reading_order(key.known_by), key.number, key.page or 0, key.question, key.again


def _by_key(rows: Iterable[BatchRow]) -> dict[_Key, BatchRow]:
    found: dict[_Key, BatchRow] = {}
    for row in rows:
        if row.question_index is None and row.outcome is not RowOutcome.FAILED:
            continue
        key = _Key(row.name, row.page, row.question)
        while key in found:
            key = key._replace(again=key.again + 1)
        found[key] = row
    return found


def _with_duplicates(rows: Sequence[BatchRow]) -> Iterator[BatchRow]:
    """Yield the rows, and for a duplicate the rows of the file that it repeats, under its own name."""
    by_name: dict[str, list[BatchRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    for row in rows:
        if row.outcome is not RowOutcome.DUPLICATE:
            yield row
            continue
        for original in by_name.get(row.duplicate_of, ()):
            if original.outcome in (RowOutcome.ANSWERED, RowOutcome.FAILED):
                yield _renamed(original, row.name)


def _renamed(row: BatchRow, name: str) -> BatchRow:
    return BatchRow(**{field: getattr(row, field) for field in row.__slots__} | {"name": name})


def _tags(rows: Iterable[BatchRow], tag: str) -> Iterator[tuple[_Picture, str]]:
    for row in rows:
        if row.answer is None or not row.answer.parsed.has_data:
            continue
        for field, value in flatten(row.answer.parsed.data).items():
            # That none can be seen is nothing that two pictures have in common.
            is_tag = not isinstance(value, bool) and says_something(value)
            if is_tag and field.casefold() == tag.casefold():
                yield (row.name, row.page), str(value).strip()


def _pictures_by_tag(rows: Iterable[BatchRow], tag: str) -> dict[str, list[_Picture]]:
    """Return the pictures that show a tag, in the order in which people read names."""
    pictures: dict[str, list[_Picture]] = {}
    for picture, value in dict(_tags(rows, tag)).items():
        pictures.setdefault(value, []).append(picture)
    return {value: sorted(those, key=_reading_order_of) for value, those in pictures.items()}


def _matched_by_tag(
    before: dict[_Key, BatchRow],
    after: dict[_Key, BatchRow],
    *,
    known: Mapping[str, Sequence[_Picture]],
    now: Mapping[str, Sequence[_Picture]],
) -> tuple[dict[_Key, BatchRow], dict[_Key, BatchRow]]:
    """Give pictures the key of their tag, and of their place among those with the same; the others are left out."""
    places: tuple[dict[_Picture, tuple[str, int]], ...] = ({}, {})
    for tag in dict.fromkeys((*known, *now)):
        pairs = _paired(known.get(tag, ()), now.get(tag, ()))
        for number, pair in enumerate(pairs, 1):
            for place, picture in zip(places, pair, strict=True):
                if picture is not None:
                    place[picture] = tag, number if len(pairs) > 1 else 0

    def rekeyed(rows: dict[_Key, BatchRow], place: Mapping[_Picture, tuple[str, int]]) -> dict[_Key, BatchRow]:
        return {
            key._replace(known_by=place[picture][0], number=place[picture][1], page=None): row
            for key, row in rows.items()
            if (picture := (key.known_by, key.page or 0)) in place
        }

    return rekeyed(before, places[0]), rekeyed(after, places[1])


def _paired(before: Sequence[_Picture], after: Sequence[_Picture]) -> list[tuple[_Picture | None, _Picture | None]]:
    """Return which picture of either round stands beside which: those of one path, of one file name, then in their order."""
    pairs: list[tuple[_Picture | None, _Picture | None]] = []
    old, new = list(before), list(after)
    names: tuple[Callable[[_Picture], object], ...] = (
        lambda picture: picture,
        lambda picture: (_file_name(picture[0]), picture[1]),
        lambda _: None,
    )
    for named in names:
        waiting: dict[object, deque[_Picture]] = {}
        for picture in old:
            waiting.setdefault(named(picture), deque()).append(picture)
        for picture in tuple(new):
            if those := waiting.get(named(picture)):
                pairs.append((those[0], picture))
                old.remove(those.popleft())
                new.remove(picture)
    pairs += [(picture, None) for picture in old] + [(None, picture) for picture in new]
    return sorted(pairs, key=lambda pair: _reading_order_of(pair[1] or pair[0] or ("", 0)))


def _reading_order_of(picture: _Picture) -> tuple[object, ...]:
    return reading_order(picture[0]), picture[1]


def _matched_by_file_name(
    before: dict[_Key, BatchRow], after: dict[_Key, BatchRow]
) -> tuple[dict[_Key, BatchRow], dict[_Key, BatchRow]]:
    """Give pictures that lie in another subfolder by now the key of their file name."""
    paths, paths_now = {key.known_by for key in before}, {key.known_by for key in after}
    once = _unique(paths) & _unique(paths_now)
    moved = {path: _file_name(path) for path in paths ^ paths_now if _file_name(path) in once}

    def rekeyed(rows: dict[_Key, BatchRow]) -> dict[_Key, BatchRow]:
        return {key._replace(known_by=moved.get(key.known_by, key.known_by)): row for key, row in rows.items()}

    return rekeyed(before), rekeyed(after)


def _spread(rows: dict[_Key, BatchRow], *, over: dict[_Key, BatchRow]) -> dict[_Key, BatchRow]:
    """Let a picture that could not be read stand for every question that the other round asked about it."""
    asked: dict[str, list[_Key]] = {}
    for key, row in over.items():
        if row.question_index is not None:
            asked.setdefault(key.known_by, []).append(key)
    beside = {key.known_by for key in rows if key.page}
    spread: dict[_Key, BatchRow] = {}
    for key, row in rows.items():
        # Where a file itself could not be read, none of its pages was asked about.
        those = asked.get(key.known_by, ()) if row.question_index is None else ()
        is_all = key.page == 0 and key.known_by not in beside
        meant = [each for each in those if is_all or each.page == key.page]
        spread |= dict.fromkeys(meant or [key], row)
    return spread


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _unique(paths: set[str]) -> set[str]:
    names = [_file_name(path) for path in paths]
    return {name for name in names if names.count(name) == 1}


def _compared(key: _Key, before: BatchRow | None, after: BatchRow | None) -> RoundRow:
    row = RoundRow(
        key.known_by, key.question, RoundChange.SAME, before, after, page=key.page, is_one_of_several=key.number > 0
    )
    if before is None or after is None:
        return replace(row, change=RoundChange.NEW if before is None else RoundChange.VANISHED)
    if before.answer is None or after.answer is None or RowOutcome.FAILED in (before.outcome, after.outcome):
        return replace(row, change=RoundChange.NOT_COMPARABLE)
    new, vanished = _unmatched(after.answer.parsed.regions, before.answer.parsed.regions)
    fields = tuple(_differences(_fields_of(before), _fields_of(after)))
    is_changed = bool(new or vanished or fields)
    return replace(
        row,
        change=RoundChange.CHANGED if is_changed else RoundChange.SAME,
        fields=fields,
        new_regions=new,
        vanished_regions=vanished,
    )


def _fields_of(row: BatchRow) -> Mapping[str, JsonValue]:
    """Return what is compared of an answer: fields of its JSON, counts of its labels, or the text itself.

    Coordinates are not: boxes are matched by place, and two photos never agree to the pixel.
    """
    answer = row.answer
    if answer is None:
        return {}
    if answer.parsed.regions:
        counts: dict[str, JsonValue] = {}
        for region in answer.parsed.regions:
            so_far = counts.get(region.label, 0)
            counts[region.label] = (so_far if isinstance(so_far, int) else 0) + 1
        return {**counts, **_values_of(answer)} if says_values(answer.parsed) else counts
    if answer.parsed.has_data:
        return _values_of(answer)
    if answer.parsed.tables:
        return {
            f"{number}.{line}.{column}": cell
            for number, table in enumerate(answer.parsed.tables, 1)
            for line, cells in enumerate(table.rows, 1)
            for column, cell in zip(table.columns, cells, strict=True)
        }
    text = " ".join(answer.text.split())
    numbers = _NUMBER.findall(text)
    # Words around numbers that moved are told apart from other words: "reads 4.2 bar" and "reads 4.5 bar" is one number.
    return {"": text} | {f"#{at}": number for at, number in enumerate(numbers, 1)}


def _values_of(answer: Answer) -> Mapping[str, JsonValue]:
    try:
        return flatten(values_of(answer.parsed))
    except RecursionError:  # nested a thousand deep: compared as words
        return {"": " ".join(answer.text.split())}


def flatten(data: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    """Return a JSON value as fields: `pumps.1.pressure` for what lies deep, `""` for a bare value."""
    if isinstance(data, dict):
        pairs = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list):
        pairs = [(str(at), value) for at, value in enumerate(data, 1)]
    else:
        return {prefix: data}
    fields: dict[str, JsonValue] = {}
    for key, value in pairs:
        fields |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return fields


def _differences(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> Iterator[FieldChange]:
    is_text = "" in before and "" in after and len(before) == len(after)
    if is_text and len(before) > 1 and _NUMBER.sub("#", str(before[""])) == _NUMBER.sub("#", str(after[""])):
        before = {field: value for field, value in before.items() if field}
        after = {field: value for field, value in after.items() if field}
    elif "" in before or "" in after:
        before = {"": before[""]} if "" in before else before
        after = {"": after[""]} if "" in after else after
    for field in [*before, *(field for field in after if field not in before)]:
        old, new = before.get(field), after.get(field)
        if _shown(old) == _shown(new):
            continue
        first, second = number_in(old), number_in(new)
        if first is not None and first == second and _form(old) == _form(new):
            continue  # 4.50 bar and 4.5 bar are one reading; 4.5 psi is another, and so is 0045
        delta = None if first is None or second is None else round(second - first, 9)
        percent = None if delta is None or not first else 100.0 * delta / abs(first)
        yield FieldChange(field, _shown(old), _shown(new), delta, percent)


def number_in(value: JsonValue) -> float | None:
    """Return the number of a value such as 4.5, "4,5" or "−4.5 bar"; None where there is none, more than one, one that
    can be read two ways (1,234), or only a limit (< 0.05).
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    value = _shown(value)
    found = _NUMBER.findall(value)
    if len(found) != 1:
        return None
    reading = read_number(value) or read_number(found[0])
    return None if reading is None or reading.is_ambiguous or reading.bound else float(reading.value)


def _form(value: JsonValue) -> str:
    """Return a value with its number left out, but for leading zeros: those belong to serial numbers."""
    plain = plain_signs(_shown(value))
    return _NUMBER.sub(lambda found: re.sub(r"([-+]?0*)\d.*", r"\1#", found[0]), plain)


def _shown(value: JsonValue) -> str:
    return "" if value is None else " ".join(str(value).split())


def _unmatched(after: Sequence[Region], before: Sequence[Region]) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Return the regions without a partner, of the later and of the earlier round; the best overlaps pair first."""
    pairs = sorted(
        (
            (_overlap(new, old), at, other)
            for at, new in enumerate(after)
            for other, old in enumerate(before)
            if new.label.casefold() == old.label.casefold()
        ),
        reverse=True,
    )
    taken: set[int] = set()
    partnered: set[int] = set()
    for overlap, at, other in pairs:
        if overlap >= SAME_PLACE_IOU and at not in taken and other not in partnered:
            taken.add(at)
            partnered.add(other)
    return (
        tuple(region for at, region in enumerate(after) if at not in taken),
        tuple(region for at, region in enumerate(before) if at not in partnered),
    )


def _overlap(first: Region, second: Region) -> float:
    """Return intersection over union; for two points, 1 where they lie within a twentieth of the picture."""
    a, b = first.box, second.box
    if first.is_point and second.is_point:
        return float(abs(a.x1 - b.x1) <= 0.05 and abs(a.y1 - b.y1) <= 0.05)
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
