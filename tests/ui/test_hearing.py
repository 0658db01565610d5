"""What the composer tells is done once and in its order, whatever came between, and a second click of two does nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.private import PRIVATE_FROM, is_private
from qwen_vl_app.texts import Language
from qwen_vl_app.ui import composer
from qwen_vl_app.ui.holdings import Told
from qwen_vl_app.ui.sending import ask_edited, ask_loose_again
from qwen_vl_app.ui.state import PageState
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words
from tests.hub_parts import WAIT_S
from tests.ui.conftest import (
    MakeAssistant,
    address_of,
    ask,
    click,
    composer_of,
    dismiss,
    finish,
    html_on,
    page_of,
    send,
    tell,
    words_on,
)
from tests.ui.fakes import png


def sent(
    number: int, text: str, *, conversation: int | None = None, ids: tuple[str, ...] = (), private: bool = False
) -> Told:
    """Return a question as the composer tells it."""
    return Told(number, "sent", {"text": text, "ids": list(ids), "conversation": conversation, "private": private})


def questions(assistant: Assistant, conversation: int) -> list[str]:
    """Return what was asked in a conversation."""
    return [turn.question for turn in assistant.turns("local", conversation)]


def test_two_runs_that_hear_at_once_keep_the_order(
    make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit begins the next run beside one whose first question is still being written down."""
    assistant = make_assistant("Yes.", "Yes.")
    visit = Visit(assistant, "local", PageState(), Words(Language.ENGLISH))
    is_begun, may_go_on, asked = threading.Event(), threading.Event(), []

    def slow(of: Visit, value: Mapping[str, object]) -> None:
        if value["text"] == "first":
            is_begun.set()
            may_go_on.wait(WAIT_S)
        asked.append(value["text"])

    monkeypatch.setattr(composer, "send", slow)
    both = [sent(1, "first"), sent(2, "second")]
    runs = [threading.Thread(target=composer.hear, args=(visit, said)) for said in (both[:1], both)]
    runs[0].start()
    assert is_begun.wait(WAIT_S)
    runs[1].start()
    runs[1].join(0.2)  # as long as it takes to overtake
    may_go_on.set()
    for run in runs:
        run.join(WAIT_S)
    assert asked == ["first", "second"]


def restored(page: AppTest) -> Mapping[str, Any]:
    """Return what went back into the composer."""
    told: Mapping[str, Any] = composer_of(page)["restore"]
    return told


def test_what_is_told_again_is_done_once_and_in_its_order(make_assistant: MakeAssistant) -> None:
    """A click on "private" before the question counts for it; a second question goes on with what the first began."""
    assistant = make_assistant("One", "Two", "Three")
    page = page_of(assistant)
    first, second = sent(1, "First"), sent(2, "Second")
    page = finish(assistant, tell(page, first, second))
    assert questions(assistant, 1) == ["First", "Second"]
    assert composer_of(page)["heard"] == 2
    page = finish(assistant, tell(page, first, second, sent(3, "Third", conversation=1)))
    assert questions(assistant, 1) == ["First", "Second", "Third"]

    page = tell(page_of(assistant), Told(1, "did", {"act": "private", "on": "1"}), sent(2, "Between us"))
    assert assistant.conversation("local", int(address_of(page)["c"])).title == "Between us"
    assert [each.id for each in assistant.conversations("local")] == [1]


def test_a_question_is_not_asked_in_another_conversation(make_assistant: MakeAssistant) -> None:
    """Another one was opened before it arrived: it goes back into the composer, with a sentence."""
    assistant = make_assistant("One", "Two")
    finish(assistant, send(page_of(assistant), "The old one"))
    page = finish(assistant, send(page_of(assistant), "The new one"))
    page = tell(click(page, "open", conversation=1), sent(1, "About the new one", conversation=2, ids=("a",)))
    assert questions(assistant, 1) == ["The old one"]
    assert questions(assistant, 2) == ["The new one"]
    assert restored(page)["text"] == "About the new one"
    assert restored(page)["ids"] == ["a"]
    assert "Another conversation was opened" in words_on(page)


def test_of_several_questions_all_that_cannot_be_asked_come_back(make_assistant: MakeAssistant) -> None:
    """Two about pictures that are gone, one that can be asked: both come back, and the sentence stays."""
    assistant = make_assistant("Three")
    page = tell(page_of(assistant), sent(1, "One", ids=("gone",)), sent(2, "Two", ids=("too",)), sent(3, "Three"))
    assert restored(page)["text"] == "One\nTwo"
    assert "add it again" in words_on(page)
    assert questions(assistant, 1) == ["Three"]


def test_of_several_dialogs_the_last_one_opens(make_assistant: MakeAssistant) -> None:
    """They were clicked while the page was busy; a page shows one."""
    assistant = make_assistant("One")
    page = finish(assistant, send(page_of(assistant), "Once"))
    acts: Sequence[Mapping[str, object]] = ({"act": "tasks"}, {"act": "erase", "turn": "1"}, {"act": "take-away"})
    page = tell(page, *(Told(at, "did", wanted) for at, wanted in enumerate(acts, 1)))
    assert not page.exception
    assert len(page.get("dialog")) == 1
    assert any("PDF" in each.proto.label for each in page.get("link_button"))


@pytest.mark.parametrize(
    ("act", "facts"),
    [
        ("rename", {"conversation": "1"}),
        ("delete", {"conversation": "1"}),
        ("erase", {"turn": "1"}),
        ("take-away", {}),
        ("large", {"turn": "1", "picture": "1"}),
    ],
)
def test_a_dialog_stays_until_it_is_closed_and_does_not_come_back(
    make_assistant: MakeAssistant, act: str, facts: Mapping[str, str]
) -> None:
    """An answer that ends draws the page anew, and what was typed into the dialog would be gone with it."""
    assistant = make_assistant("One", "Two", "Three")
    page = finish(assistant, ask(page_of(assistant), "Once", a__png=png()))

    def opened(page: AppTest) -> AppTest:
        page = click(page, act, **facts)
        assert len(page.get("dialog")) == 1
        return page

    page = finish(assistant, send(opened(page), "Twice")).run()
    assert len(page.get("dialog")) == 1 and not page.exception
    page = dismiss(page)
    assert not page.get("dialog") and not page.run().get("dialog")
    page = tell(opened(page), Told(1, "went", {"c": "1"}))
    assert not page.get("dialog")
    page = click(opened(page), "open", conversation=1)
    assert not page.get("dialog")
    page = click(opened(page), "page-settings")
    assert not page.get("dialog")
    page = tell(page, Told(2, "went", {"c": "1"}))
    assert not page.get("dialog") and not page.exception


@pytest.mark.parametrize(
    ("act", "facts", "button"),
    [
        ("rename", {"conversation": "1"}, "save-title"),
        ("delete", {"conversation": "1"}, "delete-cancel"),
        ("delete", {"conversation": "1"}, "delete-sure"),
        ("erase", {"turn": "1"}, "erase-turn-cancel"),
    ],
)
def test_a_dialog_that_was_answered_is_closed(
    make_assistant: MakeAssistant, act: str, facts: Mapping[str, str], button: str
) -> None:
    """Whatever the answer was, the next run does not ask again."""
    assistant = make_assistant("One")
    page = click(finish(assistant, send(page_of(assistant), "Once")), act, **facts)
    page = page.button(key=button).click().run()
    assert not page.get("dialog") and not page.run().get("dialog")
    assert not page.exception


def test_what_is_taken_away_of_a_picture_stays_offered_when_the_next_answer_comes(
    make_assistant: MakeAssistant,
) -> None:
    """The newer answer closes the picture, and not the dialog above it."""
    box = '[{"bbox_2d": [28, 0, 56, 28], "label": "lamp"}]'
    assistant = make_assistant(box, box)
    page = finish(assistant, ask(page_of(assistant), "Where?", a__png=png(width=560, height=280)))
    assert page.args is not None
    page.args[1].append(lambda visit: setattr(visit.state, "taking", "1-0"))
    page = finish(assistant, send(page.run(), "And now?")).run()
    assert len(page.get("dialog")) == 1 and not page.exception
    assert not dismiss(page).run().get("dialog")


def test_a_question_that_is_being_answered_is_not_edited(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """There is no pencil on it; a click that was made all the same opens nothing, also not when the answer is there."""
    assistant = make_assistant(engine=FakeEngine([["One ", "more"]], gate=gate))
    page = send(page_of(assistant), "Once")
    assert "Once" in html_on(page) and 'data-act="edit"' not in html_on(page)
    page = click(page, "edit", turn=1)
    gate.release(5)
    page = finish(assistant, page)
    assert not page.text_area
    assert 'data-act="edit"' in html_on(page)
    assert click(page, "edit", turn=1).text_area(key="edited-1").value == "Once"


def test_the_second_click_of_two_asks_nothing(make_assistant: MakeAssistant) -> None:
    """Of "Ask again", and of "Ask" below an edited question: the page did not show yet what came of the first."""
    assistant = make_assistant("One", "Two", "Three", "Four", "Five")
    page = finish(assistant, send(page_of(assistant), "Once"))
    page = finish(assistant, click(click(page, "again", turn=1), "again", turn=1))
    turn = assistant.turns("local", 1)[-1]
    assert len(turn.branch_ids) == 2
    page = finish(assistant, click(page, "again", turn=turn.id))
    turn = assistant.turns("local", 1)[-1]
    assert len(turn.branch_ids) == 3

    def edit_twice(visit: Visit) -> None:
        for _ in range(2):
            ask_edited(visit, turn_id=turn.id, text="Once, please")

    page = click(page, "edit", turn=turn.id)
    assert page.args is not None
    page.args[1].append(edit_twice)
    finish(assistant, page.run())
    assert len(assistant.turns("local", 1)[-1].branch_ids) == 4


def test_a_question_that_was_marked_private_is_never_asked_openly(make_assistant: MakeAssistant) -> None:
    """It carries the mark itself: a page that began anew meanwhile has forgotten the switch, and its address never had it."""
    assistant = make_assistant("One", "Two")
    finish(assistant, send(page_of(assistant), "The old one"))
    marked = Told(1, "did", {"act": "private", "on": 1})
    page = tell(page_of(assistant, conversation=1), marked, Told(2, "went", {}), sent(3, "Between us", private=True))
    assert is_private(int(address_of(page)["c"]))
    assert [each.title for each in assistant.conversations("local")] == ["The old one"]
    page = finish(assistant, tell(page, sent(4, "As well", conversation=int(address_of(page)["c"]), private=True)))
    assert questions(assistant, int(address_of(page)["c"])) == ["Between us", "As well"]


@pytest.mark.parametrize("sent_from", [None, 1, PRIVATE_FROM])
def test_what_was_marked_private_comes_back_from_an_ordinary_conversation(
    make_assistant: MakeAssistant, sent_from: int | None
) -> None:
    """Whatever it was sent from, also where it follows one that has begun it. Sent once more it is asked as the page is."""
    assistant = make_assistant("One", "Two")
    page = finish(assistant, tell(page_of(assistant), sent(1, "The old one")))
    page = tell(page, sent(2, "Between us", conversation=sent_from, private=True, ids=("a",)))
    assert questions(assistant, 1) == ["The old one"]
    assert (restored(page)["text"], restored(page)["ids"]) == ("Between us", ["a"])
    assert not restored(page)["is_private"]
    assert "marked private" in words_on(page)
    finish(assistant, tell(page, sent(3, "For all", conversation=1, private=False)))
    assert questions(assistant, 1) == ["The old one", "For all"]


def test_what_was_marked_private_comes_back_marked_to_where_it_can_be_asked(make_assistant: MakeAssistant) -> None:
    """Of a picture that is gone, and of a private conversation that was left: the next try is private again."""
    assistant = make_assistant("One")
    page = tell(page_of(assistant), sent(1, "Between us", private=True, ids=("gone",)))
    assert restored(page)["is_private"] and composer_of(page)["private"] == "on"
    page = tell(page.button(key="new").click().run(), sent(2, "Still", conversation=PRIVATE_FROM, private=True))
    assert "Another conversation was opened" in words_on(page)
    assert restored(page)["is_private"] and composer_of(page)["private"] == "on"
    page = tell(page, sent(3, "One", private=True, ids=("gone",)), sent(4, "Two", private=True, ids=("gone",)))
    assert (restored(page)["text"], restored(page)["is_private"]) == ("One\nTwo", True)
    assert assistant.conversations("local") == ()


@pytest.mark.parametrize("address", [{}, {"private": "1"}])
def test_a_site_that_keeps_records_asks_nothing_that_was_marked_private(
    make_assistant: MakeAssistant, address: Mapping[str, str]
) -> None:
    """A page may have been opened before the site began to keep them: the question comes back, with a sentence that says so."""
    assistant = make_assistant("One")
    assistant.private.may_begin = False
    page = tell(page_of(assistant, address=address), sent(1, "Between us", private=True))
    assert restored(page)["text"] == "Between us"
    assert "keeps every question as a record" in words_on(page)
    assert composer_of(page)["private"] == ""
    assert assistant.conversations("local") == ()


def test_a_private_question_that_could_not_be_kept_is_asked_privately_again(
    make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands on a page whose switch may be off by then."""
    assistant = make_assistant("One", "Two")

    def full(*_: object, **__: object) -> None:
        raise HistoryError("history.disk_full")

    with monkeypatch.context() as broken:
        broken.setattr(HistoryStore, "begin_turn", full)
        page = tell(page_of(assistant), sent(1, "Between us", private=True))
    (loose,) = page.session_state["page_state"].loose
    assert loose.job.wait(WAIT_S) is not None
    page = click(page, "private", on=0)
    assert page.args is not None
    page.args[1].append(lambda visit: ask_loose_again(visit, question=loose))
    page.run()
    assert is_private(int(address_of(page)["c"]))
    assert assistant.conversations("local") == ()
