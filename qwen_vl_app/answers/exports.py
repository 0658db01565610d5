"""Tables and regions as files to take away: CSV for Excel, boxes in pixels of the original.

Knows what a spreadsheet would run as a formula. Does not know where the bytes go.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from qwen_vl_app.chat import JsonValue, Region, Size, Table

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
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
    # Some spreadsheets cut leading spaces off before they look for a formula.
    is_formula = cell.startswith(_FORMULA_SIGNS) or cell.lstrip().startswith(_FORMULA_SIGNS)
    return f"'{cell}" if is_formula else cell


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
