"""One text out of what was said of several parts of a picture: lines and rows once, data put together.

Knows lines, tables, code and JSON. Does not know where a part lies: what an earlier part has said is taken for the same thing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qwen_vl_app.answers.code import CodeBlock, code_blocks, parts_of
from qwen_vl_app.answers.json_blocks import json_blocks
from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Reason

_TEXT_FENCES = frozenset({"", "text", "txt", "plaintext", "markdown", "md"})
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HTML_TABLE = re.compile(r"<table\b.*?(?:</table\s*>|\Z)", re.I | re.S)
_RULE_CELL = re.compile(r"\s*:?-+:?\s*\Z")
_SHOWN = 40
"""Characters of a value that a note shows; `_NAMED` values are named."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class JoinedAnswer:
    """The text, and what has to be told about how it came about."""

    text: str
    notes: tuple[Reason, ...] = ()


def joined_answers(texts: Sequence[str], *, is_bare: bool = False) -> JoinedAnswer:
    """Return what was said of the parts, in their order, as one text.

    A line is left out where an earlier part has said it as often; what one part says twice, stands twice. JSON becomes one
    value: objects get the first value that somebody knows, lists get the items of all. It stands in a fence, or with
    `is_bare` alone.
    """
    texts = [text for text in texts if text.strip()]
    repairs: Counter[str] = Counter()
    read = [_read(text, repairs) for text in texts]
    if not any(piece.values for piece in read):
        return _as_lines(texts)
    # An empty list says that a part shows nothing; it makes no list of the others' objects.
    telling = [[value for value in piece.values if value] for piece in read]
    values = [found for found in telling if found] or [[[]]]
    said = _as_lines([piece.around for piece in read])
    differing: dict[str, list[str]] = {}
    left_out = 0
    data: JsonValue
    if all(len(found) == 1 and isinstance(found[0], dict) for found in values):
        data = values[0][0]
        for found in values[1:]:
            data = _merged(data, found[0], "", differing)
    else:
        items = [
            [item for value in found for item in (value if isinstance(value, list) else [value])] for found in values
        ]
        data, left_out = _united(items)
    notes = [Reason(f"answers.{code}", count=count) for code, count in sorted(repairs.items()) if count]
    if differing:
        named = [f"{name} ({', '.join(shown)})" for name, shown in differing.items()]
        more = ", …" if len(named) > _NAMED else ""
        notes.append(Reason("tiles.values_differ", fields=", ".join(named[:_NAMED]) + more))
    if left_out and not said.notes:
        notes.append(Reason("tiles.lines_left_out", count=left_out))
    written = _written(data)
    text = "\n\n".join(filter(None, (said.text, written if is_bare else f"```json\n{written}\n```")))
    return JoinedAnswer(text, (*said.notes, *notes))


# 1. Data


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one part said: its values, and the text around them."""

    values: list[JsonValue]
    around: str


def _read(text: str, repairs: Counter[str]) -> _Piece:
    """Return the data of a text that is data, in a fence or from its first letter; a list within a sentence is words."""
    here: Counter[str] = Counter()
    found = json_blocks(text, code_blocks(text), here)
    begins = len(text) - len(text.lstrip())
    if not found or not (_FENCE.match(text, found[0].start) or found[0].start == begins):
        return _Piece([], text)
    repairs.update(here)
    around, position = "", 0
    for block in found:
        around += text[position : block.start]
        position = max(position, block.end)
    return _Piece([block.value for block in found], around + text[position:])


def _merged(first: JsonValue, other: JsonValue, path: str, differing: dict[str, list[str]]) -> JsonValue:
    """Return the first value that says something; `differing` gets the paths where the other says something else."""
    if other in (None, "", [], {}):
        return first
    if first in (None, "", [], {}):
        return other
    if isinstance(first, dict) and isinstance(other, dict):
        names = dict.fromkeys((*first, *other))
        return {
            name: _merged(first.get(name), other.get(name), f"{path}.{name}" if path else name, differing)
            for name in names
        }
    if isinstance(first, list) and isinstance(other, list) and _are_items([*first, *other]):
        return _united([first, other])[0]
    if _known(first) != _known(other):
        shown = differing.setdefault(path, [_shown(first)])
        if _shown(other) not in shown:
            shown.append(_shown(other))
    return first


def _are_items(values: Sequence[JsonValue]) -> bool:
    """Tell a list of things from one value that happens to be a list, such as a size or a date in numbers."""
    return all(isinstance(value, str | dict) for value in values)


def _united(lists: Sequence[Sequence[JsonValue]]) -> tuple[list[JsonValue], int]:
    """Return the items of all lists, and how many an earlier list has as often, which are left out."""
    said: Counter[str] = Counter()
    items: list[JsonValue] = []
    for values in lists:
        here: Counter[str] = Counter()
        for value in values:
            known = _known(value)
            here[known] += 1
            if here[known] > said[known]:
                items.append(value)
        said |= here
    return items, sum(len(values) for values in lists) - len(items)


def _known(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return " ".join(text.split()).casefold()


def _shown(value: JsonValue) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _written(data: JsonValue) -> str:
    if isinstance(data, list):
        lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in data)
        text = f"[\n{lines}\n]" if lines else "[]"
    else:
        text = json.dumps(data, ensure_ascii=False, indent=2)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, written as an escape
        return json.dumps(data)
    return text


# 2. Lines


@dataclass(frozen=True, slots=True)
class _Segment:
    """Some lines that belong together, between what opens and closes them; with `is_whole` they stand or go as one."""

    lines: tuple[str, ...]
    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    is_whole: bool = False
    is_table: bool = False


@dataclass(slots=True)
class _Said:
    """The lines so far. `before` is how often the parts before this one say each, `here` how often this one does so far."""

    lines: list[str] = field(default_factory=list)
    before: Counter[str] = field(default_factory=Counter)
    here: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    table: tuple[str, ...] = ()
    """The head of the table that the last line belongs to."""
    tables: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, segment: _Segment) -> None:
        units = ["\n".join(segment.lines)] if segment.is_whole else segment.lines
        kept = [unit for unit in units if unit.strip() and self._is_new(unit)]
        head = tuple(map(_known, segment.head)) if segment.is_table else ()
        is_first = segment.is_table and head not in self.tables
        if not kept and not is_first:
            return
        if not head or head != self.table:
            # A line right behind a row is one more row.
            self.lines += [""] if self.table or (head and self.lines and "|" in self.lines[-1]) else []
            self.lines += segment.head
        self.lines += [line.rstrip() for line in kept] + list(segment.tail)
        self.table = head
        self.tables.add(head)

    def _is_new(self, unit: str) -> bool:
        known = _known(unit)
        self.here[known] += 1
        is_new = self.here[known] > self.before[known]
        self.left_out += not is_new
        return is_new


def _as_lines(texts: Sequence[str]) -> JoinedAnswer:
    said = _Said()
    for text in texts:
        for segment in _segments(text):
            said.add(segment)
        said.before |= said.here
        said.here = Counter()
    notes = (Reason("tiles.lines_left_out", count=said.left_out),) if said.left_out else ()
    return JoinedAnswer("\n".join(said.lines), notes)


def _segments(text: str) -> Iterator[_Segment]:
    for part in parts_of(text):
        if isinstance(part, CodeBlock):
            yield from _of_code(part, text)
        else:
            yield from _of_prose(part)


def _of_code(block: CodeBlock, text: str) -> Iterator[_Segment]:
    opener = _FENCE.match(text, block.start)
    if opener is None:  # a page without a fence
        yield _Segment((block.source.rstrip(),), is_whole=True)
        return
    fences = (f"{opener[1]}{block.language}",), (opener[1],)
    if block.language in ("markdown", "md"):
        yield from _of_prose(block.source)
    elif block.language in _TEXT_FENCES:
        yield _Segment(tuple(block.source.splitlines()), *fences)
    else:
        yield _Segment((block.source.rstrip(),), *fences, is_whole=True)


def _of_prose(prose: str) -> Iterator[_Segment]:
    position = 0
    for table in _HTML_TABLE.finditer(prose):
        yield from _of_lines(prose[position : table.start()].splitlines())
        yield _Segment((table[0],), is_whole=True)
        position = table.end()
    yield from _of_lines(prose[position:].splitlines())


def _of_lines(lines: Sequence[str]) -> Iterator[_Segment]:
    at = 0
    while at < len(lines):
        if "|" in lines[at] and at + 1 < len(lines) and _is_rule(lines[at + 1]):
            end = at + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield _Segment(
                tuple(lines[at + 2 : end]), tuple(line.rstrip() for line in lines[at : at + 2]), is_table=True
            )
            at = end
        else:
            yield _Segment((lines[at],))
            at += 1


def _is_rule(line: str) -> bool:
    return "|" in line and all(map(_RULE_CELL.match, line.strip().strip("|").split("|")))
