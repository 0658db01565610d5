"""A table as an Excel workbook: text stays text, numbers are numbers only where nothing of them is lost.

Knows what a spreadsheet does to a cell. Does not know where the bytes go.
"""

from __future__ import annotations

import io
import re

import xlsxwriter

from qwen_vl_app.answers.exports import may_run
from qwen_vl_app.chat import Table

MAX_CELL = 32_767
"""Characters that a cell of a workbook takes."""
_MAX_DIGITS = 15
"""A workbook's numbers have no more: a longer one is an identifier."""
_NARROWEST, _WIDEST = 6, 60
"""Characters across a column."""
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.(\d+))?")
_NOT_IN_A_CELL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NOT_IN_A_NAME = re.compile(r"[\[\]:*?/\\']")


def to_xlsx(table: Table, *, sheet: str) -> bytes:
    """Return a workbook of one sheet, its head frozen and filtered, its columns as wide as their words.

    A cell is a number where it is written like one without a leading zero, plus sign or exponent and has at most 15
    digits; its decimals stay. Everything else is text, also what begins like a formula.
    """
    target = io.BytesIO()
    plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True}
    book = xlsxwriter.Workbook(target, plain)
    page = book.add_worksheet(_NOT_IN_A_NAME.sub(" ", sheet).strip()[:31] or "1")
    head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top", "num_format": "@"})
    words = book.add_format({"text_wrap": True, "valign": "top", "num_format": "@"})
    # With the prefix it stays text even when somebody edits the cell and presses Enter.
    defused = book.add_format({"text_wrap": True, "valign": "top", "num_format": "@", "quote_prefix": True})
    numbers: dict[int, object] = {}
    page.freeze_panes(1, 0)
    for at, name in enumerate(table.columns):
        cells = [row[at] for row in table.rows]
        page.set_column(at, at, min(max(_NARROWEST, *map(_width, [name, *cells])) + 2, _WIDEST))
        page.write_string(0, at, _cell(name), head)
        for row, cell in enumerate(cells, 1):
            number = _NUMBER.fullmatch(cell)
            if number is not None and sum(letter.isdigit() for letter in cell) <= _MAX_DIGITS:
                decimals = len(number[1] or "")
                if decimals not in numbers:
                    form = "0" if not decimals else f"0.{'0' * decimals}"
                    numbers[decimals] = book.add_format({"num_format": form, "valign": "top"})
                page.write_number(row, at, float(cell), numbers[decimals])
            elif cell:
                page.write_string(row, at, _cell(cell), defused if may_run(cell) else words)
    if table.columns:
        last = (max(len(table.rows), 1), len(table.columns) - 1)
        page.autofilter(0, 0, *last)
        page.ignore_errors({"number_stored_as_text": f"A1:{xlsxwriter.utility.xl_rowcol_to_cell(*last)}"})
    book.close()
    return target.getvalue()


def _cell(text: str) -> str:
    text = "\n".join(text.encode("utf-8", "replace").decode("utf-8").splitlines())
    return _NOT_IN_A_CELL.sub("", text)[:MAX_CELL]


def _width(text: str) -> int:
    """Return about how many columns a text takes on its longest line; Chinese characters take two."""
    return max(
        (sum(2 if "\u1100" <= char <= "\uffdc" else 1 for char in line) for line in text.splitlines()), default=0
    )
