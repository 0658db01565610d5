"""Tables and regions as files to take away: CSV for Excel, Markdown, JSON, boxes in pixels of the original.

Knows what a spreadsheet would run as a formula. Does not know where the bytes go.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence

from qwen_vl_app.chat import CoordinateSpace, JsonValue, Region, Size, Table

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_INSIDE = re.compile(r"([;\t|])(?=\s*[=+@＝＋＠]|\s*[-－](?![\d.,]))")
"""Where Excel begins a new cell in countries that separate with a semicolon: a formula may stand behind it."""
_MARKS = re.compile(r"([\\`*_\[\]<>|~])")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d{1,3})?\s?%?\Z")


def to_csv(table: Table) -> bytes:
    """Return UTF-8 with a byte-order mark and CRLF, as Excel reads it right; cells that could run are defused.

    A cell that begins like a formula gets a leading apostrophe, unless it is a plain number such as -12.5.
    """
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, lineterminator="\r\n")
    for row in (table.columns, *table.rows):
        writer.writerow([defused(cell) for cell in row])
    return b"\xef\xbb\xbf" + sheet.getvalue().encode("utf-8", "replace")


def defused(cell: str) -> str:
    """Return the cell so that no spreadsheet takes it for a formula."""
    cell = cell.replace("\0", "")
    if _PLAIN_NUMBER.match(cell):
        return cell
    cell = _INSIDE.sub(r"\1'", cell)
    return f"'{cell}" if may_run(cell) else cell


def may_run(cell: str) -> bool:
    """Return whether a spreadsheet might take the cell for a formula; a plain number such as -12.5 is none."""
    if _PLAIN_NUMBER.match(cell):
        return False
    # Some spreadsheets cut leading spaces off before they look for a formula.
    return cell.startswith(_FORMULA_SIGNS) or cell.lstrip().startswith(_FORMULA_SIGNS)


def to_markdown(table: Table) -> str:
    """Return the table with pipes; signs that Markdown knows mean themselves, and a line break is a space."""
    rule = f"|{' --- |' * len(table.columns)}"
    return "".join(f"{line}\n" for line in (_pipes(table.columns), rule, *map(_pipes, table.rows)))


def _pipes(cells: Sequence[str]) -> str:
    plain = (_MARKS.sub(r"\\\1", " ".join(cell.split())) for cell in cells)
    return f"| {' | '.join(plain)} |"


def to_records(table: Table, data: JsonValue = None) -> list[JsonValue]:
    """Return one object a row. `data` is the list that the table was made of: values that were not changed stay its own.

    Columns of one name get a number, so that none is lost.
    """
    names = unique_names(table.columns)
    kept = data if isinstance(data, list) and len(data) == len(table.rows) else [None] * len(table.rows)
    records: list[JsonValue] = []
    for row, was in zip(table.rows, kept, strict=True):
        own = was if isinstance(was, dict) and len(set(table.columns)) == len(table.columns) else {}
        record: dict[str, JsonValue] = {}
        for name, column, cell in zip(names, table.columns, row, strict=True):
            if column in own and as_cell(own[column]) == cell:
                record[name] = own[column]
            elif cell or not own:
                record[name] = cell
        records.append(record)
    return records


def to_fields(table: Table, data: JsonValue = None) -> dict[str, JsonValue]:
    """Return a table of fields and values as one object; values that were not changed stay as they are in `data`."""
    own = data if isinstance(data, dict) else {}
    fields: dict[str, JsonValue] = {}
    for name, cell in table.rows:
        fields[name] = own[name] if name in own and as_cell(own[name]) == cell else cell
    return fields


def unique_names(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns' names, each once and none empty."""
    names: list[str] = []
    for at, column in enumerate(columns, 1):
        name = column or str(at)
        names.append(name if name not in names else f"{name} ({at})")
    return tuple(names)


def names_beside(names: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
    """Return names of columns that stand beside a table's own: what is called like one of those, or like another, gets a number.

    A program that takes a value by its column's name would get the other one.
    """
    taken, free = set(own), []
    for name in names:
        told, number = name or "?", 1
        while told in taken:
            number += 1
            told = f"{name or '?'} ({number})"
        taken.add(told)
        free.append(told)
    return tuple(free)


def as_cell(value: JsonValue) -> str:
    """Return a value of JSON as the text of its cell."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def regions_as_answer(regions: Sequence[Region], *, space: CoordinateSpace, seen: Size) -> str:
    """Return regions as a model of that space would have written them about a picture of the seen size."""
    across, down = (1000, 1000) if space is CoordinateSpace.THOUSANDTHS else (seen.width, seen.height)
    written: list[dict[str, JsonValue]] = []
    for region in regions:
        box = region.box
        left, top = round(box.x1 * across), round(box.y1 * down)
        if region.is_point:
            written.append({"point_2d": [left, top], "label": region.label})
        else:
            # A thing of the smallest part is still a thing: no side may shrink to nothing.
            right, bottom = max(left + 1, round(box.x2 * across)), max(top + 1, round(box.y2 * down))
            written.append({"bbox_2d": [left, top, right, bottom], "label": region.label})
    lines = ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in written)
    return f"```json\n[\n{lines}\n]\n```"


def regions_to_json(regions: Sequence[Region], sizes: Sequence[Size]) -> list[dict[str, JsonValue]]:
    """Return one object a region: `label`, `picture` (from 1), and `bbox` or `point` in whole pixels of the original.

    `sizes` are the originals' sizes in the question's order; a region on a picture without a size is left out.
    """
    rows: list[dict[str, JsonValue]] = []
    for region in regions:
        if not 0 <= region.picture_index < len(sizes):
            continue
        x1, y1, x2, y2 = region.box.to_pixels(sizes[region.picture_index])
        place: dict[str, JsonValue] = {"point": [x1, y1]} if region.is_point else {"bbox": [x1, y1, x2, y2]}
        rows.append({"label": region.label, "picture": region.picture_index + 1, **place})
    return rows
