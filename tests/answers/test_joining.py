"""What was said of several parts becomes one text: lines once, tables whole, data put together, and nothing lost unseen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vl_app.answers import joined_answers, parse_answer
from qwen_vl_app.chat import CoordinateSpace, JsonValue, Size, Table
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
