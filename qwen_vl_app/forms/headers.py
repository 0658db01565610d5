"""A template from the first line of a workbook or a CSV file: the columns that a site fills already become fields.

Knows workbooks (openpyxl, read only) and what a hostile one may hold. What the cells below are, the kinds are guessed from.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from itertools import islice

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.dates import read_date
from qwen_vl_app.forms.delimited import csv_lines
from qwen_vl_app.forms.fields import FieldType, FormField
from qwen_vl_app.forms.numbers import read_number
from qwen_vl_app.forms.schema import names_for
from qwen_vl_app.forms.template import MAX_FIELDS, FormTemplate, checked, slug

MAX_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 128 * 2**20
HEADER_WITHIN = 10
"""Lines among which the header is looked for: titles often stand above it."""
SAMPLE_LINES = 20
_Cell = object


def template_from_table(data: bytes, file_name: str) -> FormTemplate:
    """Return the template of an XLSX or CSV file's header. Raises FormError for a file that is neither, or has none."""
    if len(data) > MAX_BYTES:
        raise FormError("forms.header.too_large", limit=MAX_BYTES)
    lines = _workbook_lines(data) if data.startswith(b"PK") else _csv_lines(data)
    header_at, header = _header(lines)
    below = lines[header_at + 1 :]
    fields: list[FormField] = []
    if any(
        _is_value(cell) and any(_is_value(line[at]) for line in below if at < len(line))
        for at, cell in enumerate(header)
    ):
        raise FormError("forms.header.no_header")
    labels = _labels(header, below[0] if below else ())
    if labels != [_label(cell) for cell in header]:
        below = below[1:]
    for column, title in enumerate(labels):
        if not title:
            continue
        is_twin = any(field.asked_as("en").casefold() == title.casefold() for field in fields)
        label = f"{title} {column + 1}" if is_twin else title
        key = slug(title, fallback=f"field_{column + 1}")
        while any(field.key == key for field in fields):
            key = f"{key}_{column + 1}"
        fields.append(FormField(key, names_for(label), _kind(line[column : column + 1] for line in below)))
        if len(fields) > MAX_FIELDS:
            raise FormError("forms.template.too_many_fields", limit=MAX_FIELDS)
    stem = file_name.rpartition(".")[0] or file_name
    return checked(FormTemplate(name=slug(stem), fields=tuple(fields), title=names_for(stem)))


def _workbook_lines(data: bytes) -> list[Sequence[_Cell]]:
    import openpyxl  # noqa: PLC0415 - a tenth of a second that only this needs

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > MAX_UNPACKED_BYTES:
                raise FormError("forms.header.too_large", limit=MAX_UNPACKED_BYTES)
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        try:
            sheet = book.active or book.worksheets[0]
            found = sheet.iter_rows(max_row=HEADER_WITHIN + SAMPLE_LINES, max_col=MAX_FIELDS * 2, values_only=True)
            return [tuple(line) for line in found]
        finally:
            book.close()
    except FormError:
        raise
    except Exception as error:  # the library raises nearly anything on a damaged file, and all of it means that
        raise FormError("forms.header.unreadable") from error


def _csv_lines(data: bytes) -> list[Sequence[_Cell]]:
    try:
        return list(islice(csv_lines(data), HEADER_WITHIN + SAMPLE_LINES))
    except ValueError as error:
        raise FormError("forms.header.unreadable") from error


def _header(lines: Sequence[Sequence[_Cell]]) -> tuple[int, Sequence[_Cell]]:
    """Return the first line with the most words: a title above it has one, a header many."""
    candidates = [(sum(_is_word(cell) for cell in line), -at) for at, line in enumerate(lines[:HEADER_WITHIN])]
    if not candidates or max(candidates)[0] == 0:
        raise FormError("forms.header.none")
    at = -max(candidates)[1]
    return at, lines[at]


def _labels(header: Sequence[_Cell], below: Sequence[_Cell]) -> Sequence[str]:
    """Return a label for each column. A title that spans several columns (merged cells) goes with the titles below it."""
    tops = [_label(cell) for cell in header]
    labels: list[str] = []
    at = 0
    while at < len(tops):
        end = at + 1
        while tops[at] and end < len(tops) and not tops[end]:
            end += 1
        parts = below[at:end]
        is_span = end - at > 1 and len(parts) == end - at and all(_is_word(part) for part in parts)
        labels += [f"{tops[at]} {_label(part)}"[:100] for part in parts] if is_span else tops[at:end]
        at = end
    return labels


def _label(cell: _Cell) -> str:
    return " ".join(str(cell).split())[:100] if cell is not None else ""


def _is_value(cell: _Cell) -> bool:
    """Whether a cell holds a value and no title; a year may be one."""
    if isinstance(cell, str):
        return bool(cell.strip()) and (read_number(cell) is not None or bool(read_date(cell))) and not _is_year(cell)
    return cell is not None and not isinstance(cell, bool) and not _is_year(str(cell))


def _is_year(text: str) -> bool:
    return len(text.strip()) == 4 and text.strip().isdigit() and text.strip()[:2] in ("19", "20")


def _is_word(cell: _Cell) -> bool:
    return isinstance(cell, str) and bool(cell.strip()) and read_number(cell) is None


def _kind(cells: Iterable[Sequence[_Cell]]) -> FieldType:
    found = [cell[0] for cell in cells if cell and cell[0] not in (None, "")]
    if not found:
        return FieldType.TEXT
    if all(isinstance(cell, datetime | date) or (isinstance(cell, str) and read_date(cell)) for cell in found):
        return FieldType.DATE
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in found):
        is_whole = all(float(cell) == int(cell) for cell in found if isinstance(cell, int | float))
        return FieldType.INTEGER if is_whole else FieldType.NUMBER
    numbers = [read_number(cell) for cell in found if isinstance(cell, str)]
    # A column of long digits, or with a zero in front, is of names and not of amounts.
    is_name = any(
        isinstance(cell, str) and (len(cell) > 9 or (cell[:1] == "0" and cell[1:2].isdigit())) for cell in found
    )
    return FieldType.NUMBER if len(numbers) == len(found) and all(numbers) and not is_name else FieldType.TEXT
