"""The lines of several texts as those of one: what an earlier one has said stands once.

Knows lines, tables and code. Does not know data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qwen_vl_app.answers.code import CodeBlock, parts_of
from qwen_vl_app.errors import Reason

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
"""What opens a block of code."""
_TEXT_FENCES = frozenset({"", "text", "txt", "plaintext", "markdown", "md"})
_HTML_TABLE = re.compile(r"<table\b.*?(?:</table\s*>|\Z)", re.I | re.S)
_RULE_CELL = re.compile(r"\s*:?-+:?\s*\Z")


@dataclass(frozen=True, slots=True)
class JoinedAnswer:
    """The text, and what has to be told about how it came about."""

    text: str
    notes: tuple[Reason, ...] = ()
    left_out: int = 0
    """Lines and items that two parts say alike, and which stand once."""


def known_words(text: str) -> str:
    """Return a text as it is compared: its words, in small letters."""
    return " ".join(text.split()).casefold()


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
        head = tuple(map(known_words, segment.head)) if segment.is_table else ()
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
        known = known_words(unit)
        self.here[known] += 1
        is_new = self.here[known] > self.before[known]
        self.left_out += not is_new
        return is_new


def joined_lines(texts: Sequence[str]) -> JoinedAnswer:
    """Return the lines of several texts, in their order; one that an earlier text has as often is left out, and counted."""
    said = _Said()
    for text in texts:
        for segment in _segments(text):
            said.add(segment)
        said.before |= said.here
        said.here = Counter()
    notes = (Reason("tiles.lines_left_out", count=said.left_out),) if said.left_out else ()
    return JoinedAnswer("\n".join(said.lines), notes, said.left_out)


def _segments(text: str) -> Iterator[_Segment]:
    for part in parts_of(text):
        if isinstance(part, CodeBlock):
            yield from _of_code(part, text)
        else:
            yield from _of_prose(part)


def _of_code(block: CodeBlock, text: str) -> Iterator[_Segment]:
    opener = FENCE.match(text, block.start)
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
