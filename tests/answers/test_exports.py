"""Files to take away: what a spreadsheet or another program reads back is what stood there, and nothing of it runs."""

from __future__ import annotations

import io
import json

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from qwen_vl_app.answers import (
    Place,
    PlacedPicture,
    PlaceSource,
    places_of,
    places_table,
    table_from_json,
    to_coco,
    to_csv,
    to_markdown,
    to_records,
    to_xlsx,
)
from qwen_vl_app.answers.exports import defused
from qwen_vl_app.chat import Box, Region, Size, Table

RUNNING = ("=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1+1")
TABLE = Table(
    ("名称", "编号", "量"),
    (
        ("压力", "007", "-12.50"),
        ("温度", "12345678901234567890", "+5"),
        ("流量", "1E5", "0.30"),
        *((cell, "x", "0") for cell in RUNNING),
    ),
)


def test_a_workbook_keeps_numbers_text_and_chinese() -> None:
    """Leading zeros, long identifiers, exponents and plus signs stay text; what is a number is one, with its decimals."""
    book = openpyxl.load_workbook(io.BytesIO(to_xlsx(TABLE, sheet="表 [1]: 'a'")))
    sheet = book.active
    assert sheet is not None
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[0] == ["名称", "编号", "量"]
    assert rows[1] == ["压力", "007", -12.5]
    assert sheet["C2"].number_format == "0.00" and sheet["B2"].number_format == "@"
    assert rows[2] == ["温度", "12345678901234567890", "+5"]
    assert rows[3] == ["流量", "1E5", 0.3]
    assert sheet.column_dimensions["B"].width > 20 and sheet.freeze_panes == "A2"


def test_nothing_in_a_workbook_is_a_formula() -> None:
    """Every cell that could run is a string, and stays one when it is edited."""
    book = openpyxl.load_workbook(io.BytesIO(to_xlsx(TABLE, sheet="t")))
    sheet = book.active
    assert sheet is not None
    cells = [sheet.cell(row, 1) for row in range(5, 5 + len(RUNNING))]
    assert all(cell.data_type == "s" and cell.quotePrefix for cell in cells)
    assert [str(cell.value).strip() for cell in cells] == [text.strip() for text in RUNNING]


@pytest.mark.parametrize("cell", [*RUNNING, "a;=1+1", "a\t@x", "a; -cmd"])
def test_nothing_in_a_csv_is_a_formula(cell: str) -> None:
    """Neither at the beginning nor behind a sign at which some spreadsheets begin a new cell."""
    assert "'" in defused(cell)
    assert not any(
        part.strip().startswith(("=", "+", "@", "-c")) for part in defused(cell).replace("\t", ";").split(";")
    )


@pytest.mark.parametrize("cell", ["-12.5", "a;-5", "a = b", "x-y", "3; 4", "1,234.5", "-5 %"])
def test_ordinary_cells_stay_as_they_are(cell: str) -> None:
    """Nothing is added where nothing could run."""
    assert defused(cell) == cell


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), max_size=4))
def test_any_table_can_be_taken_away(rows: list[list[str]]) -> None:
    """No text breaks a file, and no cell comes back as a formula."""
    table = Table(("a", "a"), tuple(tuple(row) for row in rows))
    sheet = openpyxl.load_workbook(io.BytesIO(to_xlsx(table, sheet="t"))).active
    assert sheet is not None
    assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)
    to_csv(table).decode("utf-8-sig")
    assert len(to_records(table)) == len(rows)
    assert to_markdown(table).count("\n") == len(rows) + 2


def test_markdown_is_read_back_as_it_was() -> None:
    """Pipes, stars and brackets in a cell mean themselves."""
    table = Table(("a|b", "c"), (("1 | 2", "*x* [y](z)"), ("<b>", "line\nbreak")))
    html = MarkdownIt().enable("table").render(to_markdown(table))
    assert "<th>a|b</th>" in html
    assert "<td>1 | 2</td>" in html and "<td>*x* [y](z)</td>" in html
    assert "<td>&lt;b&gt;</td>" in html and "<td>line break</td>" in html


def test_json_keeps_what_the_model_said_and_takes_what_a_person_changed() -> None:
    """Numbers stay numbers where nobody touched them; an empty cell that was never there is left out."""
    data = [{"a": 1, "b": "01"}, {"a": None, "c": [1, 2]}]
    table = table_from_json(data)  # type: ignore[arg-type]
    assert table is not None
    assert to_records(table, data) == data  # type: ignore[arg-type]
    changed = Table(table.columns, (("2", "01", ""), table.rows[1]))
    assert to_records(changed, data)[0] == {"a": "2", "b": "01"}  # type: ignore[arg-type]
    assert to_records(Table(("x", "x"), (("1", "2"),))) == [{"x": "1", "x (2)": "2"}]


def test_places_are_coco_and_csv_in_pixels_of_the_original() -> None:
    """Both files tell the same pixels; points, missing labels and a person's hand are told apart."""
    pictures = [PlacedPicture("a.png", Size(400, 300)), PlacedPicture("b.png", Size(100, 100))]
    places = [
        *places_of([Region(Box(0.25, 0.1, 0.75, 0.9), "valve"), Region(Box(0.5, 0.5, 0.5, 0.5), "", 1)]),
        Place(Region(Box(0, 0, 0.001, 0.001), "valve"), PlaceSource.ADDED),
        Place(Region(Box(0, 0, 1, 1), "nowhere", 7)),
    ]
    told = json.loads(json.dumps(to_coco(places, pictures, model="m")))
    assert [(one["id"], one["width"], one["height"], one["file_name"]) for one in told["images"]] == [
        (1, 400, 300, "a.png"),
        (2, 100, 100, "b.png"),
    ]
    assert [one["bbox"] for one in told["annotations"]] == [[100, 30, 200, 240], [50, 50, 0, 0], [0, 0, 1, 1]]
    assert told["annotations"][0]["area"] == 200 * 240
    assert told["annotations"][1]["keypoints"] == [50, 50, 2]
    assert [one["attributes"]["source"] for one in told["annotations"]] == ["model", "model", "added"]
    names = {one["id"]: one["name"] for one in told["categories"]}
    assert [names[one["category_id"]] for one in told["annotations"]] == ["valve", "object", "valve"]
    table = places_table(places, pictures)
    assert table.rows[0] == ("1", "valve", "box", "100", "30", "300", "270", "model", "a.png")
    assert table.rows[1][2] == "point"
    assert len(table.rows) == 3
