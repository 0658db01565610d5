"""What an answer looks like: words, places, tables, data, and the raw text behind them."""

from __future__ import annotations

import pytest

from qwen_vl_app.ui.markdown import plain, shown_answer, without_data, without_tables
from tests.ui.conftest import MakeAssistant, ask, finish, page_of, words_on
from tests.ui.fakes import png

BOXES = 'Here:\n```json\n[{"bbox_2d": [28, 0, 56, 28], "label": "lamp"}]\n```'


def test_places_are_drawn_and_listed_in_pixels_of_the_original(make_assistant: MakeAssistant) -> None:
    """A box in seen pixels becomes a row in pixels of the picture as it was uploaded."""
    assistant = make_assistant(BOXES)
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    page.button(key="close-1-0").click().run()  # the newest answer's picture is open: see `test_picture_view`
    seen = assistant.turns("local", 1)[0].pictures[0].seen.size
    table = page.table[0].value
    assert list(table["What"]) == ["lamp"]
    assert list(table["Left"]) == [round(28 / seen.width * 560)]
    assert list(table["Bottom"]) == [round(28 / seen.height * 280)]
    assert "bbox_2d" in "".join(code.value for code in page.code)
    assert page.image


def test_a_list_of_flat_objects_is_a_table(make_assistant: MakeAssistant) -> None:
    """JSON that is a table is shown as one, with the raw answer kept."""
    assistant = make_assistant('```json\n[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]\n```')
    page = finish(assistant, ask(page_of(assistant), "List"))
    assert list(page.table[0].value.columns) == ["a", "b"]
    assert len(page.table[0].value) == 2


def test_a_long_table_gets_a_grid_of_its_own(make_assistant: MakeAssistant) -> None:
    """Many rows scroll in a grid."""
    rows = "\n".join(f"| {number} | x |" for number in range(40))
    assistant = make_assistant(f"| A | B |\n|---|---|\n{rows}")
    page = finish(assistant, ask(page_of(assistant), "Table"))
    assert len(page.dataframe[0].value) == 40
    assert not page.table


def test_other_data_is_a_tree(make_assistant: MakeAssistant) -> None:
    """JSON that is no table is shown as a tree."""
    assistant = make_assistant('{"panel": {"ok": true}}')
    page = finish(assistant, ask(page_of(assistant), "Data"))
    assert page.json[0].value == '{"panel": {"ok": true}}'


def test_a_markdown_table_is_a_table_once(make_assistant: MakeAssistant) -> None:
    """The table leaves the text when it is shown as a table; columns of one name stay apart."""
    assistant = make_assistant("Two:\n\n| A | A |\n|---|---|\n| 1 | 2 |\n\nThat is all.")
    page = finish(assistant, ask(page_of(assistant), "Table"))
    assert page.table[0].value.to_numpy().tolist() == [["1", "2"]]
    prose = [markdown.value for markdown in page.markdown if "Two:" in markdown.value]
    assert prose
    assert "|" not in prose[0]


def test_a_question_is_shown_as_it_was_typed(make_assistant: MakeAssistant) -> None:
    """Signs that Markdown knows mean themselves in a question."""
    assistant = make_assistant("ok")
    page = finish(assistant, ask(page_of(assistant), "# not a *heading*"))
    assert "# not a *heading*" in words_on(page)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("A 1\nB 2", "A 1  \nB 2"),
        ("costs $5 or $6", r"costs \$5 or \$6"),
        ("`$5` stays", "`$5` stays"),
        (":material/home: and :red[x]", ":\u2060material/home: and :\u2060red[x]"),
        ("at 12:30:45", "at 12:30:45"),
        ("```\nA\nB\n```", "```\nA\nB\n```"),
    ],
)
def test_a_models_text_speaks_markdown_but_not_the_pages_dialect(said: str, shown: str) -> None:
    """Line breaks stay; formulas, colours and icons of the page are not triggered; code is untouched."""
    assert shown_answer(said) == shown


def test_a_models_picture_address_is_never_loaded() -> None:
    """A picture from elsewhere does not reach the page's Markdown."""
    assert "![" not in shown_answer("![x](https://example.org/a.png)")


def test_names_mean_themselves() -> None:
    """A label shows every sign of a file's name."""
    assert plain("a_b[1]*.png") == r"a\_b\[1\]\*\.png"


def test_what_is_shown_otherwise_leaves_the_text() -> None:
    """Tables and data are cut out of the prose around them."""
    assert without_tables("x\n| a |\n|---|\n| 1 |\ny <table><tr></table>") == "x\ny"
    assert without_data('before\n```json\n{"a": 1}\n```') == "before"
    assert without_data('{"a": 1}') == ""


def test_the_figures_of_an_answer_ask_for_a_persons_eye(make_assistant: MakeAssistant) -> None:
    """Under every answer stand its seconds and the reminder that it is assistance."""
    assistant = make_assistant(["a ", "b"])
    page = finish(assistant, ask(page_of(assistant), "Read"))
    assert "to be verified by a person" in words_on(page)
