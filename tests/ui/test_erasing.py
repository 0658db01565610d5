"""Erasing on the page: asked before, refused where the site keeps records, and told of afterwards with its receipt."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.chat import Question
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import UsageError
from qwen_vl_app.ui import erasing
from tests.ui.conftest import MakeAssistant, address_of, ask, click, finish, html_on, list_of, page_of, twice, words_on
from tests.ui.fakes import png


def _told(page: AppTest) -> str:
    return " ".join(str(each.value) for each in page.success)


def _with_two_turns(make_assistant: MakeAssistant) -> AppTest:
    assistant = make_assistant("A secret.", "Yes.")
    page = finish(assistant, ask(page_of(assistant), "What stands there?", a__png=png()))
    return finish(assistant, ask(page, "Is it on?"))


@pytest.mark.parametrize("turn", [1, 2])
def test_one_question_is_erased_after_a_person_was_asked(make_assistant: MakeAssistant, turn: int) -> None:
    """Nothing goes before the second click; then the turn goes with its picture, and the others stay."""
    page = _with_two_turns(make_assistant)
    assert page.args is not None
    assistant = page.args[0]
    page = click(page, "erase", turn=turn)
    assert "This cannot be undone" in words_on(page)
    assert len(assistant.turns("local", 1)) == 2
    page = page.button(key="erase-turn-sure").click().run()
    assert not page.exception
    assert [each.id for each in assistant.turns("local", 1)] == [3 - turn]
    (receipt,) = assistant.records.receipts("local")
    assert (receipt.scope, receipt.turns, receipt.pictures) == ("turn", 1, 1 if turn == 1 else 0)
    assert f"Receipt {receipt.id}" in _told(page) and f"it: {receipt.pictures}." in _told(page)
    assert ("A secret." in words_on(page)) is (turn == 2)
    assert not page.get("dialog")
    assert _told(ask(page, "And now?")) == ""  # said once


def test_the_only_question_takes_its_conversation_with_it(make_assistant: MakeAssistant) -> None:
    """Nothing is left in the list, and the page stands where one begins anew."""
    assistant = make_assistant("Yes.")
    page = finish(assistant, ask(page_of(assistant), "Is it on?"))
    page = click(page, "erase", turn=1).button(key="erase-turn-sure").click().run()
    assert assistant.conversations("local") == ()
    assert "c" not in address_of(page)
    assert "Receipt 1" in _told(page)


def test_a_conversation_that_goes_is_told_with_its_receipt(
    make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence counts what went; the second click of two adds nothing to it."""
    monkeypatch.setattr(erasing, "_erase_conversation", twice(erasing._erase_conversation))
    page = _with_two_turns(make_assistant)
    page = click(page, "delete", conversation=1).button(key="delete-sure").click().run()
    assert "Questions: 2, pictures: 1." in _told(page) and "Receipt 1" in _told(page)
    assert not page.warning


def test_pictures_of_the_question_being_written_stay(make_assistant: MakeAssistant) -> None:
    """Who erases an old question or conversation meanwhile does not lose them; who erases everything does."""
    page = _with_two_turns(make_assistant)
    assert page.args is not None
    assistant = page.args[0]
    waiting = assistant.stage(png(width=300), "next.png")
    assistant.staging.put("local", waiting)
    page = click(page, "erase", turn=2).button(key="erase-turn-sure").click().run()
    page = click(page, "delete", conversation=1).button(key="delete-sure").click().run()
    assert assistant.conversations("local") == ()
    assert assistant.staging.get("local", waiting.staged_id) is waiting
    assistant.records.erase_everything("local")
    with pytest.raises(UsageError, match=r"staging\.gone"):
        assistant.staging.get("local", waiting.staged_id)


def test_what_another_program_holds_open_is_said(make_assistant: MakeAssistant, tmp_path: Path) -> None:
    """Where traces stay on the disk for now, nobody is told that they are gone."""
    assistant = make_assistant("Yes.")
    page = finish(assistant, ask(page_of(assistant), "Is it on?"))
    reader = sqlite3.connect(tmp_path / "data" / "history.db")
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        page = click(page, "erase", turn=1).button(key="erase-turn-sure").click().run()
    finally:
        reader.close()
    assert "still holds traces" in _told(page)


def test_a_private_question_goes_from_memory_without_a_receipt_in_the_records(make_assistant: MakeAssistant) -> None:
    """What was never kept has no number anywhere."""
    assistant = make_assistant("A secret.", "Another.")
    page = click(page_of(assistant), "private", on=1)
    page = finish(assistant, ask(finish(assistant, ask(page, "Whisper?")), "Again?"))
    number = int(address_of(page)["c"])
    first, _ = assistant.turns("local", number)
    page = click(page, "erase", turn=first.id).button(key="erase-turn-sure").click().run()
    assert [turn.question for turn in assistant.turns("local", number)] == ["Again?"]
    assert "erased for good" in _told(page) and "Receipt" not in _told(page)


@pytest.mark.parametrize("keep", ["until_erased", "records"])
def test_a_site_that_keeps_records_offers_no_erasing_and_refuses_it(make_assistant: MakeAssistant, keep: str) -> None:
    """No button offers it there, in no menu; a click that a browser makes up is refused in a sentence."""
    assistant = make_assistant("Yes.", keep=keep)
    page = finish(assistant, ask(page_of(assistant), "Is it on?"))
    is_erasable = keep != "records"
    assert ('data-act="erase"' in html_on(page)) is is_erasable
    assert list_of(page)["may_erase"] is is_erasable
    page = click(page, "erase", turn=1).button(key="erase-turn-sure").click().run()
    assert ("keeps questions and answers as records" in words_on(page)) is not is_erasable
    assert len(assistant.conversations("local")) == (0 if is_erasable else 1)


def test_who_erases_is_told_that_an_answer_in_the_making_stops(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """The model holds what it was told, so a running answer of the conversation ends with the erasing."""
    gate.release()
    assistant = make_assistant(engine=FakeEngine(["Yes.", ["word ", "word"]], gate=gate))
    page = finish(assistant, ask(page_of(assistant), "Is it on?"))
    job = assistant.ask(Question("Go on", conversation_id=1))
    page = click(page, "erase", turn=1)
    assert "is stopped" in words_on(page)
    page = page.button(key="erase-turn-sure").click().run()
    assert job.wait(60) is not None
    assert [turn.question for turn in assistant.turns("local", 1)] == ["Go on"]
