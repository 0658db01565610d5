"""Asking from the page: what is sent, what is shown while and after it is answered, and what is never lost."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qwen_vl_app.chat import TurnState
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError, PromptTooLongError
from qwen_vl_app.history import HistoryStore
from tests.ui.conftest import (
    MakeAssistant,
    address_of,
    ask,
    click,
    composer_of,
    finish,
    page_of,
    run_until,
    send,
    titles_of,
    words_on,
)
from tests.ui.fakes import png


def test_a_question_is_answered_on_the_page_and_stands_in_the_list(make_assistant: MakeAssistant) -> None:
    """A question without a picture is shown, answered, and listed under its own words."""
    assistant = make_assistant("It is a *panel*.")
    page = finish(assistant, ask(page_of(assistant), "What is it?"))
    assert not page.exception
    assert "What is it?" in words_on(page)
    assert "It is a *panel*." in words_on(page)
    assert titles_of(page) == ["What is it?"]


def test_the_address_names_the_conversation_so_that_a_reload_finds_the_running_answer(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """A second page at the same address shows the half answer of the first, and a Stop button."""
    assistant = make_assistant(engine=FakeEngine([["half ", "whole"]], gate=gate))
    first = ask(page_of(assistant), "Tell me")
    gate.release()
    next(iter(assistant.running("local", 1)[0]))
    reloaded = page_of(assistant, conversation=int(address_of(first)["c"]))
    assert "half" in words_on(reloaded)
    assert any(str(button.key).startswith("stop-") for button in reloaded.button)
    gate.release()
    assert "half whole" in words_on(finish(assistant, reloaded))


def test_pictures_go_with_the_question_and_show_what_the_model_sees(make_assistant: MakeAssistant) -> None:
    """Two pictures of one question are sent together, each with its original size, seen size and tokens."""
    engine = FakeEngine(["Two."])
    assistant = make_assistant(engine=engine)
    page = finish(assistant, ask(page_of(assistant), "How many?", a__png=png(), b__png=png(width=300, height=200)))
    assert [len(message.images) for message in engine.requests[0].messages] == [2]
    said = words_on(page)
    seen = [picture.seen for picture in assistant.turns("local", 1)[0].pictures]
    assert "120 × 60 pixels" in said
    assert f"{seen[0].size.width} × {seen[0].size.height} seen · {seen[0].tokens} tokens" in said
    assert "300 × 200 pixels" in said


def test_a_picture_without_a_word_gets_a_question_in_the_language_of_the_page(make_assistant: MakeAssistant) -> None:
    """Sending only a picture asks for a description, in Chinese on a Chinese page."""
    engine = FakeEngine(["一块面板。"])
    assistant = make_assistant(engine=engine)
    finish(assistant, ask(page_of(assistant, locale="zh-CN"), "", a__png=png()))
    assert engine.requests[0].messages[-1].text == "请描述这张图片。"


def test_a_picture_that_is_gone_keeps_the_text_and_the_others(make_assistant: MakeAssistant) -> None:
    """Where a staged picture was let go meanwhile, nothing is asked; text and other pictures go back to the composer."""
    engine = FakeEngine(["Done."])
    assistant = make_assistant(engine=engine)
    good = assistant.stage(png(), "good.png")
    assistant.staging.put("local", good)
    page = send(page_of(assistant), "What is it?", "0" * 32, good.staged_id)
    assert len(page.warning) == 1
    assert not engine.requests
    restored = composer_of(page)["restore"]
    assert (restored["text"], restored["ids"]) == ("What is it?", [good.staged_id])
    page = finish(assistant, send(page, "What is it?", good.staged_id))
    assert [len(message.images) for message in engine.requests[0].messages] == [1]
    assert not page.warning


def test_anothers_staged_picture_cannot_be_asked_about(make_assistant: MakeAssistant) -> None:
    """An id of another owner's picture is as good as none."""
    assistant = make_assistant("Nothing.")
    theirs = assistant.stage(png(), "theirs.png")
    assistant.staging.put("0" * 32, theirs)
    page = send(page_of(assistant), "What is it?", theirs.staged_id)
    assert len(page.warning) == 1
    assert assistant.conversations("local") == ()


def test_the_composer_knows_the_last_question(make_assistant: MakeAssistant) -> None:
    """The arrow up brings back the open conversation's last question, also after a reload."""
    assistant = make_assistant("One.", "Two.")
    page = finish(assistant, ask(page_of(assistant), "First?"))
    page = finish(assistant, ask(page, "Second?"))
    assert composer_of(page)["last_question"] == "Second?"
    assert composer_of(page)["answered"] == [2, "Answer: Two."]  # for who hears the page
    assert composer_of(page_of(assistant, conversation=1))["last_question"] == "Second?"


def test_stop_keeps_what_was_said_and_offers_to_ask_again(
    make_assistant: MakeAssistant, gate: threading.Semaphore
) -> None:
    """A stopped answer keeps its text; asking again sends question and picture once more."""
    engine = FakeEngine([["one ", "two"], "All of it."], gate=gate)
    assistant = make_assistant(engine=engine)
    page = ask(page_of(assistant), "Count", a__png=png())
    gate.release()
    next(iter(assistant.running("local", 1)[0]))
    page = page.run()
    next(button for button in page.button if str(button.key).startswith("stop-")).click().run()
    page = finish(assistant, page)
    assert assistant.turns("local", 1)[0].state is TurnState.STOPPED
    assert "one" in words_on(page)
    assert "Stopped." in words_on(page)
    again = click(page, "again", turn=1)
    gate.release(5)
    page = finish(assistant, again)
    assert "All of it." in words_on(page)
    assert len(engine.requests[1].messages[-1].images) == 1


def test_asking_again_keeps_the_first_answer_within_reach(make_assistant: MakeAssistant) -> None:
    """The new answer takes the place of the old one, which is one click away and comes back with it."""
    assistant = make_assistant("The first.", "The second.")
    page = finish(assistant, ask(page_of(assistant), "Which?"))
    assert "1 / 2" not in words_on(page)
    page = finish(assistant, click(page, "again", turn=1))
    assert "The second." in words_on(page) and "The first." not in words_on(page)
    assert "2 / 2" in words_on(page)
    page = click(page, "version", turn=1)
    assert "The first." in words_on(page) and "The second." not in words_on(page)


def test_an_edited_question_goes_with_its_pictures_and_leaves_the_first_one_within_reach(
    make_assistant: MakeAssistant,
) -> None:
    """Editing opens the question in its place; asked in other words it is a version beside the first."""
    engine = FakeEngine(["The first.", "The second."])
    assistant = make_assistant(engine=engine)
    page = finish(assistant, ask(page_of(assistant), "Which?", a__png=png()))
    page = click(page, "edit", turn=1)
    assert page.text_area(key="edited-1").value == "Which?"
    page.text_area(key="edited-1").set_value("Which one?")
    page = finish(assistant, page.button(key="ask-edited-1").click().run())
    assert not page.text_area
    assert engine.requests[1].messages[-1].text == "Which one?"
    assert len(engine.requests[1].messages[-1].images) == 1
    assert "2 / 2" in words_on(page) and "The second." in words_on(page)
    page = click(page, "version", turn=1)
    assert "The first." in words_on(page)


def test_an_edit_can_be_left_and_an_empty_one_is_refused_in_a_sentence(make_assistant: MakeAssistant) -> None:
    """Nothing is asked and the words stay where they are, until one leaves."""
    engine = FakeEngine(["The first."])
    assistant = make_assistant(engine=engine)
    page = click(finish(assistant, ask(page_of(assistant), "Which?")), "edit", turn=1)
    page.text_area(key="edited-1").set_value("  ")
    page = page.button(key="ask-edited-1").click().run()
    assert len(page.warning) == 1
    assert page.text_area(key="edited-1")
    page = page.button(key="leave-edit-1").click().run()
    assert not page.text_area
    assert len(engine.requests) == 1


def test_an_answer_from_storage_says_when_it_was_given_and_can_be_run_again(make_assistant: MakeAssistant) -> None:
    """The same question gets a badge with the time; running it again asks the model."""
    engine = FakeEngine(["The first.", "The second."])
    assistant = make_assistant(engine=engine)
    finish(assistant, ask(page_of(assistant), "Which?"))
    page = finish(assistant, ask(page_of(assistant), "Which?"))
    assert re.search(r"Stored answer, \d\d:\d\d", words_on(page))
    assert len(engine.requests) == 1
    page = finish(assistant, click(page, "again", turn=2))
    assert "The second." in words_on(page) and "Stored answer" not in words_on(page)


def test_several_pictures_that_were_to_be_looked_at_in_parts_are_said_to_be_seen_whole(
    make_assistant: MakeAssistant,
) -> None:
    """Only a single picture is looked at part by part: who chose that for two reads with the answer what became of it."""
    engine = FakeEngine(["Two plans."])
    assistant = make_assistant(engine=engine)
    staged = [
        replace(assistant.stage(png(width=4000, height=2000), name), in_parts=True) for name in ("a.png", "b.png")
    ]
    for picture in staged:
        assistant.staging.put("local", picture)
    page = page_of(assistant)
    page = finish(assistant, send(page, "What is it?", *(picture.staged_id for picture in staged)))
    assert len(engine.requests) == 1
    assert "these 2 were each seen whole" in words_on(page)


def test_a_private_conversation_is_in_no_list_and_ends_for_good(make_assistant: MakeAssistant, tmp_path: Path) -> None:
    """What is asked privately is answered and continued, stands in no list and no file, and goes when it is ended."""
    assistant = make_assistant("A secret answer.", "Another secret.")
    page = page_of(assistant)
    assert composer_of(page)["private"] == "choice"
    page = click(page, "private", on=1)
    assert composer_of(page)["private"] == "on"
    page = finish(assistant, ask(page, "Whisper?", a__png=png()))
    assert composer_of(page)["private"] == "fixed"
    page = finish(assistant, ask(page, "Again?"))
    assert "A secret answer." in words_on(page) and "Another secret." in words_on(page)
    assert titles_of(page) == [] and assistant.conversations("local") == ()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"Whisper" in file.read_bytes()]
    number = int(address_of(page)["c"])
    page = click(page, "end-private")
    assert "secret" not in words_on(page)
    assert composer_of(page)["private"] == "choice"
    assert "secret" not in words_on(page_of(assistant, conversation=number))


@pytest.mark.parametrize("act", ["again", "edit"])
def test_what_is_asked_anew_and_cannot_be_kept_is_shown_all_the_same(
    make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """On a full disk the new answer stands on the page as long as the tab does, and says why."""
    assistant = make_assistant("The first.", "The second.")
    page = finish(assistant, ask(page_of(assistant), "Which?"))

    def full(*_: object, **__: object) -> None:
        raise HistoryError("history.disk_full")

    monkeypatch.setattr(HistoryStore, "begin_turn", full)
    page = click(page, act, turn=1)
    if act == "edit":
        page.text_area(key="edited-1").set_value("Which one?")
        page = page.button(key="ask-edited-1").click().run()
    page = finish(assistant, page)
    assert "The second." in words_on(page) and "The disk is full" in words_on(page)


def test_what_begins_privately_does_so_after_a_reload(make_assistant: MakeAssistant) -> None:
    """The browser brings back what was typed; the switch comes back with it, and nothing of it is kept."""
    assistant = make_assistant("A secret answer.")
    before = click(page_of(assistant), "private", on=1)
    reloaded = page_of(assistant, address=address_of(before))
    assert composer_of(reloaded)["private"] == "on"
    finish(assistant, ask(reloaded, "Whisper?"))
    assert assistant.conversations("local") == ()
    assert composer_of(click(page_of(assistant, address=address_of(before)), "private", on=0))["private"] == "choice"


def test_a_private_conversation_that_is_gone_leaves_its_tab_private(make_assistant: MakeAssistant) -> None:
    """A tab that comes back after the app was started anew does not keep what was typed for it."""
    assistant = make_assistant("A secret answer.", "Another secret.")
    page = finish(assistant, ask(click(page_of(assistant), "private", on=1), "Whisper?"))
    assistant.private.end_all("local")
    reloaded = page_of(assistant, address=address_of(page))
    assert "no longer in the history" in words_on(reloaded)
    assert composer_of(reloaded)["private"] == "on"
    finish(assistant, ask(reloaded, "Again?"))
    assert assistant.conversations("local") == ()


@pytest.mark.parametrize("is_open", [True, False])
def test_nothing_of_a_private_conversation_that_is_gone_is_left_in_its_tab(
    make_assistant: MakeAssistant, is_open: bool
) -> None:
    """Neither the question for the arrow up nor a table that was being corrected, whether it was open or left."""
    assistant = make_assistant("| A |\n|---|\n| 1 |", "Yes.")
    page = finish(assistant, ask(click(page_of(assistant), "private", on=1), "Whisper?"))
    (turn,) = assistant.turns("local", int(address_of(page)["c"]))
    page = page.button(key=f"open-table-{turn.id}-table-0").click().run()
    page = page.button(key=f"row-{turn.id}-table-0").click().run()
    page = click(page, "edit", turn=turn.id)
    if not is_open:
        page = page.button(key="new").click().run()
    assert page.session_state["page_state"].table_drafts
    assistant.private.end_all("local")
    page = page.run()
    state = page.session_state["page_state"]
    assert composer_of(page)["last_question"] == ""
    assert not state.table_drafts and state.table_in_hand is None
    assert not state.loose and not state.opened and state.editing is None
    assert composer_of(page)["private"] == ("on" if is_open else "choice")
    assert ("no longer in the history" in words_on(page)) is is_open


def test_a_site_that_keeps_records_offers_no_private_conversations(make_assistant: MakeAssistant) -> None:
    """There is no switch, and a click on one that is not there changes nothing."""
    assistant = make_assistant("Yes.")
    assistant.private.may_begin = False
    page = click(page_of(assistant), "private", on=1)
    assert composer_of(page)["private"] == ""


def test_a_failed_question_is_one_sentence_and_can_be_asked_again(make_assistant: MakeAssistant) -> None:
    """An error of the engine is rendered in the reader's language, and the question is kept."""
    assistant = make_assistant(PromptTooLongError("queue.closed"), "Now it works.")
    page = finish(assistant, ask(page_of(assistant, locale="zh-CN"), "太长"))
    assert [warning.value for warning in page.warning] == ["应用正在关闭，不再接受问题。请重新启动应用。"]
    assert composer_of(page)["answered"] == [1, "应用正在关闭，不再接受问题。请重新启动应用。"]
    page = click(page, "again", turn=1)
    assert "Now it works." in words_on(finish(assistant, page))


def test_too_many_pictures_keep_the_question_in_the_composer(make_assistant: MakeAssistant) -> None:
    """A question over the limit is refused in a sentence; its pictures and text stay."""
    engine = FakeEngine(["Fine."])
    assistant = make_assistant(engine=engine, max_pictures=1)
    page = ask(page_of(assistant), "Compare", a__png=png(), b__png=png(colour="#ff0000"))
    assert "(1 at most)" in page.warning[0].value
    restored = composer_of(page)["restore"]
    assert restored["text"] == "Compare"
    finish(assistant, send(page, "Compare", restored["ids"][0]))
    assert len(engine.requests[0].messages[-1].images) == 1


def test_the_page_may_be_asked_while_the_model_still_loads(make_assistant: MakeAssistant) -> None:
    """While weights are read the page stands, tells how far they are, and takes a question that waits for them."""
    loading = threading.Event()
    assistant = make_assistant(engine=FakeEngine(["Ready."], loading=loading), waits=False)
    page = run_until(page_of(assistant), lambda page: page.progress and page.progress[0].value == 50)
    page = ask(page, "Are you there?")
    assert "still loading" in words_on(page)
    loading.set()
    assert "Ready." in words_on(finish(assistant, page))
