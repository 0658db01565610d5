"""What an answer looks like: words, places, tables, data, and the raw text behind them."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.answers import places_of, without_data, without_tables
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.corrections import amended, places_text
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.standing import as_they_stand
from qwen_vl_app.takeaway import as_json
from qwen_vl_app.texts import Language
from qwen_vl_app.ui.markdown import plain, shown_answer
from tests.ui.conftest import (
    MakeAssistant,
    ask,
    click,
    close_picture,
    composer_of,
    correct_cells,
    finish,
    html_on,
    page_of,
    words_on,
)
from tests.ui.fakes import png

BOXES = 'Here:\n```json\n[{"bbox_2d": [28, 0, 56, 28], "label": "lamp"}]\n```'


def test_places_are_drawn_and_listed_in_pixels_of_the_original(make_assistant: MakeAssistant) -> None:
    """A box in seen pixels becomes a row in pixels of the picture as it was uploaded."""
    assistant = make_assistant(BOXES)
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    close_picture(page)  # the newest answer's picture is open: see `test_picture_view`
    seen = assistant.turns("local", 1)[0].pictures[0].seen.size
    table = page.table[0].value
    assert list(table["What"]) == ["lamp"]
    assert list(table["Left"]) == [round(28 / seen.width * 560)]
    assert list(table["Bottom"]) == [round(28 / seen.height * 280)]
    assert page.image
    raw = re.search(r'<details class="qvl-raw">.*?</details>', html_on(page), re.DOTALL)
    assert raw is not None and "bbox_2d" in raw[0]  # the model's own words are behind a switch


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


def test_a_cell_of_a_column_of_numbers_takes_any_text(make_assistant: MakeAssistant) -> None:
    """The model missed a decimal point or a letter; a grid of whole numbers would not let a person write it."""
    assistant = make_assistant("| Tag | Bar |\n|---|---|\n| 101 | 15 |\n| 102 | 12 |")
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = page.button(key="open-table-1-table-0").click().run()
    shown = page.dataframe[0].value
    assert [list(row) for row in shown.to_numpy()] == [["101", "15"], ["102", "12"]]


TWO_TABLES = "| Tag | Bar |\n|---|---|\n| 101 | 15 |\n| 102 | 12 |\n\nand\n\n| No |\n|---|\n| 7 |"


def _bars(page: AppTest) -> list[str]:
    """Return the second column of the table that is open to be corrected."""
    (grid,) = [each for each in page.dataframe if "edit-" in each.proto.id]
    return list(grid.value["Bar"])


def test_cells_that_were_written_outlast_the_answer_of_the_next_question(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """Sending leaves the table open, and so does the answer that comes meanwhile; then the cells are saved as written."""
    assistant = make_assistant(engine=FakeEngine([TWO_TABLES, ["Yes", "."], "And no."], gate=gate))
    gate.release()
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = ask(page, "Is it on?")
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})
    gate.release(5)
    page = finish(assistant, ask(finish(assistant, page), "And now?")).run()
    assert [str(button.key) for button in page.button if str(button.key).startswith("save-")] == ["save-1-table-0"]
    page = page.button(key="save-1-table-0").click().run()
    assert not page.exception
    assert list(page.table[0].value.to_numpy()[0]) == ["101", r"**1\.5** *(was 15)*"]
    assert "not saved yet" not in words_on(page)


def test_cells_that_were_written_are_kept_while_something_else_is_looked_at(make_assistant: MakeAssistant) -> None:
    """Another table, another page, another conversation: the table says what waits in it; discarding it is a person's."""
    assistant = make_assistant(TWO_TABLES, "Yes.")
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})
    page = page.button(key="open-table-1-table-1").click().run()
    assert "not saved yet" in words_on(page)
    page = page.button(key="open-table-1-table-0").click().run()
    assert _bars(page) == ["1.5", "12"]
    page = correct_cells(page, {1: {"Bar": "1.2"}})
    page = click(page, "page-settings")
    assert composer_of(page)["has_drafts"], "the browser would not ask before it gives them up"
    page = finish(assistant, ask(click(page, "open", conversation=1), "Is it on?"))
    assert "not saved yet" in words_on(page)
    page = page.button(key="open-table-1-table-0").click().run()
    assert _bars(page) == ["1.5", "1.2"]
    page = page.button(key="discard-1-table-0").click().run()
    assert "not saved yet" not in words_on(page) and not composer_of(page)["has_drafts"]
    page = page.button(key="open-table-1-table-0").click().run()
    assert _bars(page) == ["15", "12"]


FIELDS = '```json\n{"no": "7", "maker": "ACME"}\n```'


@pytest.mark.parametrize(
    ("reply", "name", "written"),
    [(FIELDS, "Value", [["no", "42"], ["maker", "ACME"]]), (TWO_TABLES, "Bar", [["101", "42"], ["102", "12"]])],
)
def test_cells_that_were_written_outlast_a_change_of_the_language(
    make_assistant: MakeAssistant, reply: str, name: str, written: list[list[str]]
) -> None:
    """Also where the columns are named in it, there and back again."""
    assistant = make_assistant(reply)
    page = finish(assistant, ask(page_of(assistant), "Read"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {name: "42"}})
    page = page.segmented_control(key="language-en").set_value("中文").run()
    page = page.segmented_control(key="language-zh").set_value("English").run()
    page = page.segmented_control(key="language-en").set_value("中文").run()
    page = page.button(key="save-1-table-0").click().run()
    assert not page.exception
    assert page.table[0].value.to_numpy()[0][1].startswith("**42**")
    (correction,) = assistant.records.corrections("local", 1)
    rows = json.loads(correction.text.partition("visual-assistant\n")[2].rpartition("\n```")[0])["rows"]
    assert [row["cells"] for row in rows] == written


def _saved_elsewhere(assistant: Assistant) -> None:
    """Correct the second row in another tab."""
    other = page_of(assistant, conversation=1).button(key="open-table-1-table-0").click().run()
    correct_cells(other, {1: {"Bar": "99"}}).button(key="save-1-table-0").click().run()


def _standing(page: AppTest) -> list[str]:
    """Return what stands in the second column of the first table, without what it was."""
    return [
        str(cell).partition("** *")[0].strip("*").replace("\\", "") for cell in page.table[0].value.to_numpy()[:, 1]
    ]


@pytest.mark.parametrize("is_seen", [True, False])
def test_what_another_tab_saved_meanwhile_is_neither_lost_nor_takes_unsaved_cells(
    make_assistant: MakeAssistant, is_seen: bool
) -> None:
    """The cells stay, a sentence says so before they take its place, also where Save was clicked before it could be seen."""
    assistant = make_assistant(TWO_TABLES)
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})
    assert "another tab" not in words_on(page)
    _saved_elsewhere(assistant)
    page = page.run() if is_seen else page.button(key="save-1-table-0").click().run()
    assert "corrected in another tab" in words_on(page) and _bars(page) == ["1.5", "12"]
    assert len(assistant.records.corrections("local", 1)) == 1
    page = page.run()
    assert "corrected in another tab" in words_on(page) and _bars(page) == ["1.5", "12"]
    page = page.button(key="save-1-table-0").click().run()
    assert _standing(page) == ["1.5", "12"]
    page = page.button(key="open-table-1-table-0").click().run()
    assert "another tab" not in words_on(page)


def test_what_another_tab_saved_is_shown_where_nothing_waits_or_it_is_discarded(make_assistant: MakeAssistant) -> None:
    """A table that was only opened shows the newer rows, and Save changes nothing in them."""
    assistant = make_assistant(TWO_TABLES)
    page = finish(assistant, ask(page_of(assistant), "Table"))
    opened = page.button(key="open-table-1-table-0").click().run()
    unseen = page_of(assistant, conversation=1).button(key="open-table-1-table-0").click().run()
    written = page_of(assistant, conversation=1).button(key="open-table-1-table-0").click().run()
    written = correct_cells(written, {0: {"Bar": "1.5"}})
    _saved_elsewhere(assistant)
    opened = opened.run()
    assert _bars(opened) == ["15", "99"] and "another tab" not in words_on(opened)
    assert _standing(unseen.button(key="save-1-table-0").click().run()) == ["15", "99"]
    written = written.run()
    assert "another tab" in words_on(written)
    assert _standing(written.button(key="discard-1-table-0").click().run()) == ["15", "99"]
    assert len(assistant.records.corrections("local", 1)) == 1


def test_the_same_correction_in_two_tabs_is_kept_once(make_assistant: MakeAssistant) -> None:
    """Nobody is told of another version where there is none."""
    assistant = make_assistant(TWO_TABLES)
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {1: {"Bar": "99"}})
    _saved_elsewhere(assistant)
    page = page.button(key="save-1-table-0").click().run()
    assert _standing(page) == ["15", "99"] and "another tab" not in words_on(page)
    assert len(assistant.records.corrections("local", 1)) == 1


def test_cells_stay_where_nobody_can_tell_what_stands(
    make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Save says why it was not done, and does it when the history can be read again."""
    assistant = make_assistant(TWO_TABLES)
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})

    def refuse(*_: object) -> None:
        raise HistoryError("history.disk_full")

    with monkeypatch.context() as broken:
        broken.setattr(assistant.records, "corrections", refuse)
        page = page.button(key="save-1-table-0").click().run()
    assert "The disk is full" in words_on(page)
    assert _standing(page.button(key="save-1-table-0").click().run()) == ["1.5", "12"]


def test_a_draft_goes_with_its_turn(make_assistant: MakeAssistant) -> None:
    """What is erased is in no tab's hands either."""
    assistant = make_assistant(TWO_TABLES, "Yes.")
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})
    page = page.button(key="open-table-1-table-1").click().run()
    assert page.session_state["page_state"].table_drafts
    page = click(page, "erase", turn=1).button(key="erase-turn-sure").click().run()
    state = page.session_state["page_state"]
    assert not state.table_drafts and state.table_in_hand is None


def test_other_data_is_a_tree(make_assistant: MakeAssistant) -> None:
    """JSON that is no table is shown as a tree."""
    assistant = make_assistant('{"panel": {"ok": true}}')
    page = finish(assistant, ask(page_of(assistant), "Data"))
    assert page.json[0].value == '{"panel": {"ok": true}}'


def test_words_and_code_beside_data_stay(make_assistant: MakeAssistant) -> None:
    """They are no data; and of a long number a browser shows every digit."""
    data = '{"invoice": {"no": 31001700211192113087, "sum": 5}}'
    assistant = make_assistant(f"{data}\n\nThe sum is 5.\n\n```python\nprint(5)\n```")
    page = finish(assistant, ask(page_of(assistant), "Data"))
    assert page.json[0].value == '{"invoice": {"no": "31001700211192113087", "sum": 5}}'
    assert "The sum is 5." in words_on(page)
    assert [code.value for code in page.code] == ["print(5)"]


def test_values_beside_boxes_are_read(make_assistant: MakeAssistant) -> None:
    """The list of places has their names alone; what else was said of them stands in a table."""
    data = '[{"bbox_2d": [28, 0, 56, 28], "label": "Total", "value": "12 kg"}]'
    assistant = make_assistant(data)
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    assert page.table[0].value.to_numpy().tolist() == [["Total", "12 kg"]]


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
        ("A\n  B", "A  \n  B"),
        ("5~10 and 20~30, ~~gone~~", r"5\~10 and 20\~30, ~~gone~~"),
        ("a *panel*. The *sum*(net), 2*.5*(1+1)*(3)", r"a *panel*. The *sum*(net), 2\*.5\*(1+1)\*(3)"),
        ("120*80*50, *so* **and** 2**3", r"120\*80\*50, *so* **and** 2\*\*3"),
        (r"\\srv-1\data and __init__.py, __so it is__", r"\\\\srv-1\data and \_\_init__.py, __so it is__"),
        ("$$a*b~c*d$$", "$$a*b~c*d$$"),
        (r"\(x_1 = 5\%\) costs $5", r"$$x_1 = 5\%$$ costs \$5"),
        ("\\[\n a \\\\[2pt]\n= b*c*d\n\\]", r"$$a \\[2pt] = b*c*d$$"),
        (r"`\(x\)` \(x \[y\)", r"`\(x\)` \(x \[y\)"),
        (r"\(x <a>\)", r"\(x &lt;a>\)"),
        ("> 95 %\n>=5", "\\> 95 %  \n\\>=5"),
        ("> said", "> said"),
        ("+ 24 V + 5", "\\+ 24 V + 5"),
        ("$$\na\n+ b\n> 5\n$$", "$$  \na  \n+ b  \n> 5  \n$$"),
        ("x\n\n    5 < 6", "x\n\n\u00a0\u00a0\u00a0\u00a05 < 6"),
        ("- a\n\n    5", "- a\n\n    5"),
        ("3. A\n4. B", "3. A  \n4. B"),
        ("1. A\n2. B\n5. C", "1\\. A  \n2\\. B  \n5\\. C"),
        ("1. A\n   1) x\n   3) y\n2. B", "1. A  \n   1\\) x  \n   3\\) y  \n2. B"),
        ("1. A\n\nAgain:\n\n1. B", "1. A\n\nAgain:\n\n1. B"),
        ("1. A\n- x\n2. B\n- y\n3. C", "1. A  \n- x  \n2. B  \n- y  \n3. C"),
        ("007. A", "007\\. A"),
        ("```\n1. A\n3. B\n```\n1. A", "```\n1. A\n3. B\n```\n1. A"),
        ("- 5 °C", "\\- 5 °C"),
        ("- 12.5 mm.\n", "\\- 12.5 mm.\n"),
        ("- 7", "\\- 7"),
        ("Outside:\n- 5 °C", "Outside:  \n\\- 5 °C"),
        (
            "**Range**\n\n- 40 °C to + 85 °C (storage)\n\nSo says the plate.",
            "**Range**\n\n\\- 40 °C to + 85 °C (storage)\n\nSo says the plate.",
        ),
        ("Due:\n- €12,50", "Due:  \n\\- €12,50"),
        ("- 5 bolts\n- 3 nuts", "- 5 bolts  \n- 3 nuts"),
        ("- 5 °C\n- 12 °C", "- 5 °C  \n- 12 °C"),
        ("In:\n- 21 °C\nOut:\n- 5 °C", "In:  \n- 21 °C  \nOut:  \n- 5 °C"),
        ("Found:\n- 5 bolts", "Found:  \n- 5 bolts"),
        ("Found:\n- 5 pcs", "Found:  \n- 5 pcs"),
        ("Serial number:\n- 12345", "Serial number:  \n- 12345"),
        ("1. Read it\n   - 5 °C", "1. Read it  \n   - 5 °C"),
        ("- 2024-05-01", "- 2024-05-01"),
        ("$$\na\n- 5 m\n$$", "$$  \na  \n- 5 m  \n$$"),
        ("```\n- 5 °C\n```", "```\n- 5 °C\n```"),
    ],
)
def test_a_models_text_speaks_markdown_but_not_the_pages_dialect(said: str, shown: str) -> None:
    """Line breaks stay; formulas, colours and icons of the page are not triggered; code is untouched.

    No sign of a range, a size or a limit vanishes, and items keep the numbers that they were given. A value that stands by
    itself keeps its minus sign; what is listed stays a list.
    """
    assert shown_answer(said) == shown


def test_a_models_picture_address_is_never_loaded() -> None:
    """A picture from elsewhere does not reach the page's Markdown."""
    assert "![" not in shown_answer("![x](https://example.org/a.png)")


def test_names_mean_themselves() -> None:
    """A label shows every sign of a file's name."""
    assert plain("a_b[1]*.png") == r"a\_b\[1\]\*\.png"
    assert plain("see http://a_b.example/*c, or `www.x_y`") == r"see `http://a_b.example/*c`, or \``www.x_y`\`"


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


ODD = """```json
[{"bbox_2d": [28, 0, 56, 28], "label": "lamp"}, {"bbox_2d": [9000, 1, 9100, 2], "label": "far"},
 {"bbox_2d": [1, 2, 3], "label": "short"}]
```"""


def test_what_cannot_be_right_is_listed_and_not_drawn(make_assistant: MakeAssistant) -> None:
    """Each place that was left out stands there as the model wrote it, with the reason."""
    assistant = make_assistant(ODD)
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    listed = page.table[0].value
    assert list(listed["What"]) == ["far", "short"]
    assert list(listed["Why"]) == ["lies outside the picture", "has a wrong number of coordinates"]
    assert "9000" in listed["Written"][0]
    told = json.loads(picture_of(page).proto.json)
    assert [place["label"] for place in told["places"]] == ["lamp"]


def test_a_correction_stands_beside_the_models_version(make_assistant: MakeAssistant) -> None:
    """The picture view shows what a person left, knows the model's, and a list that is only read says who made it."""
    assistant = make_assistant(BOXES, "Yes.", "Yes.", "Yes.")
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    turn = assistant.turns("local", 1)[0]
    assert turn.answer is not None
    regions, size = turn.answer.parsed.regions, turn.pictures[0].size
    after = amended([], standing=places_of(regions), regions=regions, picture_index=0, size=size)
    text = places_text(after, regions=regions, sizes=[size], language=Language.ENGLISH)
    assistant.records.correct("local", turn.id, text)
    told = json.loads(picture_of(page.run()).proto.json)
    assert (told["places"], told["is_corrected"]) == ([], True)
    assert [place["label"] for place in told["model"]] == ["lamp"]
    assert "0 changed, 0 added, 1 removed" in words_on(page)
    (stands,) = as_they_stand(assistant.records, "local", turns=assistant.turns("local", 1))
    taken = json.loads(as_json(assistant.conversation("local", 1), [stands]))["turns"][0]["answer"]
    assert (taken["places"], taken["is_corrected"]) == ([], True)
    for number in range(3):
        page = finish(assistant, ask(page, f"And {number}?"))
    assert not [each for each in page.get("bidi_component") if "picture" in each.proto.component_name]
    assert "corrected by a person" in html_on(page)


def test_an_empty_list_of_places_can_be_filled(make_assistant: MakeAssistant) -> None:
    """Where the model found nothing, a person can still mark what it missed."""
    assistant = make_assistant("```json\n[]\n```")
    page = finish(assistant, ask(page_of(assistant), "Scratches?", a__png=png(width=560, height=280)))
    told = json.loads(picture_of(page).proto.json)
    assert (told["places"], told["can_correct"]) == ([], True)


def test_fields_are_a_table_of_names_and_values(make_assistant: MakeAssistant) -> None:
    """One flat object stands as fields, with what to check said under it."""
    assistant = make_assistant('```json\n{"company": "ACME", "no": "00123"}\n```')
    page = finish(assistant, ask(page_of(assistant), "Fields"))
    assert page.table[0].value.to_numpy().tolist() == [["company", "ACME"], ["no", "00123"]]
    assert "a value can look right and still be misread" in words_on(page)


def test_code_stands_with_its_file_and_data_only_once(make_assistant: MakeAssistant) -> None:
    """Code keeps its language and gets a file with the right ending; a page without a fence is code, too."""
    assistant = make_assistant("Look:\n\n```python\nprint(1)\n```\n\n<!DOCTYPE html>\n<html><p>x</p></html>\nDone.")
    page = finish(assistant, ask(page_of(assistant), "Code"))
    assert [(code.language, code.value) for code in page.code] == [
        ("python", "print(1)"),
        ("html", "<!DOCTYPE html>\n<html><p>x</p></html>"),
    ]
    names = [str(each.proto.label) for each in page.get("download_button") if "answer-" in str(each.proto.label)]
    assert [name.rpartition(".")[2] for name in names] == ["py", "html"]
    assert [toggle.label for toggle in page.toggle] == ["Preview"]


def test_a_long_list_of_places_is_not_folded_away(make_assistant: MakeAssistant) -> None:
    """The JSON is long, the picture is not: nothing hides it."""
    boxes = [{"bbox_2d": [number, 0, number + 20, 28], "label": f"line {number}"} for number in range(200)]
    assistant = make_assistant(json.dumps(boxes))
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    assert len(json.loads(picture_of(page).proto.json)["places"]) == 200
    assert "Show all of it" not in html_on(page)


def picture_of(page: AppTest) -> Any:
    """Return the picture view that is open."""
    return next(each for each in page.get("bidi_component") if "picture" in each.proto.component_name)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("At 0:07 it stops.", "At [0:07](#clip-time-7) it stops."),
        ("[0:07] it stops", "[[0:07](#clip-time-7)] it stops"),
        ("`0:07` and 0:08", "`0:07` and [0:08](#clip-time-8)"),
        ("see [0:07](#x)", "see [0:07](#clip-time-7) (#x)"),  # a model's own links are none
        ("at 5:00", "at 5:00"),  # behind the end
        ("0:07](javascript:alert(1))", "[0:07](#clip-time-7)]&#40;`javascript:alert(1`))"),
    ],
)
def test_times_about_a_clip_are_links(said: str, shown: str) -> None:
    """To its own places alone; without a clip nothing is one."""
    assert shown_answer(said, seconds=10.0).replace("\u2060", "") == shown
    assert "clip-time" not in shown_answer(said)
