"""A golden answer for each published form, and behaviour on every kind of damage."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vl_app.answers import (
    code_blocks,
    parse_answer,
    regions_to_json,
    table_from_json,
    tables_in,
    to_csv,
    without_data,
    without_tables,
)
from qwen_vl_app.answers.json_text import Ending, read_json
from qwen_vl_app.chat import Box, CoordinateSpace, ParsedAnswer, Region, Size, Table
from qwen_vl_app.texts import Language, render

PIXELS, THOUSANDTHS = CoordinateSpace.SEEN_PIXELS, CoordinateSpace.THOUSANDTHS
SEEN = (Size(1000, 500),)

GOLDEN: dict[str, str] = {
    "qwen25_boxes": 'Here they are:\n```json\n[\n\t{"bbox_2d": [100, 50, 300, 250], "label": "valve"},\n\t{"bbox_2d": [0, 0, 1000, 500], "label": "panel"},\n]\n```\nDone.',
    "qwen25_points": '<points x1="100" y1="50" x2="500" y2="250" alt="screw">screw</points>',
    "qwen3_boxes": '```json\n[{"bbox_2d": [100, 100, 300, 500], "label": "valve"}]\n```',
    "qwen3_points": '```json\n[{"point_2d": [500, 250], "label": "screw"}]\n```',
    "spotting": '[{"bbox_2d": [100, 50, 300, 250], "text_content": "SN 00123"}]',
    "marked": "<|object_ref_start|>valve<|object_ref_end|><|box_start|>(100,50),(300,250)<|box_end|>",
    "unmarked": "valve(100,50),(300,250)",
    "document": '<p data-bbox="100 50 300 250">Total 12</p>',
    "document_markdown": "<!-- Table (100, 50, 300, 250) -->\n| a | b |\n|---|---|\n| 1 | 2 |",
    "in_the_kind": '{"objects": [{"name": "valve", "bbox": [100, 50, 300, 250]}]}',
}


def parse(text: str, *, space: CoordinateSpace = PIXELS, seen: tuple[Size, ...] = SEEN) -> ParsedAnswer:
    return parse_answer(text, space=space, seen=seen)


def codes(parsed: ParsedAnswer) -> dict[str, object]:
    return {note.code.removeprefix("answers."): note.facts["count"] for note in parsed.notes}


VALVE = Box(0.1, 0.1, 0.3, 0.5)


@pytest.mark.parametrize(
    ("name", "space", "expected"),
    [
        ("qwen25_boxes", PIXELS, [Region(VALVE, "valve"), Region(Box(0, 0, 1, 1), "panel")]),
        ("qwen25_points", PIXELS, [Region(Box(0.1, 0.1, 0.1, 0.1), "screw"), Region(Box(0.5, 0.5, 0.5, 0.5), "screw")]),
        ("qwen3_boxes", THOUSANDTHS, [Region(VALVE, "valve")]),
        ("qwen3_points", THOUSANDTHS, [Region(Box(0.5, 0.25, 0.5, 0.25), "screw")]),
        ("spotting", PIXELS, [Region(VALVE, "SN 00123")]),
        ("marked", PIXELS, [Region(VALVE, "valve")]),
        ("unmarked", PIXELS, [Region(VALVE, "valve")]),
        ("document", PIXELS, [Region(VALVE, "Total 12")]),
        ("document_markdown", PIXELS, [Region(VALVE, "Table")]),
        ("in_the_kind", PIXELS, [Region(VALVE, "valve")]),
    ],
)
def test_published_forms(name: str, space: CoordinateSpace, expected: list[Region]) -> None:
    """Each published form gives its boxes and points in fractions of the original."""
    assert list(parse(GOLDEN[name], space=space).regions) == expected


def test_a_sentence_before_key_values() -> None:
    """Key-value data behind a sentence keeps serial numbers and big numbers as they were said."""
    parsed = parse(
        'Sure:\n```json\n{"no": "00123", "raw": 00123, "big": 12345678901234567890123, "x": 1.5, "n": NaN,}\n```'
    )
    assert parsed.data == {"no": "00123", "raw": "00123", "big": 12345678901234567890123, "x": 1.5, "n": None}
    assert codes(parsed) == {"json_mended": 2, "json_not_numbers": 1}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('[{"a": 1}, {"a": 2}, {"a": 3', [{"a": 1}, {"a": 2}]),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [10, 20, 30, 12', [{"bbox_2d": [1, 2, 3, 4]}]),
        ('{"rows": [{"a": 1}, {"a": "lo', {"rows": [{"a": 1}]}),
        ('[[{"a": 1}], [{"a": 2}, {"a', [[{"a": 1}], [{"a": 2}]]),
        ('{"a": "x", "b": 12', {"a": "x"}),
    ],
)
def test_cut_answers_keep_complete_items(text: str, data: object) -> None:
    """An answer cut by the limit keeps its complete entries, drops half a number, and says so."""
    parsed = parse(text)
    assert parsed.data == data
    assert codes(parsed)["json_cut"] == 1


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("```json\n{'a': None, 'b': True, 'c': (1, 2)}\n```", {"a": None, "b": True, "c": [1, 2]}),
        ('{"a": 1, // why\n "b": 2 /* so */}', {"a": 1, "b": 2}),
        ('{"t": "He said "hi" to me", "b": 1}', {"t": 'He said "hi" to me', "b": 1}),
        ('{"t": "3/4" pipe", "p": "C:\\new dir\\Data"}', {"t": '3/4" pipe', "p": "C:\new dir\\Data"}),
        ('[{"a":1}{"a":2}]', [{"a": 1}, {"a": 2}]),
        ("{'t': 'it's here'}", {"t": "it's here"}),
        ('{"a": "1" "b": "2"}', {"a": "1", "b": "2"}),
        ('{"t": "a "b": c"}', {"t": 'a "b": c'}),
        (r'{"m": "\frac{1}{2} \times \beta", "t": "a\tb\nnew"}', {"m": r"\frac{1}{2} \times \beta", "t": "a\tb\nnew"}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        ('{"发票代码"："044001"，"x": 1}', {"发票代码": "044001", "x": 1}),
    ],
)
def test_mended_forms(text: str, data: object) -> None:
    """Literals of Python, comments, other quotes and missing commas are read."""
    assert parse(text).data == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"total": 1,234.50, "no": 7}', {"total": "1,234.50", "no": 7}),
        ('{"total": 12,5}', {"total": "12,5"}),
        ('{"p": 3.7 kW, "u": 220V, "f": 50 Hz}', {"p": "3.7 kW", "u": "220V", "f": "50 Hz"}),
        ('{"day": 2024-01-05, "at": 12:30, "share": 12%}', {"day": "2024-01-05", "at": "12:30", "share": "12%"}),
        ('{"price": $12.50,\n "note": N/A,\n "none": -\n}', {"price": "$12.50", "note": "N/A", "none": "-"}),
        ('{"型号": 温控器，"值": 25℃}', {"型号": "温控器", "值": "25℃"}),
        ('{"low": -5, "nothing": -Infinity, "x": 1 /* so */}', {"low": -5, "nothing": None, "x": 1}),
        ('{"seen": {"a": 1}, "t": 23.5 °', {"seen": {"a": 1}}),
    ],
)
def test_a_value_without_quotation_marks_is_whole_or_not_there(text: str, data: object) -> None:
    """A unit, a date or an amount that nobody quoted is kept as it stands: the 1 of 1,234.50 is not the total."""
    assert parse(text).data == data


@pytest.mark.parametrize(
    ("head", "language"),
    [("```json ", "json"), ("```json", "json"), ("~~~ JSON ", "json"), ("```", ""), ("  ``` ", "")],
)
@pytest.mark.parametrize("cut", ["", "\n"])
def test_data_on_the_line_of_its_fence_is_read(head: str, language: str, cut: str) -> None:
    """A model may go on behind the fence's language instead of on the next line; the box is there all the same."""
    data = f'[{cut}{{"bbox_2d": [100, 50, 300, 250], "label": "valve"}}]' if language else GOLDEN["spotting"]
    text = f"{head}{data}\n{head.strip()[:3]}\nThat is all."
    assert [region.box for region in parse(text).regions] == [VALVE]
    block = code_blocks(text)[0]
    assert (block.language, block.source, block.is_closed) == (language, f"{data}\n", True)


@pytest.mark.parametrize("info", ["python", "{python}", "{.python .numbers}", 'python title="[a]"', "json title"])
def test_the_words_behind_a_fence_are_no_data(info: str) -> None:
    """Languages and their options stay what they are."""
    assert code_blocks(f"```{info}\nx = 1\n```")[0].source == "x = 1\n"


def test_a_number_that_would_change_stays_as_it_is_written() -> None:
    """Of an identifier with a point no digit is lost."""
    parsed = parse('{"id": 12345678901234567.89, "x": 0.1, "y": 1e15, "z": 123.4499969482421875}')
    assert parsed.data == {"id": "12345678901234567.89", "x": 0.1, "y": 1e15, "z": 123.4499969482421875}


@pytest.mark.parametrize("text", ["{margin: 0 auto}", '{"label": label, "x": x1}', '{"a": f(x)}'])
def test_code_is_no_data(text: str) -> None:
    """Styles and names of variables are not taken for values that lost their quotation marks."""
    assert not parse(text).has_data


def test_a_box_whose_bracket_is_missing_is_drawn() -> None:
    """A list that nobody closed ends where the next key begins; nothing is lost without a word."""
    parsed = parse(
        '```json\n[{"bbox_2d": [100, 50, 300, 250, "label": "valve"},\n{"bbox_2d": [0, 0, 9, 9], "label": "a"}]\n```'
    )
    assert [region.label for region in parsed.regions] == ["valve", "a"]
    assert parsed.regions[0].box == VALVE
    assert "json_mended" in codes(parsed)


@pytest.mark.parametrize(
    "text", ["42", "true", "see [1] and [the note](x)", "- [x] done\n- [ ] open", "f{x} {}", "", "[]("]
)
def test_prose_is_no_data(text: str) -> None:
    """A bare number, a citation or a task list is not data."""
    assert not parse(text).has_data


def test_several_blocks_and_empty_lists_are_data() -> None:
    """Several blocks become one list, and an empty list in a fence is data."""
    assert parse("```json\n[]\n```").has_data
    assert parse('```json\n{"a": 1}\n```\nand\n```json\n[2]\n```').data == [{"a": 1}, [2]]


@pytest.mark.parametrize(
    ("numbers", "code", "box"),
    [
        ("[300, 250, 100, 50]", "boxes_swapped", VALVE),
        ("[-20, 50, 300, 700]", "boxes_clamped", Box(0, 0.1, 0.3, 1)),
        ("[100, 50, 100, 250]", "boxes_empty", None),
        ("[1100, 50, 1200, 250]", "boxes_outside", None),
        ("[100, 50, 300]", "boxes_wrong_count", None),
        ("[100, NaN, 300, 250]", "boxes_not_numbers", None),
        ("[0.1, 0.1, 0.3, 0.5]", "boxes_implausible", None),
    ],
)
def test_boxes_that_cannot_be_right(numbers: str, code: str, box: Box | None) -> None:
    """Each mistake in a box is mended or leaves the box out, and is told with a count in both languages."""
    parsed = parse(f'[{{"bbox_2d": {numbers}, "label": "a"}}]')
    assert [region.box for region in parsed.regions] == ([] if box is None else [box])
    assert codes(parsed)[code] == 1
    for language in Language:
        assert all("{" not in render(note, language) and note.code != render(note, language) for note in parsed.notes)


TWO = (Size(1000, 500), Size(200, 100))


@pytest.mark.parametrize(
    "text",
    [
        'Picture 1: [{"bbox_2d": [100, 50, 300, 250]}]\nPicture 2: [{"bbox_2d": [20, 10, 60, 50]}]',
        '[{"picture": 1, "bbox_2d": [100, 50, 300, 250]}, {"picture": 2, "bbox_2d": [20, 10, 60, 50]}]',
        '[{"image_index": 0, "bbox_2d": [100, 50, 300, 250]}, {"image_index": 1, "bbox_2d": [20, 10, 60, 50]}]',
        '[[{"bbox_2d": [100, 50, 300, 250]}], [{"bbox_2d": [20, 10, 60, 50]}]]',
        '{"Picture 1": [{"bbox_2d": [100, 50, 300, 250]}], "Picture 2": [{"bbox_2d": [20, 10, 60, 50]}]}',
        '```json\n[{"bbox_2d": [100, 50, 300, 250]}]\n```\n```json\n[{"bbox_2d": [20, 10, 60, 50]}]\n```',
        '第一张图：[{"bbox_2d": [100, 50, 300, 250]}]\n第二张图：[{"bbox_2d": [20, 10, 60, 50]}]',
    ],
)
def test_which_picture(text: str) -> None:
    """Boxes lie on the picture that the answer names, and are scaled by that picture's seen size."""
    parsed = parse(text, seen=TWO)
    assert [(region.picture_index, region.box) for region in parsed.regions] == [(0, VALVE), (1, VALVE)]
    assert "boxes_picture_guessed" not in codes(parsed)


def test_unknown_and_unsaid_pictures_are_told() -> None:
    """A picture that is not there is left out; one that nobody named is the first, and both are told."""
    parsed = parse('[{"picture": 7, "bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [100, 50, 300, 250]}]', seen=TWO)
    assert [region.picture_index for region in parsed.regions] == [0]
    assert codes(parsed) == {"boxes_unknown_picture": 1, "boxes_picture_guessed": 1}
    assert parse(GOLDEN["spotting"], seen=()).regions == ()


def test_tables() -> None:
    """Markdown and HTML tables become rows as wide as their columns."""
    parsed = parse("| a | b\\|c |\n|:--|--:|\n| 1 |\n| 1 | 2 | 3 |\n\nx | y\n--- | ---\n1 | 2\n")
    assert parsed.tables == (Table(("a", "b|c"), (("1", ""), ("1", "2"))), Table(("x", "y"), (("1", "2"),)))
    assert codes(parsed) == {"table_rows_ragged": 2}
    html = "<table><tr><th>a</th><th colspan=2>b</th></tr><tr><td rowspan='2'>1 &amp; 2</td><td>x<br>y</td><td>3</td></tr><tr><td>4</td><td>5</td></tr></table>"
    assert parse(html).tables == (Table(("a", "b", "b"), (("1 & 2", "x y", "3"), ("1 & 2", "4", "5"))),)
    assert parse("Head | line\n\nnot a table").tables == ()
    assert parse(GOLDEN["document_markdown"]).tables == (Table(("a", "b"), (("1", "2"),)),)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("**12.5**", "12.5"),
        ("**Total**<br>of all", "Total of all"),
        ("`SN_1`", "SN_1"),
        (r"SN\_1 \* \$5", "SN_1 * $5"),
        ("&lt;5 &amp; R&D", "<5 & R&D"),
        ("3*120+1*70", "3*120+1*70"),
        ("**** **** 1234", "**** **** 1234"),
        (r"C:\dir\new", r"C:\dir\new"),
        ("10<sup>3</sup> m<sup>2</sup>", "10³ m²"),
        ("10<SUP> -3 </SUP> CO<sub>2</sub>, 5<sup>th</sup>", "10⁻³ CO₂, 5th"),
    ],
)
def test_a_cell_is_what_is_read_in_it(written: str, read: str) -> None:
    """Emphasis, escapes and line breaks of Markdown are no part of a value; a raised 3 is no further digit."""
    assert parse(f"| a | b |\n|---|---|\n| {written} | 1 |").tables == (Table(("a", "b"), ((read, "1"),)),)


def test_a_pipe_within_code_is_a_part_of_its_cell() -> None:
    """Markdown would begin a cell there and lose the last one; a row that has enough cells is read as it always was."""
    parsed = parse("| a | b |\n|---|---|\n| `x|y` | 2 |\n| ` | ` |\n| `1|2` | 3 | 4 |")
    assert parsed.tables == (Table(("a", "b"), (("x|y", "2"), ("`", "`"), ("`1", "2`"))),)
    assert codes(parsed) == {"table_rows_ragged": 1}


def test_a_raised_number_in_html_is_no_further_digit() -> None:
    """10 with a small 3 is no 103, and a footnote's 1 is no part of the value before it."""
    text = "<table><tr><td>10<sup>3</sup><td>12<sup class='n'>1</sup> mm<sup>2</sup><td>5<sup>th</sup></table>"
    assert parse(text).tables[0].rows == (("10³", "12¹ mm²", "5th"),)


def test_what_is_read_as_a_table_leaves_the_text_and_nothing_else() -> None:
    """Rows under a rule that does not fit stay, and what stands behind a tag that a sentence names."""
    unread = "| a | b | c |\n|---|---|\n| 7 | 8 | 9 |"
    text = f"One:\n| a | b |\n|---|---|\n| 1 | 2 |\n\nTwo:\n{unread}\n\nNo `<table>` was needed: 42."
    assert without_tables(text) == f"One:\n\nTwo:\n{unread}\n\nNo `<table>` was needed: 42."
    nested = "<table><tr><td>1<table><tr><td>2</table><td>3</table>"
    assert without_tables(f"a {nested} b") == "a  b"


@pytest.mark.parametrize(
    ("text", "around"),
    [
        ('{"a": 1}\n\nIt is 42.', "It is 42."),
        ('Here:\n{"a": 1} {"a": 2}\nDone.', "Here:\n \nDone."),
        ('```python\nx = 1\n```\n```json\n{"a": 1}\n```', "```python\nx = 1\n```"),
        ('```json\n{"a": 1}\n```\n```json\nnot read\n```', "```json\nnot read\n```"),
        ("[10, 20] is the range.", "[10, 20] is the range."),
        ('It says {"a": 1} there.', 'It says {"a": 1} there.'),
        ("[10,\n20]", ""),
    ],
)
def test_what_is_said_around_data_stays(text: str, around: str) -> None:
    """Whatever is not data itself is kept: words behind it, other code, and data that is a part of a sentence."""
    assert parse(text).has_data
    assert without_data(text) == around


def test_what_is_said_of_things_beside_their_places_is_a_table() -> None:
    """Values that stand with boxes are read as well, without the boxes, which have a list of their own."""
    rows = '{"bbox_2d": [100, 50, 300, 250], "label": "Total", "value": "12.50", "n": 3}'
    parsed = parse(f"```json\n[{rows}]\n```")
    assert [region.label for region in parsed.regions] == ["Total"]
    (found,) = tables_in(parsed)
    assert found.table == Table(("label", "value", "n"), (("Total", "12.50", "3"),))
    assert found.data == [{"label": "Total", "value": "12.50", "n": 3}]
    (fields,) = tables_in(parse('{"x1": 1, "y1": 2, "x2": 30, "y2": 40, "bbox": [1, 2, 30, 40], "no": "7"}'))
    assert fields.table.rows == (("no", "7"),) and fields.is_fields
    for name in ("qwen25_boxes", "spotting", "in_the_kind"):
        assert tables_in(parse(GOLDEN[name])) == ()


@pytest.mark.parametrize("before", ["<think>\n", "So:\n", "```json\n[1,\n"])
def test_what_a_model_thought_aloud_is_no_answer(before: str) -> None:
    """Drafts of data and places are not taken for what it answered in the end; its words are shown all the same."""
    thoughts = f'{before}{{"no": "12"}} or {GOLDEN["spotting"]}?\n</think>'
    parsed = parse(f'{thoughts}\n\n```json\n{{"no": "13"}}\n```')
    assert parsed.data == {"no": "13"} and not parsed.regions
    assert without_data(f'{thoughts}\n\n```json\n{{"no": "13"}}\n```') == thoughts
    assert not parse(f"<think>\n{GOLDEN['spotting']}").regions  # it never came to an answer


def html_rows(rows: str) -> list[str]:
    """Return the rows of a table whose cells are parted by `|` and say their spans behind a colon (`X:r2c3`)."""
    html = ""
    for row in rows.split("/"):
        html += "<tr>"
        for text, _, spans in (cell.partition(":") for cell in row.split("|") if cell):
            written = re.sub(r"([rc])(\d)", lambda span: f" {'row' if span[1] == 'r' else 'col'}span={span[2]}", spans)
            html += f"<td{written}>{text}</td>"
        html += "</tr>"
    (table,) = parse(f"<table>{html}</table>").tables
    return ["|".join(row) for row in (table.columns, *table.rows)]


@pytest.mark.parametrize(
    ("rows", "read"),
    [
        (
            "a|b|c/1|2|X:r2/3/4|5|6",
            ["a|b|c", "1|2|X", "3||X", "4|5|6"],
        ),  # a short row ends before what is carried into it
        ("a|b|c/1|2|X:r3/3//4|5|6", ["a|b|c", "1|2|X", "3||X", "||X", "4|5|6"]),
        ("a|b|c|d/A:r2|1|B:r2|2/3|4/5|6|7|8", ["a|b|c|d", "A|1|B|2", "A|3|B|4", "5|6|7|8"]),
        ("a|b|c|d/1|A:r2|2|B:r3/3/4|5|6/7|8|9|10", ["a|b|c|d", "1|A|2|B", "3|A||B", "4|5|6|B", "7|8|9|10"]),
        ("a|b|c/A:r2c2|1/2/3|4|5", ["a|b|c", "A|A|1", "A|A|2", "3|4|5"]),
        ("a|b|c/1|A:r2c2//3|4|5", ["a|b|c", "1|A|A", "|A|A", "3|4|5"]),
        ("a|b|c/A:r2|1|2/B:c2/3|4|5", ["a|b|c", "A|1|2", "A|B|B", "3|4|5"]),
        ("a|b/X:r9|1/2", ["a|b", "X|1", "X|2"]),  # beyond the end there is nothing to carry it into
        ("a|b/X:r0|1/2/3", ["a|b", "X|1", "X|2", "X|3"]),  # 0: all rows that follow
        ("a|b/X:c0|1/2|3", ["a|b", "X|1", "2|3"]),
        (
            "a|b/1|X:r2/A:c2/2|3",
            ["a|b", "1|X", "A|A", "2|3"],
        ),  # two cells in one place: the row's own, and no row shifts
        ("a|b/1/2|3", ["a|b", "1|", "2|3"]),
    ],
)
def test_cells_that_span(rows: str, read: list[str]) -> None:
    """A cell that spans rows or columns stands in all of them, and no cell shifts because of it."""
    assert html_rows(rows) == read


def test_a_cell_that_spans_the_rest_ends_with_its_part_of_the_table() -> None:
    """A rowspan of 0 ends with the body; one that counts goes on, also where a model closes the head too early."""
    text = "<table><tbody><tr><td>a<td>b<tr><td rowspan=0>X<td>1<tr><td>2</tbody><tfoot><tr><td>3<td>4</table>"
    assert parse(text).tables == (Table(("a", "b"), (("X", "1"), ("X", "2"), ("3", "4"))),)
    text = "<table><thead><tr><th rowspan=2>a<th colspan=2>b</thead><tbody><tr><td>c<td>d<tr><td>1<td>2<td>3</table>"
    assert parse(text).tables == (Table(("a", "b", "b"), (("a", "c", "d"), ("1", "2", "3"))),)


def test_a_row_that_ends_before_a_spanning_cell_is_counted() -> None:
    """It was filled, as every row with too few cells."""
    text = "<table><tr><td>1<td>2<td rowspan=2>X<tr><td>3<tr><td>4<td>5<td>6</table>"
    assert codes(parse(text)) == {"table_rows_ragged": 1}


@given(st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_table_of_spanning_cells_is_read_as_it_is_drawn(height: int, width: int, chance: random.Random) -> None:
    """Whatever spans what: each place of the table holds the cell that covers it."""
    drawn: dict[tuple[int, int], str] = {}
    rows: list[str] = []
    for at in range(height):
        cells: list[str] = []
        for column in range(width):
            if (at, column) in drawn:
                continue
            wide = chance.randint(1, 3)
            while any(column + more >= width or (at, column + more) in drawn for more in range(wide)):
                wide -= 1
            deep, name = chance.randint(1, min(3, height - at)), f"{at}-{column}"
            drawn |= {(at + down, column + more): name for down in range(deep) for more in range(wide)}
            cells.append(f"<td rowspan={deep} colspan='{wide}'>{name}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    (table,) = parse(f"<table>{''.join(rows)}</table>").tables
    read = table.rows if height == 1 else (table.columns, *table.rows)
    assert read == tuple(tuple(drawn[at, column] for column in range(width)) for at in range(height))


def test_table_from_json() -> None:
    """A list of flat objects is a table; anything nested is not."""
    assert table_from_json([{"a": "01", "b": [1, 2]}, {"c": None}]) == Table(
        ("a", "b", "c"), (("01", "[1, 2]", ""), ("", "", ""))
    )
    assert (
        table_from_json([{"a": {"b": 1}}]) is None and table_from_json({"a": 1}) is None and table_from_json([]) is None
    )


def test_csv_is_safe_in_a_spreadsheet() -> None:
    """The file opens with its Chinese right, formulas are defused and numbers stay numbers."""
    table = Table(("名称", "=cmd"), (("-12.5", "+1"), ("@x", "-1+2"), ("a,b", " =1"), ("\t=1", '"q"')))
    text = to_csv(table).decode("utf-8-sig")
    assert to_csv(table).startswith(b"\xef\xbb\xbf")
    assert text == '名称,\'=cmd\r\n-12.5,+1\r\n\'@x,\'-1+2\r\n"a,b",\' =1\r\n\'\t\'=1,"""q"""\r\n'


def test_code_blocks() -> None:
    """Code comes with its language, and a fence that the answer's end cut is marked."""
    found = code_blocks("x\n```HTML\n<p>\n```\n~~~~py title=a\nprint()\n~~~\n")
    assert [(one.language, one.source, one.is_closed) for one in found] == [
        ("html", "<p>\n", True),
        ("py", "print()\n~~~\n", False),
    ]


sizes = st.builds(Size, st.integers(28, 6000), st.integers(28, 6000))


@settings(max_examples=150, deadline=None)
@given(st.data(), sizes, sizes, st.sampled_from(CoordinateSpace))
def test_geometry_to_the_pixel(data: st.DataObject, original: Size, seen: Size, space: CoordinateSpace) -> None:
    """A box in the model's space lands on the pixel of the original that plain arithmetic gives."""
    width, height = (1000, 1000) if space is THOUSANDTHS else (seen.width, seen.height)
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    parsed = parse(json.dumps([{"bbox_2d": [x1, y1, x2, y2]}]), space=space, seen=(seen,))
    if not parsed.regions:  # a box within the first pixel cannot be told from fractions only where one is a fraction
        pytest.fail(str(parsed.notes))
    assert not parsed.notes
    exact = [
        x1 * original.width / width,
        y1 * original.height / height,
        x2 * original.width / width,
        y2 * original.height / height,
    ]
    place = regions_to_json(parsed.regions, [original])[0]["bbox"]
    assert isinstance(place, list)
    is_thin = min(exact[2] - exact[0], exact[3] - exact[1]) <= 1  # it still has a pixel, the one that its middle is in
    room = (1 if is_thin else 0.5) + 1e-6
    assert all(isinstance(got, int) and abs(got - want) <= room for got, want in zip(place, exact, strict=True))
    assert place[0] < place[2] and place[1] < place[3]  # type: ignore[operator]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(json_values.filter(lambda value: isinstance(value, list | dict)), st.booleans(), st.sampled_from([None, 1]))
def test_good_json_is_read_exactly(value: object, ascii_only: bool, indent: int | None) -> None:
    """What a JSON library wrote is read as it is, without a repair."""
    reading = read_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent))
    assert (reading.value, reading.ending, dict(reading.repairs)) == (value, Ending.WHOLE, {})


def check(text: str, space: CoordinateSpace = PIXELS) -> None:
    parsed = parse(text, space=space, seen=TWO)
    assert all(note.code != "answers.unreadable" for note in parsed.notes)
    for region in parsed.regions:
        box = region.box
        assert 0 <= box.x1 <= box.x2 <= 1 and 0 <= box.y1 <= box.y2 <= 1 and region.picture_index in (0, 1)
        assert region.is_point or (box.x1 < box.x2 and box.y1 < box.y2)
    for table in parsed.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        to_csv(table)
    assert json.dumps(parsed.data, allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [*"[]{}()\"'`,:\\/|-<>=#*\n 019.eE\ud800", "bbox_2d", "<table>", "<td ", "NaN", "1e999", '"a":']
        )
    ).map("".join)
)
def test_any_text_is_taken_apart(text: str) -> None:
    """No text makes it raise, and what comes out keeps every promise."""
    check(text)


def test_damaged_real_answers() -> None:
    """Real-looking answers with characters lost, doubled, swapped and cut keep every promise."""
    chance = random.Random(7)
    for name in sorted(GOLDEN):
        for _ in range(120):
            letters = list(GOLDEN[name])
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(letters))
                letters[at] = chance.choice(["", letters[at] * 2, chance.choice('[]{}",:-9e.<>|`\n\\'), "Infinity"])
            check(
                "".join(letters)[: chance.choice([None, chance.randint(1, 80)])], chance.choice(list(CoordinateSpace))
            )


@pytest.mark.parametrize(
    "piece",
    ["[", "{", '{"a":', '["', "[{", "]", "(", '"', "\\", "'", "/*", "#", "```\n", "```json\n[", "~", "<!--", "<table", "<td>", '<p data-bbox="', "<a '",
     "|", "|-", "a|b\n-|-\n", "<points ", "x1=", "<|box_start|>(1,2),", "a(1,2),", "9", "-", "1,", "[1,", "[1 ", "[ ", " ", "\n", '" ', '{"a":" ', "“", "[“",
     "Picture 1 [1,2]", "<table><td rowspan=9999 colspan=9999>", "\\u", '["\\', '[{"bbox_2d":[1,2,3,4]},', "{'a':1e9", "<td\"", "[//", "[/**/",
     '{"a":1 x', '"a":1 ', '{"a":-', '"a":温', '"a":1,2,', '[1,"a":', '{"a":[1,"b" '],
)  # fmt: skip
def test_long_hostile_text_is_done_soon(piece: str) -> None:
    """Two hundred thousand characters of one trap are read within the test's time limit, with no stack exhausted."""
    check(piece * (200_000 // len(piece)))
    check("[" + piece * (200_000 // len(piece)))
    check('{"a": "' + piece * (200_000 // len(piece)))


def test_deep_nesting_is_told() -> None:
    """A hundred thousand brackets are refused with a note."""
    assert codes(parse("[" * 100_000 + "]" * 100_000)) == {"json_too_deep": 1}
    assert parse('{"n": ' + "9" * 5000 + "}").data == {"n": "9" * 5000}
    assert parse('{"n": 1e999}').data == {"n": "1e999"}
