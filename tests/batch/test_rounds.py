"""Two rounds compared: what changed, by how much, and which boxes came and went."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.batch import rounds_pdf
from qwen_vl_app.batch.columns import ROUND_TITLES, round_cells, round_title
from qwen_vl_app.batch.rounds import RoundChange, RoundRow, compare_rounds, number_in
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.chat import Answer, CoordinateSpace, FinishReason, Size
from qwen_vl_app.errors import Reason
from qwen_vl_app.texts import Language


def a_row(name: str, text: str, *, question: str = "?") -> BatchRow:
    parsed = parse_answer(text, space=CoordinateSpace.THOUSANDTHS, seen=(Size(1000, 1000),))
    return BatchRow(
        name,
        RowOutcome.ANSWERED,
        datetime(2026, 1, 1, tzinfo=UTC),
        question_index=0,
        question=question,
        content_hash=name + text,
        size=Size(1000, 1000),
        answer=Answer(text, FinishReason.STOP, parsed=parsed),
    )


def boxes(*found: tuple[str, int, int, int, int]) -> str:
    return json.dumps([{"bbox_2d": list(place), "label": label} for label, *place in found])


def compared(before: str, after: str) -> RoundRow:
    (row,) = compare_rounds([a_row("a.jpg", after)], earlier=[a_row("a.jpg", before)])
    return row


def test_a_number_that_moved_says_by_how_much() -> None:
    """Field by field, with the difference and the percentage."""
    row = compared('{"pressure": "4.0 bar", "tag": "P-1"}', '{"pressure": "4.5 bar", "tag": "P-1"}')
    assert row.change is RoundChange.CHANGED
    (change,) = row.fields
    assert (change.field, change.before, change.after) == ("pressure", "4.0 bar", "4.5 bar")
    assert change.delta == 0.5
    assert change.percent == pytest.approx(12.5)


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ('{"a": "4.50 bar"}', '{"a": "4.5 bar"}', True),
        ('{"a": 4}', '{"a": 4.0}', True),
        ('{"a": "4.5 bar"}', '{"a": "4.5 psi"}', False),
        ('{"a": "00427"}', '{"a": "427"}', False),
        ('{"a": "4,50 bar"}', '{"a": "4.5 bar"}', True),
        ('{"a": "−5 °C"}', '{"a": "-5 °C"}', True),
        ('{"a": "−5 °C"}', '{"a": "5 °C"}', False),
        ("reads 4.2 bar", "reads  4.2 bar", True),
        ('{"a": "1 234.5 bar"}', '{"a": "1234.5 bar"}', True),
        ('{"a": "12 500 kg"}', '{"a": "12 500 lb"}', False),
        ('{"a": "045 123"}', '{"a": "45 123"}', False),
        ("all well", "all well here", False),
        ('{"a": {"b": [1, 2]}}', '{"a": {"b": [1, 3]}}', False),
    ],
)
def test_what_counts_as_the_same(before: str, after: str, is_same: bool) -> None:
    """The same reading in another form is no change; another unit, or a serial number without its zeros, is one."""
    assert (compared(before, after).change is RoundChange.SAME) is is_same


def test_numbers_within_a_sentence_are_compared_one_by_one() -> None:
    """Where only numbers moved, they are what changed, not the whole sentence."""
    row = compared("Gauge 1 reads 4.2 bar.", "Gauge 1 reads 4.4 bar.")
    assert [(change.field, change.delta) for change in row.fields] == [("#2", 0.2)]
    row = compared("Gauge 1 reads 4,2 bar.", "Gauge 1 reads 4,4 bar.")
    assert [(change.field, change.delta) for change in row.fields] == [("#2", 0.2)]
    row = compared('{"kg": "9 500 kg"}', '{"kg": "12\u00a0500 kg"}')
    assert [(change.field, change.delta) for change in row.fields] == [("kg", 3000.0)]
    row = compared("Pressure: 1 234.5 bar", "Pressure: 999.5 bar")
    assert [(change.field, change.delta) for change in row.fields] == [("#1", -235.0)]
    row = compared("Freezer at −18 °C.", "Freezer at −20 °C.")
    assert [(change.field, change.delta) for change in row.fields] == [("#1", -2.0)]
    row = compared("Gauge 1 reads 4.2 bar.", "The gauge is gone.")
    assert [(change.field, change.delta) for change in row.fields] == [("", None)]


def test_boxes_are_matched_by_place_and_label() -> None:
    """A box that shifted a little is the same thing; one elsewhere is new, and the one that was there is gone."""
    before = boxes(("rust", 100, 100, 200, 200), ("lamp", 500, 500, 600, 600))
    after = boxes(("rust", 110, 105, 210, 205), ("lamp", 800, 800, 900, 900), ("rust", 300, 300, 340, 340))
    row = compared(before, after)
    assert [region.label for region in row.new_regions] == ["lamp", "rust"]
    assert [region.label for region in row.vanished_regions] == ["lamp"]
    assert [(change.field, change.before, change.after, change.delta) for change in row.fields] == [
        ("rust", "1", "2", 1.0)
    ]
    assert compared(before, before).change is RoundChange.SAME


def test_what_is_said_of_things_beside_their_boxes_is_compared() -> None:
    """A reading that moved is a change, also where its box stays."""
    said = '[{{"bbox_2d": [10, 20, 110, 120], "label": "gauge", "reading": "{} bar"}}]'
    row = compared(said.format("4.0"), said.format("4.5"))
    (change,) = row.fields
    assert (change.before, change.after, change.delta) == ("4.0 bar", "4.5 bar", 0.5)
    assert compared(said.format("4.0"), said.format("4.0")).change is RoundChange.SAME


def test_pictures_are_matched_by_name_wherever_they_lie() -> None:
    """Another subfolder does not make another picture; what one round lacks is new or vanished."""
    earlier = [a_row("day 1/a.jpg", "1"), a_row("day 1/b.jpg", "1")]
    later = [a_row("day 2/a.jpg", "2"), a_row("day 2/c.jpg", "1")]
    found = {row.key: row.change.value for row in compare_rounds(later, earlier=earlier)}
    assert found == {"a.jpg": "changed", "day 1/b.jpg": "vanished", "day 2/c.jpg": "new"}


def test_pictures_are_matched_by_a_field_of_their_answers() -> None:
    """The plate on the picture says which machine it is, whatever the camera called the file."""
    earlier = [a_row("IMG_1.jpg", '{"Tag": "P-101", "bar": 4}')]
    later = [a_row("IMG_977.jpg", '{"tag": "P-101", "bar": 5}'), a_row("IMG_978.jpg", "no plate")]
    (row,) = compare_rounds(later, earlier=earlier, tag="tag")
    assert (row.key, row.before and row.before.name, row.after and row.after.name) == (
        "P-101",
        "IMG_1.jpg",
        "IMG_977.jpg",
    )
    assert ("bar", 1.0) in [(change.field, change.delta) for change in row.fields]


def plate(name: str, bar: float, *, tag: str = "P-101", page: int = 0, page_count: int = 1) -> BatchRow:
    return replace(a_row(name, json.dumps({"tag": tag, "bar": bar})), page=page, page_count=page_count)


def by_tag(before: list[BatchRow], after: list[BatchRow]) -> list[tuple[str, str]]:
    return [(round_title(row), row.change.value) for row in compare_rounds(after, earlier=before, tag="tag")]


def test_several_pictures_of_one_tag_are_all_compared() -> None:
    """Each with the one of its name, else in their order; the report tells them apart, and none hides another."""
    before = [plate("a.jpg", 4.5), plate("b.jpg", 7), plate("c.jpg", 1, tag="P-102")]
    after = [plate("a.jpg", 9.9), plate("b.jpg", 7), plate("c.jpg", 1, tag="P-102")]
    assert by_tag(before, after) == [("P-101 · a.jpg", "changed"), ("P-101 · b.jpg", "same"), ("P-102", "same")]
    rows = compare_rounds(after, earlier=before, tag="tag")
    assert [cells[0] for cells in round_cells(rows, Language.ENGLISH)] == ["P-101 · a.jpg", "P-101 · b.jpg", "P-102"]
    # By their file name in another folder, and where the camera goes on counting, in the order in which they were taken.
    before = [plate("1/a.jpg", 4), plate("1/IMG_9.jpg", 7), plate("1/IMG_10.jpg", 8)]
    after = [plate("2/IMG_11.jpg", 7), plate("2/IMG_12.jpg", 9), plate("2/a.jpg", 4)]
    assert by_tag(before, after) == [
        ("P-101 · 1/a.jpg → 2/a.jpg", "same"),
        ("P-101 · 1/IMG_9.jpg → 2/IMG_11.jpg", "same"),
        ("P-101 · 1/IMG_10.jpg → 2/IMG_12.jpg", "changed"),
    ]


def test_a_tag_with_more_pictures_in_one_round_says_which_are_new_or_gone() -> None:
    """One that has no partner has a line of its own, and takes nobody's place."""
    one, two = [plate("b.jpg", 4)], [plate("a.jpg", 3), plate("b.jpg", 4)]
    assert by_tag(one, two) == [("P-101 · a.jpg", "new"), ("P-101 · b.jpg", "same")]
    assert by_tag(two, one) == [("P-101 · a.jpg", "vanished"), ("P-101 · b.jpg", "same")]
    assert by_tag([plate("x.jpg", 4)], [plate("y.jpg", 4)]) == [("P-101", "same")]  # one each: there is nothing to tell


@pytest.mark.parametrize("tag", [None, True, False, "", " ", "N/A", "not visible", "看不清"])
def test_pictures_without_a_tag_are_not_paired(tag: str | bool | None) -> None:
    """That none could be read is no tag: strangers are not compared, and those beside them are as ever."""

    def a_plate(name: str, bar: float, tag: str | bool | None) -> BatchRow:
        return a_row(name, json.dumps({"tag": tag, "bar": bar}))

    before = [a_plate("a.jpg", 4, tag), a_plate("b.jpg", 5, "P-1"), a_plate("c.jpg", 5, "0")]
    after = [a_plate("d.jpg", 9, tag), a_plate("e.jpg", 5, "P-1"), a_plate("f.jpg", 5, "0")]
    assert by_tag(before, after) == [("0", "same"), ("P-1", "same")]
    numbers = [[a_row(name, json.dumps({"tag": 0, "bar": 4}))] for name in ("a.jpg", "b.jpg")]
    assert by_tag(*numbers) == [("0", "same")]


def test_pages_with_one_tag_are_told_apart() -> None:
    """Of one file, or of a file and a photo; a page of its own is found wherever it stands by now."""
    pages = [plate("a.pdf", 4, page=0, page_count=3), plate("a.pdf", 5, page=1, page_count=3)]
    moved = [plate("a.pdf", 4, page=0, page_count=3), plate("a.pdf", 6, page=2, page_count=3)]
    assert by_tag(pages, moved) == [
        ("P-101 · a.pdf (1/3)", "same"),
        ("P-101 · a.pdf (2/3) → a.pdf (3/3)", "changed"),
    ]
    assert by_tag(pages[:1], [plate("b.jpg", 4)]) == [("P-101", "same")]
    found = compare_rounds(moved, earlier=pages)
    assert [(round_title(row), row.change.value) for row in found] == [
        ("a.pdf (1/3)", "same"),
        ("a.pdf (2/3)", "vanished"),
        ("a.pdf (3/3)", "new"),
    ]


def test_a_copy_shows_the_tag_of_what_it_repeats() -> None:
    """That one of two photos was copied in one round does not make the other vanish."""
    copy = BatchRow("b.jpg", RowOutcome.DUPLICATE, datetime(2026, 1, 2, tzinfo=UTC), duplicate_of="a.jpg")
    assert by_tag([plate("a.jpg", 4), plate("b.jpg", 5)], [plate("a.jpg", 4), copy]) == [
        ("P-101 · a.jpg", "same"),
        ("P-101 · b.jpg", "changed"),
    ]


def test_a_question_that_is_asked_twice_is_compared_twice() -> None:
    """A run may ask in the same words again; the second answer does not stand for both."""
    before = [a_row("a.jpg", "4"), replace(a_row("a.jpg", "5"), question_index=1)]
    after = [a_row("a.jpg", "6"), replace(a_row("a.jpg", "5"), question_index=1)]
    assert [row.change.value for row in compare_rounds(after, earlier=before)] == ["changed", "same"]


def test_a_failed_answer_is_not_compared() -> None:
    """That nothing could be read says nothing about what changed."""
    failed = BatchRow(
        "a.jpg",
        RowOutcome.FAILED,
        datetime(2026, 1, 2, tzinfo=UTC),
        question_index=0,
        question="?",
        error=Reason("engine.run_failed"),
    )
    (row,) = compare_rounds([failed], earlier=[a_row("a.jpg", "4")])
    assert row.change is RoundChange.NOT_COMPARABLE


def test_a_picture_that_cannot_be_read_is_no_missing_one() -> None:
    """It has one row without a question: neither has it vanished, nor is anything about it new. Its copy is as little."""
    failed = BatchRow(
        "a.jpg", RowOutcome.FAILED, datetime(2026, 1, 2, tzinfo=UTC), error=Reason("image.unreadable", name="a.jpg")
    )
    copy = BatchRow("b.jpg", RowOutcome.DUPLICATE, datetime(2026, 1, 2, tzinfo=UTC), duplicate_of="a.jpg")
    asked = [a_row(name, "4", question=question) for name in ("a.jpg", "b.jpg") for question in ("How much?", "Lit?")]
    for found in (compare_rounds([failed, copy], earlier=asked), compare_rounds(asked, earlier=[failed, copy])):
        assert {(row.key, row.question) for row in found} == {(each.name, each.question) for each in asked}
        assert {row.change for row in found} == {RoundChange.NOT_COMPARABLE}
    (both,) = compare_rounds([failed], earlier=[failed])
    assert both.change is RoundChange.NOT_COMPARABLE


def test_a_first_page_that_cannot_be_read_stands_for_itself_where_the_others_were_asked_about() -> None:
    """A page that went with the others is compared as ever, and one that is gone has vanished."""
    asked = [replace(a_row("a.tif", "4"), page=page, page_count=4) for page in range(4)]
    failed = BatchRow("a.tif", RowOutcome.FAILED, datetime(2026, 1, 2, tzinfo=UTC), error=Reason("image.unreadable"))
    found = compare_rounds([*asked[1:3], failed], earlier=asked)
    assert [row.change.value for row in found] == ["not_comparable", "same", "same", "vanished"]


def test_a_copy_stands_for_what_it_repeats() -> None:
    """A file that was a duplicate in one round is compared with the answers of the file it repeats."""
    copy = BatchRow("b.jpg", RowOutcome.DUPLICATE, datetime(2026, 1, 2, tzinfo=UTC), duplicate_of="a.jpg")
    found = compare_rounds([a_row("a.jpg", "4"), copy], earlier=[a_row("a.jpg", "4"), a_row("b.jpg", "5")])
    assert {row.key: row.change.value for row in found} == {"a.jpg": "same", "b.jpg": "changed"}


def test_the_report_has_a_line_for_each_change() -> None:
    """Values and boxes, in pixels of the originals, in either language."""
    before, after = boxes(("rust", 100, 100, 200, 200)), boxes(("rust", 100, 100, 200, 200), ("lamp", 500, 0, 600, 90))
    rows = compare_rounds([a_row("a.jpg", after)], earlier=[a_row("a.jpg", before)])
    lines = list(round_cells(rows, Language.ENGLISH))
    assert all(len(line) == len(ROUND_TITLES) for line in lines)
    assert ("a.jpg", "?", "new box", "lamp", "", "[500, 0, 600, 90]", None, None) in lines
    assert any("新框" in line for line in round_cells(rows, Language.CHINESE))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("4.5 bar", 4.5),
        ("-3", -3.0),
        (True, None),
        ("1 of 2", None),
        ("1 234.5", 1234.5),
        ("1 234,5 bar", 1234.5),
        ("-1 234.5 °C", -1234.5),
        ("12 500 kg", 12500.0),
        ("12\u00a0500 kg", 12500.0),
        ("10 000 h", 10000.0),
        ("1'234.5", 1234.5),
        ("Pressure: 1 234.5 bar", 1234.5),
        ("1 234 567", 1234567.0),
        ("3x10^5", 300000.0),
        ("Pump 3 400 V", None),
        ("No. 5 250 V", None),
        ("400 415 V", None),
        ("2900 380 V", None),
        ("045 123", None),
        ("05 03 2026", None),
        ("2026-03-05", None),
        ("12 500 / 13 000", None),
        ("no", None),
        (None, None),
        ("V-12", 12.0),
        ("1.234,5 kg", 1234.5),
        ("− 5 °C", -5.0),
        ("1,234", None),
        ("< 0.05 mg", None),
        ("＞10", None),
        ("21.11.2026", None),
        (7, 7.0),
    ],
)
def test_a_value_has_a_number_where_there_is_exactly_one(
    value: bool | float | str | None, number: float | None
) -> None:
    """Two numbers in one value are not guessed between."""
    assert number_in(value) == number


def test_the_report_of_a_round_leaves_out_what_is_the_same(tmp_path: Path) -> None:
    """A PDF with a picture for each change, drawn with the boxes that are new."""
    earlier = [a_row("same.jpg", '{"bar": 4}'), a_row("moved.jpg", '{"bar": 4}'), a_row("gone.jpg", "4")]
    rows = compare_rounds([earlier[0], a_row("moved.jpg", boxes(("rust", 10, 10, 400, 400)))], earlier=earlier)
    asked: list[str] = []

    def thumbnail(row: BatchRow) -> bytes:
        asked.append(row.name)
        return a_jpeg()

    target = tmp_path / "round.pdf"
    count = rounds_pdf(rows, target, title="Round 2", before=thumbnail, after=thumbnail, language=Language.CHINESE)
    assert count == 2
    assert sorted(asked) == ["gone.jpg", "moved.jpg"]
    assert target.read_bytes().startswith(b"%PDF")


def a_jpeg() -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(drawn, "JPEG")
    return drawn.getvalue()
