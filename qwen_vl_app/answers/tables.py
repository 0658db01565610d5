"""Tables in an answer: Markdown pipes, HTML, and JSON lists of flat objects.

Knows rows and cells as text. Does not know where on a picture a table stood, or how it is shown.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from qwen_vl_app.answers.exports import as_cell
from qwen_vl_app.answers.placed import says_more_than_places, without_places
from qwen_vl_app.chat import JsonValue, ParsedAnswer, Table

MAX_CELLS = 50_000
"""The most cells of one table; a model's answer cannot hold more, a colspan of a million can."""
_MAX_COLUMNS = 500
_MAX_ROWSPAN = 1000
_REST = 1_000_000
"""What a rowspan of 0 stands for: all rows that its head, body or foot still has."""
_RULE_CELL = re.compile(r"\s*:?-+:?\s*\Z")
_PIPE = re.compile(r"(?<!\\)\|")
_TAG = re.compile(
    r"<(/?)([A-Za-z][A-Za-z0-9]{0,30})((?:[^<>\"']|\"[^\"<]{0,2000}\"|'[^'<]{0,2000}')*+)>|<!--.{0,200}?-->", re.S
)
_BREAK = re.compile(r"<br\s*/?>", re.I)
_RAISED_TAG = re.compile(r"<(sup|sub)\b[^<>]{0,200}>\s{0,4}([-+−]?\d{1,9})\s{0,4}</\1\s{0,4}>", re.I)
_OTHER_RAISED_TAG = re.compile(r"</?(?:sup|sub)\b[^<>]{0,200}>", re.I)
_RAISED = {
    "sup": str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻"),
    "sub": str.maketrans("0123456789+-−", "₀₁₂₃₄₅₆₇₈₉₊₋₋"),
}
_STRONG = re.compile(r"(?<![\\*A-Za-z0-9])\*\*(?=[^\s*])([^*]*[^\s*\\])\*\*(?![*A-Za-z0-9])")
"""Two stars are no part of 3*120+1*70, of a footnote's sign, or of a number that is hidden but for its end."""
_CODE_IN_ROW = re.compile(r"`[^`]*`")
_TICKED = re.compile(r"`([^`]+)`")
_ESCAPED = re.compile(r"\\([*_|~$#<>`\[\]])")
_ENTITY = re.compile(r"&#?\w{1,40};")
_SPAN = re.compile(r"\b(colspan|rowspan)\s*=\s*[\"']?\s*(\d{1,6})", re.I)


def markdown_tables(text: str, repairs: Counter[str] | None = None) -> tuple[Table, ...]:
    """Return the pipe tables. Rows too short are filled and rows too long cut, counted under `table_rows_ragged`."""
    counts = repairs if repairs is not None else Counter()
    return tuple(table for table, _, _ in _pipe_tables(text.splitlines(), counts))


def without_tables(text: str) -> str:
    """Return the text without what is read as a table in it; a row that belongs to none stays."""
    lines = text.splitlines(keepends=True)
    for _, first, end in _pipe_tables(lines, Counter()):
        lines[first:end] = [""] * (end - first)
    text = "".join(lines)
    kept, position = "", 0
    for table, start, end in _html_tables(text, Counter()):
        if table is not None or not _TAG.sub("", text[start:end]).strip():
            kept += text[position:start]
            position = end
    return (kept + text[position:]).strip()


def _pipe_tables(lines: list[str], counts: Counter[str]) -> Iterator[tuple[Table, int, int]]:
    """Yield each table with its first line and the one behind its last."""
    at = 0
    while at + 1 < len(lines):
        columns = _cells(lines[at]) if "|" in lines[at] else []
        rule = _cells(lines[at + 1]) if columns and "-" in lines[at + 1] else []
        # A rule without any pipe is the line under a heading, so one column needs the pipes.
        if not rule or len(rule) != len(columns) or not all(_RULE_CELL.match(cell) for cell in rule):
            at += 1
            continue
        if len(columns) == 1 and "|" not in lines[at + 1]:
            at += 1
            continue
        first = at
        at += 2
        rows: list[tuple[str, ...]] = []
        room = MAX_CELLS // len(columns)
        while at < len(lines) and "|" in lines[at] and lines[at].strip():
            cells = _cells(lines[at])
            if len(cells) > len(columns):
                # A pipe within code is a part of its cell, although Markdown says otherwise.
                whole = _cells(_CODE_IN_ROW.sub(lambda code: _PIPE.sub(r"\\|", code[0]), lines[at]))
                cells = whole if len(whole) == len(columns) else cells
            if len(cells) != len(columns):
                counts["table_rows_ragged"] += 1
            if len(rows) < room:
                rows.append(tuple((cells + [""] * len(columns))[: len(columns)]))
            else:
                counts["table_rows_dropped"] += 1
            at += 1
        yield Table(tuple(columns), tuple(rows)), first, at


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix(">").strip()
    cells = _PIPE.split(line)
    if cells and not cells[0].strip() and line.startswith("|"):
        cells = cells[1:]
    if cells and not cells[-1].strip() and len(cells) > 1:
        cells = cells[:-1]
    return [_as_read(cell.strip()) for cell in cells[:_MAX_COLUMNS]]


def _as_read(cell: str) -> str:
    """Return a cell's Markdown as it is read: its bold 12 is a number, and so it stands in a file."""
    if (ticked := _TICKED.fullmatch(cell)) is not None:
        return ticked[1].replace("\\|", "|").strip()  # code means itself, except for the pipe
    plain = _ESCAPED.sub(r"\1", _STRONG.sub(r"\1", _raised(_BREAK.sub(" ", cell))))
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), plain).strip()


def _raised(text: str) -> str:
    """Return text with raised and lowered numbers as signs of their own: 10 with a small 3 is no 103."""
    text = _RAISED_TAG.sub(lambda tag: tag[2].translate(_RAISED[tag[1].lower()]), text)
    return _OTHER_RAISED_TAG.sub("", text)


@dataclass(slots=True)
class _Grid:
    """The table being read. `above` are cells that a rowspan of an earlier row carries into this one, by column, with the
    rows they go on for, this one among them; `held` are those that go on below it.
    """

    rows: list[list[str]] = field(default_factory=list)
    above: dict[int, tuple[int, str]] = field(default_factory=dict)
    held: dict[int, tuple[int, str]] = field(default_factory=dict)
    gaps: set[int] = field(default_factory=set)
    """Rows that ended before a cell that was carried into them."""
    has_head: bool = False
    cells: int = 0
    row: list[str] | None = None
    cell: list[str] | None = None
    spans: dict[str, int] = field(default_factory=dict)

    def begin_row(self) -> None:
        self.end_row()
        self.row = []
        self.above = self.held if self.cells < MAX_CELLS else {}
        self.held = {column: (left - 1, text) for column, (left, text) in self.above.items() if left > 1}

    def begin_cell(self, attributes: str, *, is_head: bool) -> None:
        self.end_cell()
        if self.row is None:
            self.begin_row()
        self.has_head |= is_head and not self.rows
        self.cell = []
        self.spans = {name.lower(): int(count) for name, count in _SPAN.findall(attributes)}

    def end_cell(self) -> None:
        if self.cell is None or self.row is None:
            return
        text = " ".join(html.unescape(_raised("".join(self.cell))).split())
        self.cell = None
        while len(self.row) in self.above and self._put(self.above[len(self.row)][1]):
            pass
        below = (min(self.spans.get("rowspan", 1), _MAX_ROWSPAN) or _REST) - 1
        for _ in range(min(max(self.spans.get("colspan", 1), 1), _MAX_COLUMNS)):
            column = len(self.row)
            if column >= _MAX_COLUMNS or not self._put(text):
                return
            if below:
                self.held[column] = (below, text)

    def _put(self, text: str) -> bool:
        if self.row is None or self.cells >= MAX_CELLS:
            return False
        self.row.append(text)
        self.cells += 1
        return True

    def end_row(self) -> None:
        self.end_cell()
        if self.row is None:
            return
        for column in range(len(self.row), max(self.above, default=-1) + 1):
            if column not in self.above:
                self.gaps.add(len(self.rows))
            self._put(self.above.get(column, (0, ""))[1])
        if self.row:
            self.rows.append(self.row)
        self.row = None

    def end_group(self) -> None:
        """End the head, the body or the foot. A rowspan that counts further goes on: models close a head too early."""
        self.end_row()
        self.held = {column: cell for column, cell in self.held.items() if cell[0] <= _MAX_ROWSPAN}

    def table(self, counts: Counter[str]) -> Table | None:
        self.end_row()
        if not self.rows:
            return None
        width = max(len(row) for row in self.rows)
        room = max(MAX_CELLS // width, 1)
        counts["table_rows_dropped"] += max(len(self.rows) - room, 0)
        counts["table_rows_ragged"] += sum(len(row) != width or at in self.gaps for at, row in enumerate(self.rows))
        rows = [tuple(row + [""] * (width - len(row))) for row in self.rows[:room]]
        if self.has_head or len(rows) > 1:
            return Table(rows[0], tuple(rows[1:]))
        return Table(tuple(str(number) for number in range(1, width + 1)), tuple(rows))


def html_tables(text: str, repairs: Counter[str] | None = None) -> tuple[Table, ...]:
    """Return the HTML tables with spanned cells repeated where they reach; a table within a cell becomes that cell's text.

    The first row names the columns. A table that the answer's end cut off keeps its rows.
    """
    counts = repairs if repairs is not None else Counter()
    return tuple(table for table, _, _ in _html_tables(text, counts) if table is not None)


def _html_tables(text: str, counts: Counter[str]) -> Iterator[tuple[Table | None, int, int]]:
    """Yield each table, None where it has no row, with where it begins and ends."""
    grid: _Grid | None = None
    depth = start = 0
    position = 0
    # The library's own parser has stretches of quadratic time on unclosed comments; this pattern never goes back far.
    for tag in _TAG.finditer(text):
        if grid is not None and grid.cell is not None:
            grid.cell.append(text[position : tag.start()])
        position = tag.end()
        name, is_end = (tag[2] or "").lower(), tag[1] == "/"
        if name == "table":
            depth = max(depth + (-1 if is_end else 1), 0)
            if not is_end and depth == 1:
                grid, start = _Grid(), tag.start()
            elif is_end and depth == 0 and grid is not None:
                yield grid.table(counts), start, position
                grid = None
        elif grid is not None and depth == 1:
            _take_tag(grid, tag[0], name, tag[3] or "", is_end=is_end)
    if grid is not None:
        if grid.cell is not None:
            counts["table_cut"] += 1
        yield grid.table(counts), start, len(text)


def _take_tag(grid: _Grid, written: str, name: str, attributes: str, *, is_end: bool) -> None:
    if name == "tr":
        grid.end_row() if is_end else grid.begin_row()
    elif name in ("thead", "tbody", "tfoot"):
        grid.end_group()
    elif name in ("td", "th"):
        grid.end_cell() if is_end else grid.begin_cell(attributes, is_head=name == "th")
    elif name in ("br", "p", "div", "li") and grid.cell is not None:
        grid.cell.append(" ")
    elif name in ("sup", "sub") and grid.cell is not None:
        grid.cell.append(written)


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """A table of an answer. `data` is the JSON that it was made of; `is_fields` where that is one object, a field a row."""

    table: Table
    data: JsonValue = None
    is_fields: bool = False


def tables_in(parsed: ParsedAnswer) -> tuple[AnswerTable, ...]:
    """Return every table of an answer in the order in which they are shown: written ones, then its data where that is flat.

    Places are no part of one: they have a list of their own.
    """
    found = [AnswerTable(table) for table in parsed.tables]
    if says_values(parsed):
        data = values_of(parsed)
        listed, fields = table_from_json(data), fields_from_json(data)
        if listed is not None:
            found.append(AnswerTable(listed, data))
        elif fields is not None:
            found.append(AnswerTable(fields, data, is_fields=True))
    return tuple(found)


def says_values(parsed: ParsedAnswer) -> bool:
    """Tell whether an answer's data has anything to be read besides places and what is there."""
    return parsed.has_data and (not parsed.regions or says_more_than_places(parsed.data))


def values_of(parsed: ParsedAnswer) -> JsonValue:
    """Return an answer's data without the places that have been drawn: its numbers count in a space of the model's own."""
    return without_places(parsed.data) if parsed.regions else parsed.data


def fields_from_json(data: JsonValue) -> Table | None:
    """Return one flat object as a table of its fields and values; None for anything else."""
    if not isinstance(data, dict) or not data or len(data) > MAX_CELLS // 2:
        return None
    if not all(_is_flat(value) for value in data.values()):
        return None
    return Table(("field", "value"), tuple((name, as_cell(value)) for name, value in data.items()))


def table_from_json(data: JsonValue) -> Table | None:
    """Return a list of flat objects as a table, columns in the order in which they first appear; None for anything else.

    Lists of plain values (a box, say) are flat enough and stand in their cell as JSON.
    """
    if not isinstance(data, list) or not data:
        return None
    columns: dict[str, None] = {}
    for row in data:
        if not isinstance(row, dict) or not all(_is_flat(value) for value in row.values()):
            return None
        columns.update(dict.fromkeys(row))
    if not columns or len(columns) > _MAX_COLUMNS or len(columns) * len(data) > MAX_CELLS:
        return None
    rows = tuple(tuple(as_cell(row.get(name, "")) for name in columns) for row in data if isinstance(row, dict))
    return Table(tuple(columns), rows)


def _is_flat(value: JsonValue) -> bool:
    if isinstance(value, list):
        return not any(isinstance(item, list | dict) for item in value)
    return not isinstance(value, dict)
