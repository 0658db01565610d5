"""Turns further up: they read the same as the newest, cost one element together, and open when a person works with them."""

from __future__ import annotations

import json

from streamlit.testing.v1 import AppTest

from qwen_vl_app.answers import Place, PlaceSource
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Box, Question, Region, Size
from qwen_vl_app.corrections import places_text
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.texts import Language
from qwen_vl_app.ui import quiet_answer
from qwen_vl_app.ui.conversation import FULL_TURNS
from qwen_vl_app.ui.state import TURNS_AT_ONCE
from tests.hub_parts import WAIT_S
from tests.ui.conftest import MakeAssistant, ask, click, finish, html_on, page_of, words_on
from tests.ui.fakes import png


def _with_later_turns(make_assistant: MakeAssistant, answer: str, *, question: str = "Which?") -> AppTest:
    """Return a page on which the answer stands further up, about a picture of 560 by 280."""
    assistant = make_assistant(engine=FakeEngine([answer, *["Later."] * FULL_TURNS]))
    page = finish(assistant, ask(page_of(assistant), question, a__png=png(width=560, height=280)))
    for number in range(FULL_TURNS):
        assistant.ask(Question(f"And {number}?", conversation_id=1)).wait(WAIT_S)
    return page.run()


def test_what_a_model_or_a_person_wrote_is_text_and_never_markup(make_assistant: MakeAssistant) -> None:
    """HTML in a question or an answer is shown as it was written; remote pictures do not load."""
    evil = "<img src=x onerror=alert(1)> ![x](https://example.org/a.png) [y](javascript:alert(1))"
    page = _with_later_turns(make_assistant, evil, question="<script>alert(1)</script>")
    html = html_on(page)
    assert "<script" not in html and "<img src=x" not in html
    assert "&lt;script&gt;" in html and "&lt;img src=x" in html
    assert 'src="https:' not in html and 'href="javascript' not in html


def test_places_stand_where_they_are_on_the_picture(make_assistant: MakeAssistant) -> None:
    """Boxes are placed in fractions of the upright picture, and a click opens the turn to work with."""
    page = _with_later_turns(make_assistant, '[{"bbox_2d": [56, 28, 168, 84], "label": "lamp <1>"}]')
    html = html_on(page)
    assert "left: 10.00%; top: 10.00%; width: 20.00%; height: 20.00%" in html
    assert "lamp &lt;1&gt;" in html
    assert not page.table
    page = click(page, "look", turn=1)
    told = json.loads(
        next(each for each in page.get("bidi_component") if "picture" in each.proto.component_name).proto.json
    )
    assert [place["label"] for place in told["places"]] == ["lamp <1>"]


def test_a_formula_further_up_stands_as_it_is_written() -> None:
    """Its stars and backslashes are no Markdown; two signs that nobody closes are two signs."""
    render = quiet_answer.answer_markdown().render
    assert render(r"So $$2*3*4 \, m_1$$ and *5*") == "<p>So $$2*3*4 \\, m_1$$ and <em>5</em></p>\n"
    assert render("$$2 <b>*3*") == "<p>$$2 &lt;b&gt;<em>3</em></p>\n"


def test_tables_and_data_are_read_further_up_as_well(make_assistant: MakeAssistant) -> None:
    """A table is a table, with its signs as they are."""
    page = _with_later_turns(make_assistant, "Two:\n\n| A | B |\n|---|---|\n| 1 < 2 | *x* |\n\nThat is all.")
    html = html_on(page)
    assert "<td>1 &lt; 2</td><td>*x*</td>" in html
    assert "<p>That is all.</p>" in html
    assert "| A | B |" not in html


def test_a_correction_is_what_stands_further_up_as_well(make_assistant: MakeAssistant) -> None:
    """What a person corrected is shown corrected, and says so."""
    page = _with_later_turns(make_assistant, '[{"bbox_2d": [56, 28, 168, 84], "label": "lamp"}]')
    assert page.args is not None
    assistant: Assistant = page.args[0]
    region = Region(Box(0.5, 0.5, 0.75, 0.75), "knob")
    places = (Place(region, PlaceSource.CORRECTED, 0),)
    answer = assistant.turn("local", 1).answer
    assert answer is not None
    said = places_text(places, regions=answer.parsed.regions, sizes=[Size(560, 280)], language=Language.ENGLISH)
    assistant.records.correct("local", 1, said)
    html = html_on(page.run())
    assert "left: 50.00%; top: 50.00%; width: 25.00%; height: 25.00%" in html
    assert "knob" in html and "corrected" in html


def test_a_very_long_question_and_answer_are_folded_but_whole(make_assistant: MakeAssistant) -> None:
    """What is long is folded behind a switch, further up and in the newest turn alike; every word stays on the page."""
    assistant = make_assistant("word " * 3000, "word " * 3000, "Later.", "Later.")
    page = finish(assistant, ask(page_of(assistant), "why " * 1000))
    assert html_on(page).count("Show all of it") == 2
    assert words_on(page).count("word") >= 3000
    for number in range(FULL_TURNS):
        assistant.ask(Question(f"And {number}?", conversation_id=1)).wait(WAIT_S)
    page = page.run()
    assert html_on(page).count("Show all of it") >= 2
    assert words_on(page).count("why") >= 1000


def test_the_last_thirty_cost_as_much_as_a_few(make_assistant: MakeAssistant) -> None:
    """The number of elements does not grow with the turns."""
    assistant = make_assistant(*["Yes."] * 12)
    assistant.ask(Question("First?")).wait(WAIT_S)
    counts = []
    for number in range(11):
        assistant.ask(Question(f"And {number}?", conversation_id=1)).wait(WAIT_S)
        if number in (FULL_TURNS + 1, 10):
            counts.append(len(list(page_of(assistant, conversation=1).main)))
    assert counts[0] == counts[1]


def test_a_picture_from_before_the_shown_turns_is_still_what_they_speak_about(make_assistant: MakeAssistant) -> None:
    """Thirty questions later the places of an answer stand on the picture that was asked about first."""
    box = '[{"bbox_2d": [56, 28, 168, 84], "label": "lamp"}]'
    assistant = make_assistant(*[box] * (TURNS_AT_ONCE + 2))
    page = finish(assistant, ask(page_of(assistant), "Which?", a__png=png(width=560, height=280)))
    for number in range(TURNS_AT_ONCE + 1):
        assistant.ask(Question(f"And {number}?", conversation_id=1)).wait(WAIT_S)
    page = page.run()
    assert "And 0?" not in html_on(page)
    assert 'data-act="earlier"' in html_on(page)
    assert html_on(page).count('class="qvl-places"') == TURNS_AT_ONCE - FULL_TURNS
    page = click(page, "erase", turn=1).button(key="erase-turn-sure").click().run()
    assert 'class="qvl-places"' not in html_on(page.run())


def test_earlier_turns_come_with_a_click_and_the_button_goes_when_all_are_there(make_assistant: MakeAssistant) -> None:
    """A conversation that is longer than one page of it grows upwards."""
    assistant = make_assistant(*["Yes."] * (TURNS_AT_ONCE + 2))
    page = finish(assistant, ask(page_of(assistant), "First?"))
    for number in range(TURNS_AT_ONCE):
        assistant.ask(Question(f"And {number}?", conversation_id=1)).wait(WAIT_S)
    page = page.run()
    first = '<p class="qvl-typed">First?'  # the title above says it as well
    assert first not in html_on(page)
    page = click(page, "earlier")
    assert first in html_on(page)
    assert 'data-act="earlier"' not in html_on(page)
