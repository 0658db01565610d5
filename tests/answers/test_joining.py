"""What was said of several parts becomes one text: lines once, tables whole, data put together, and nothing lost unseen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vl_app.answers import joined_answers, parse_answer, say_more_than_places
from qwen_vl_app.answers.joining import WORDS_FOR_NOTHING
from qwen_vl_app.chat import CoordinateSpace, JsonValue, Size, Table
from qwen_vl_app.forms.values import _NOTHING
from qwen_vl_app.texts import Language, render


def data_of(*texts: str) -> JsonValue:
    parsed = parse_answer(joined_answers(texts).text, space=CoordinateSpace.SEEN_PIXELS, seen=(Size(100, 100),))
    assert parsed.has_data
    return parsed.data


def notes_of(*texts: str) -> dict[str, dict[str, object]]:
    return {note.code: dict(note.facts) for note in joined_answers(texts).notes}


def tables_of(*texts: str) -> tuple[Table, ...]:
    text = joined_answers(texts).text
    return parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=(Size(100, 100),)).tables


def fenced(data: object) -> str:
    return f"```json\n{json.dumps(data)}\n```"


def test_lines_that_two_parts_show_are_said_once() -> None:
    """Text of the overlap is not repeated; order and other lines stay, and how many were left out is told."""
    assert joined_answers(["PUMP 3\n 4.5  bar", "4.5 bar\nMAX 6"]).text == "PUMP 3\n 4.5  bar\nMAX 6"
    assert notes_of("PUMP 3\n 4.5  bar", "4.5 bar\nMAX 6") == {"tiles.lines_left_out": {"count": 1}}
    assert notes_of("PUMP 3", "MAX 6") == {}


def test_what_one_part_says_twice_stands_twice() -> None:
    """Three fuses of one size are three; only what a part before it said as often is the overlap's."""
    fuses = "F1 10 A\n10 A\n10 A\n16 A"
    assert joined_answers([fuses]).text == fuses
    assert joined_answers([fuses, "16 A\n16 A\n20 A"]).text == f"{fuses}\n16 A\n20 A"
    assert joined_answers(["10 A", "10 A\n10 A\n10 A"]).text == "10 A\n10 A\n10 A"


def test_rows_of_tables_stay_in_a_table() -> None:
    """Rows of a part go on with the table of the part before where the heads are the same; equal rows of one part stay."""
    head = "| Item | State |\n|---|---|\n"
    fans = head + "| Fan | OK |\n| Fan | OK |\n| Fan | OK |"
    assert tables_of(fans) == (Table(("Item", "State"), (("Fan", "OK"),) * 3),)
    assert tables_of(fans, f"{head}| Fan | OK |\n| Pump | off |") == (
        Table(("Item", "State"), (*(("Fan", "OK"),) * 3, ("Pump", "off"))),
    )
    # Another head with a rule that was said before, and the same head once more behind words.
    assert tables_of(fans, "| a | b |\n|---|---|\n| 1 | 2 |", f"Below:\n{head}| Lamp | on |") == (
        Table(("Item", "State"), (("Fan", "OK"),) * 3),
        Table(("a", "b"), (("1", "2"),)),
        Table(("Item", "State"), (("Lamp", "on"),)),
    )


def test_markup_is_not_taken_apart() -> None:
    """A line of a table or a program is nothing without those around it; one that was said as a whole is left out."""
    one = "<table>\n<tr>\n<td>1</td>\n</tr>\n</table>"
    two = one.replace("1", "2")
    assert joined_answers([one, two, one]).text == f"{one}\n{two}"
    one, two = "```css\na {\n}\n```", "```css\nb {\n}"
    assert joined_answers([one, two]).text == f"{one}\n{two}\n```"
    assert (
        joined_answers(["```\nF1\n```", "```text\nF1\nF2\n```", "```\nF2\n```"]).text
        == "```\nF1\n```\n```text\nF2\n```"
    )


def test_objects_get_the_first_value_that_somebody_knows() -> None:
    """A part that does not show a value says null, or nothing; another does."""
    one, two = {"serial": None, "date": "2024", "to": ""}, {"serial": "A1", "date": None, "to": "12 500 kg", "more": 0}
    assert data_of(fenced(one), fenced(two)) == {"serial": "A1", "date": "2024", "to": "12 500 kg", "more": 0}
    assert data_of(json.dumps(one), json.dumps(two)) == data_of(fenced(one), fenced(two))
    assert notes_of(fenced(one), fenced(two)) == {}
    assert data_of(fenced({"motor": {"kw": None, "v": 400}}), fenced({"motor": {"kw": 7.5, "v": None}})) == {
        "motor": {"kw": 7.5, "v": 400}
    }
    assert data_of(fenced({"serial": "A1"}), fenced([])) == {"serial": "A1"}
    assert joined_answers([json.dumps(one), json.dumps(two)], is_bare=True).text.startswith("{")


def test_the_whole_fills_what_no_part_knows() -> None:
    """A title that lies across parts is in the data, the parts' closer look stands, and nothing is said of the difference."""
    whole = fenced({"title": "PUMP STATION 7", "serial": None, "kw": 7, "motor": {"v": 400, "hz": None}})
    parts = [fenced({"title": None, "serial": "A1", "kw": 7.5, "motor": {"v": None, "hz": 50}}), fenced({})]
    joined = joined_answers(parts, whole=whole)
    assert json.loads(joined.text.strip("`json \n")) == {
        "title": "PUMP STATION 7",
        "serial": "A1",
        "kw": 7.5,
        "motor": {"v": 400, "hz": 50},
    }
    assert joined.notes == ()
    assert joined_answers(["10 A", "16 A"], whole="1O A\n16 A\n20 A").text == "10 A\n16 A"
    assert joined_answers(["", " "], whole="10 A").text == "10 A"
    assert json.loads(joined_answers(['["F1"]'], whole='["F2"]', is_bare=True).text) == ["F1"]
    assert '"A1"' in joined_answers(["There is no plate."], whole=fenced({"serial": "A1"})).text


@pytest.mark.parametrize(
    ("parts", "whole", "wanted", "differing"),
    [
        (["false", "true"], "true", False, "false, true"),
        (["null", "3", "3"], "4", 3, None),
        (["null", "null"], "0", 0, None),
        (["null", ""], "null", None, None),
        (['"A1"', "null"], "null", "A1", None),
    ],
)
def test_a_single_value_stays_one(parts: list[str], whole: str, wanted: JsonValue, differing: str | None) -> None:
    """What was asked for as a number, a word or a truth is no list of lines."""
    joined = joined_answers(parts, whole=whole, is_bare=True)
    assert json.loads(joined.text) == wanted
    assert [note.facts["fields"] for note in joined.notes] == ([] if differing is None else [differing])
    for language in Language:
        assert all(render(note, language) for note in joined.notes)


def test_things_with_a_place_stand_once_where_they_are() -> None:
    """Of one that two parts show, what both know is put together; two that read alike in two places are two."""

    def gauge(x: int, reading: str | None, *, key: str = "bbox_2d") -> dict[str, object]:
        return {key: [x, 10, x + 100, 110], "label": "gauge", "reading": reading}

    moves = [lambda x, y: (round(x), round(y)), lambda x, y: (round(x + 500), round(y))]
    parts = [[gauge(100, "4.5 bar"), gauge(700, None)], [gauge(205, "6 bar"), gauge(400, "4.5 bar")]]
    whole = [gauge(705, "9 bar"), gauge(1500, "2 bar")]
    joined = joined_answers([fenced(part) for part in parts], whole=fenced(whole), moves=moves)
    assert json.loads(joined.text.strip("`json \n")) == [
        gauge(100, "4.5 bar"),
        gauge(700, "6 bar"),
        gauge(900, "4.5 bar"),
        gauge(1500, "2 bar"),
    ]
    assert joined.notes == ()
    odd = {
        "box": {"x1": 1, "y1": 2, "x2": 30, "y2": 40},
        "point": [5, 6],
        "mm": [3, 4],
        "bbox": [1, 2, 3],
        "s": "[1, 2]",
    }
    moved = json.loads(joined_answers([fenced(odd)], moves=[lambda x, y: (round(x) + 1000, round(y))]).text[7:-3])
    assert moved == {
        "box": {"x1": 1001, "y1": 2, "x2": 1030, "y2": 40},
        "point": [1005, 6],
        "mm": [3, 4],
        "bbox": None,  # in the numbers of its part it would be wrong
        "s": "[1, 2]",
    }


BOX = [10, 20, 110, 120]


@pytest.mark.parametrize(
    ("data", "is_more"),
    [
        ([{"bbox_2d": BOX, "label": "valve"}], False),
        ([{"bbox_2d": BOX, "label": "valve", "confidence": 0.9}], False),
        ({"valves": [{"bbox": BOX}], "count": 1}, False),
        ({"valve": BOX, "pump": None}, False),
        ([["valve", BOX], ["pump", *BOX]], False),
        ([{"point_2d": [1, 2], "name": "valve"}], False),
        ([{"box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}, "label": "valve"}], False),
        ([], False),
        ({"serial": "A1", "mm": [3, 4]}, False),
        ({"lit": True, "serial": "A1", "bbox_2d": BOX, "label": "lamp"}, True),
        ([{"bbox_2d": BOX, "label": "gauge", "reading": "4.5 bar"}], True),
        ([{"bbox_2d": BOX, "label": "plate", "text": "12 500 kg"}], True),
        ({"objects": [{"bbox_2d": BOX, "label": "lamp"}], "lit": False}, True),
        ([{"bbox_2d": BOX, "label": "lamp"}, {"bbox_2d": BOX, "label": "lamp", "sizes": [3, 4]}], True),
    ],
)
def test_boxes_are_told_from_data_that_has_boxes(data: object, is_more: bool) -> None:
    """What says more of a thing than its place and name is not made a list of boxes."""
    assert say_more_than_places([fenced([]), fenced(data), "words"]) is is_more


def test_values_that_differ_are_told() -> None:
    """The first stands; the note names the others, so that none is lost unseen. Another spelling is no other value."""
    texts = [fenced({"serial": "A1", "v": 400}), fenced({"serial": "A1-2024", "v": "400"}), fenced({"serial": "a1"})]
    assert data_of(*texts) == {"serial": "A1", "v": 400}
    assert notes_of(*texts) == {"tiles.values_differ": {"fields": "serial (A1, A1-2024)"}}
    for language in Language:
        assert all("A1-2024" in render(note, language) for note in joined_answers(texts).notes)
    many = [fenced({f"f{at}": side for at in range(9)}) for side in ("x", "y" * 500)]
    assert len(str(notes_of(*many)["tiles.values_differ"]["fields"])) < 400


def test_lists_get_the_items_of_all() -> None:
    """Items that an earlier part has as often are the overlap's; numbers in a row are one value."""
    fuse, other = {"name": "F", "a": 10}, {"name": "G", "a": 16}
    assert data_of(fenced([fuse, fuse]), fenced([fuse, other]), fenced([])) == [fuse, fuse, other]
    assert data_of(fenced({"fuses": [fuse, fuse], "mm": [3, 4]}), fenced({"fuses": [other], "mm": [3, 5]})) == {
        "fuses": [fuse, fuse, other],
        "mm": [3, 4],
    }
    assert data_of(fenced(fuse), fenced([other])) == [fuse, other]


@pytest.mark.parametrize(
    "word", ["N/A", "n.a.", " Not visible. ", "(not visible)", "unknown", "-", "—", "?", "看不清", "未显示。", "null"]
)
def test_words_for_nothing_give_way_to_a_value(word: str) -> None:
    """Whichever part comes first, and also in the whole; where nobody knows better, the word stands. It is no difference."""
    known, unknown = {"serial": "A1", "tags": ["P-1"]}, {"serial": word, "tags": [word]}
    for texts in ([fenced(known), fenced(unknown)], [fenced(unknown), fenced(known)]):
        assert data_of(*texts) == known
        assert notes_of(*texts) == {}
    assert data_of(fenced(unknown), fenced({"serial": None})) == unknown
    assert json.loads(joined_answers([json.dumps(unknown)], whole=json.dumps(known), is_bare=True).text) == known
    assert json.loads(joined_answers([json.dumps(known)], whole=json.dumps(unknown), is_bare=True).text) == known
    assert data_of(fenced([word]), fenced(["P-1"])) == ["P-1"]


@pytest.mark.parametrize(
    "value", ["NaCl", "0", "-5", "no", "none left", "A/N", "ok.", "12 500 kg", "(1)", "??-4", "无锡"]
)
def test_values_that_only_look_like_nothing_are_values(value: str) -> None:
    """They stand, and another part's other value is told."""
    texts = [fenced({"a": value}), fenced({"a": "other"})]
    assert data_of(*texts) == {"a": value}
    assert notes_of(*texts).keys() == {"tiles.values_differ"}


def test_forms_know_no_other_words_for_nothing() -> None:
    """What is no value in a form is none here."""
    assert {word for word in _NOTHING if word} <= WORDS_FOR_NOTHING


def test_what_is_left_out_is_counted_wherever_it_stands() -> None:
    """In a list within an object, and in the words around data: one note has all of it."""
    fuse = {"name": "F", "a": 10}
    rows = fenced({"fuses": [fuse, fuse], "motor": {"tags": ["P-1"]}})
    other = fenced({"fuses": [fuse, {"name": "G", "a": 16}], "motor": {"tags": ["P-1", "P-2"]}})
    assert notes_of(rows, other) == {"tiles.lines_left_out": {"count": 2}}
    assert notes_of(f"{rows}\nThe fuses.", f"{other}\nThe fuses.") == {"tiles.lines_left_out": {"count": 3}}
    assert notes_of(f"{fenced([fuse])}\nThe fuses.", f"{fenced([fuse])}\nThe fuses.") == {
        "tiles.lines_left_out": {"count": 2}
    }
    assert notes_of(f"{rows}\nThe fuses.", fenced({"fuses": [{"name": "G"}]})) == {}


def test_data_that_is_cut_or_broken() -> None:
    """What can be read of it counts and is told to be cut; what cannot stays as it was written."""
    texts = [fenced({"serial": "A1"}), '```json\n{"date": "2024", "weight": "12 5']
    assert data_of(*texts) == {"serial": "A1", "date": "2024"}
    assert notes_of(*texts) == {"answers.json_cut": {"count": 1}}
    text = joined_answers([fenced({"serial": "A1"}), "```json\nnothing here\n```", "No plate."]).text
    assert data_of(text) == {"serial": "A1"}
    assert "nothing here" in text and "No plate." in text


def test_a_list_within_words_is_words() -> None:
    """Text that was read from a picture may hold brackets; it stays in its place."""
    texts = ["Range\n[10, 20]\nend", "Range\n[10, 30]"]
    assert joined_answers(texts).text == "Range\n[10, 20]\nend\n[10, 30]"


@pytest.mark.parametrize("is_bare", [False, True])
@given(
    st.lists(
        st.text()
        | st.lists(st.sampled_from(["```", "\n", "{", "}", '"a":', "[", "]", "1", "|", "-", "<table>"])).map("".join)
    )
)
def test_nothing_makes_it_raise(is_bare: bool, texts: list[str]) -> None:
    """Whatever the parts say, there is a text, which can be kept."""
    joined_answers(texts, is_bare=is_bare).text.encode("utf-8", "surrogatepass")
