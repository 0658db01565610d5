"""The records page: what is found, what is asked before erasing, the receipt, bringing in, and checking."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.chat import ErasureReceipt, Fragment, Question, Table, TextPiece
from qwen_vl_app.corrections import CorrectedTable
from qwen_vl_app.errors import HistoryError, Reason, UsageError
from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode
from qwen_vl_app.ui import records_page
from qwen_vl_app.ui.holdings import LooseQuestion, TableDraft, View
from qwen_vl_app.ui.records_search import _marked
from tests.hub_parts import WAIT_S
from tests.ui.conftest import (
    MakeAssistant,
    _handed,
    address_of,
    ask,
    click,
    composer_of,
    correct_cells,
    finish,
    page_of,
    words_on,
)
from tests.ui.fakes import png


@pytest.fixture
def assistant(make_assistant: MakeAssistant) -> Assistant:
    """Two conversations, one of them about a picture."""
    made = make_assistant("A red lamp.", "号码是 42。")
    pictures = (made.stage(png(), "panel.png"),)
    for question in (Question("What is there?", pictures), Question("发票号码？")):
        assert made.ask(question).wait(WAIT_S) is not None
    return made


def records_of(assistant: Assistant, *, locale: str = "en-US") -> AppTest:
    page = page_of(assistant, locale=locale)
    return click(page, "page-records")


def found(page: AppTest) -> list[str]:
    return [button.label for button in page.button if (button.key or "").startswith("open-hit-")]


class TestFinding:
    def test_everything_is_there_and_words_narrow_it(self, assistant: Assistant) -> None:
        """Newest first; what was looked for is marked, Chinese included."""
        page = records_of(assistant)
        assert found(page) == ["发票号码？", "What is there?"]
        page.text_input(key="find-words").input("lamp").run()
        assert found(page) == ["What is there?"]
        assert "A red :yellow-background[**lamp**]" in words_on(page)
        page.text_input(key="find-words").input("号码").run()
        assert found(page) == ["发票号码？"]
        page.text_input(key="find-words").input("nowhere").run()
        assert found(page) == []
        assert "Nothing" in words_on(page) or "nothing" in words_on(page)

    def test_by_picture_and_by_day(self, assistant: Assistant) -> None:
        """In the reader's own days."""
        page = records_of(assistant)
        page.segmented_control(key="find-pictures").set_value("with").run()
        assert found(page) == ["What is there?"]
        page.segmented_control(key="find-pictures").set_value("without").run()
        assert found(page) == ["发票号码？"]
        today = datetime.now(UTC).date()
        page.segmented_control(key="find-pictures").set_value("any").run()
        page.date_input(key="find-range").set_value((today, today)).run()
        assert len(found(page)) == 2
        page.date_input(key="find-range").set_value((today.replace(year=2020), today.replace(year=2020))).run()
        assert found(page) == []

    def test_a_hit_opens_its_conversation_at_that_turn(self, assistant: Assistant) -> None:
        """On the branch where it is, though another one is shown."""
        first = assistant.conversations(LOCAL_OWNER)[-1]
        (turn,) = assistant.turns(LOCAL_OWNER, first.id)
        again = assistant.records.question_of(LOCAL_OWNER, turn.id, text="Something else?")
        assistant._engine.replies.append("Else.")  # type: ignore[attr-defined]
        assert assistant.ask(again, beside=turn.id).wait(WAIT_S) is not None
        page = records_of(assistant)
        page.text_input(key="find-words").input("lamp").run()
        page.button(key=f"open-hit-{turn.id}").click().run()
        assert address_of(page)["c"] == str(first.id)
        assert [each.id for each in assistant.turns(LOCAL_OWNER, first.id)] == [turn.id]

    def test_many_are_leafed_through(self, make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every one is seen once."""
        monkeypatch.setattr("qwen_vl_app.ui.records_search.HITS_AT_ONCE", 2)
        count = 5
        made = make_assistant(*(["ok"] * count))
        for number in range(count):
            assert made.ask(Question(f"Question {number}?")).wait(WAIT_S) is not None
        page = records_of(made)
        seen = found(page)
        for _ in range(2):
            page.button(key="leaf-after").click().run()
            seen += found(page)
        assert page.button(key="leaf-after").disabled
        assert sorted(seen) == sorted(f"Question {number}?" for number in range(count))
        page.text_input(key="find-words").input("3").run()
        assert page.button(key="open-hit-4")

    def test_strangers_words_stay_words(self) -> None:
        """Signs of the page's dialect mean themselves, and spaces around a match stay."""
        fragment = Fragment(
            "answer", (TextPiece("see [a](http://b) "), TextPiece("*x]*", is_match=True), TextPiece(" $1$"))
        )
        assert _marked(fragment) == r"see \[a\]\(`http://b`\) :yellow-background[**\*x\]\***] \$1\$"


@pytest.fixture
def tables(make_assistant: MakeAssistant) -> Assistant:
    """One that answers with a table, and then in words."""
    return make_assistant("| Tag | Bar |\n|---|---|\n| 101 | 15 |", "Yes.")


def _unsaved(assistant: Assistant) -> AppTest:
    """Return the records page of a tab in which much was begun and nothing is saved."""
    page = finish(assistant, ask(page_of(assistant), "Table"))
    page = correct_cells(page.button(key="open-table-1-table-0").click().run(), {0: {"Bar": "1.5"}})
    state = page.session_state["page_state"]
    state.forms.sample, state.forms.sample_at = assistant.stage(png(), "sample.png"), datetime.now(UTC)
    state.loose = [LooseQuestion("Not kept?", (), None, cast("AnswerJob", SimpleNamespace()))]
    return click(page, "page-records")


def _erased_days(page: AppTest, day: date) -> AppTest:
    page = page.date_input(key="erase-range").set_value((day, day)).run()
    return page.button(key="erase-days-ask").click().run().button(key="erase-sure").click().run()


class TestErasing:
    def test_a_tab_holds_nothing_of_what_was_erased(self, assistant: Assistant) -> None:
        """Neither the picture beside the editor of templates, nor a table that was being corrected, nor what is looked for."""
        page = click(page_of(assistant, conversation=1), "edit", turn=1)
        state = page.session_state["page_state"]
        state.forms.sample, state.forms.tried = assistant.stage(png(), "sample.png"), Reason("tasks.unknown")
        table = CorrectedTable(Table(("A",), (("1",),)), (0,))
        state.table_drafts["1-table-0"] = TableDraft(table, 1, 1)
        state.search = "lamp"
        page = click(page, "page-records")
        page.button(key="erase-everything-ask").click().run()
        page.run()  # the question stands until it is answered
        page.button(key="erase-sure").click().run()
        assert "Erased. Receipt 1" in words_on(page) and not page.get("dialog")
        assert (state.forms.sample, state.forms.tried, state.search, state.last_question) == (None, None, "", "")
        assert not state.table_drafts and state.pictures_before is None
        assert state.editing is None and not state.opened and state.conversation_id is None

    def test_other_days_leave_what_is_not_saved_yet(self, tables: Assistant) -> None:
        """Cells, a question that could not be kept, pictures that wait: all of today. With today they go."""
        page = _unsaved(tables)
        state, waiting = page.session_state["page_state"], tables.stage(png(), "waits.png")
        tables.staging.put(LOCAL_OWNER, waiting)
        page = _erased_days(page, date(2020, 1, 2))
        assert "Questions with their answers: 0" in words_on(page)
        assert list(state.table_drafts) == ["1-table-0"] and state.opened == {1} and len(state.loose) == 1
        assert state.conversation_id == 1 and state.forms.sample is not None
        assert tables.staging.get(LOCAL_OWNER, waiting.staged_id) is waiting
        assert list(click(page, "page-chat").dataframe[0].value["Bar"]) == ["1.5"]

        page = _erased_days(click(page, "page-records"), datetime.now(UTC).date())
        assert "Questions with their answers: 1" in words_on(page)
        assert not state.table_drafts and not state.opened and not state.loose
        assert state.conversation_id is None and state.forms.sample is None
        with pytest.raises(UsageError, match=r"staging\.gone"):
            tables.staging.get(LOCAL_OWNER, waiting.staged_id)

    def test_what_is_still_there_of_a_conversation_stays_open(self, tables: Assistant) -> None:
        """One of its questions goes, and the unsaved cells with it; the page is not thrown out of the conversation."""
        page = _unsaved(tables)
        state = page.session_state["page_state"]
        question = Question("And now?", conversation_id=1)
        assert tables.ask(question, owner=LOCAL_OWNER).wait(WAIT_S) is not None
        first, _ = tables.turns(LOCAL_OWNER, 1)
        records = tables.records
        _handed(page)[1].append(
            lambda visit: records_page._erase(visit, lambda: records.erase_turn(LOCAL_OWNER, first.id))
        )
        page = page.run()
        assert not state.table_drafts and not state.opened
        assert (state.conversation_id, state.view) == (1, View.RECORDS)
        assert composer_of(click(page, "page-chat"))["last_question"] == "And now?"

    @pytest.mark.parametrize("what", ["everything", "days"])
    def test_an_erasing_that_is_refused_takes_nothing(
        self, tables: Assistant, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """Neither on the disk nor in the tab; and it says why."""

        def refuse(*_: object, **__: object) -> ErasureReceipt:
            raise HistoryError("history.disk_full")

        page = _unsaved(tables)
        state = page.session_state["page_state"]
        monkeypatch.setattr(tables.records, "erase_everything", refuse)
        monkeypatch.setattr(tables.records, "erase_period", refuse)
        if what == "days":
            page = _erased_days(page, datetime.now(UTC).date())
        else:
            page = page.button(key="erase-everything-ask").click().run()
            page = page.button(key="erase-sure").click().run()
        assert "The disk is full" in words_on(page) and not page.get("dialog")
        assert list(state.table_drafts) == ["1-table-0"] and state.opened == {1} and len(state.loose) == 1
        assert state.conversation_id == 1 and state.forms.sample is not None
        assert list(click(page, "page-chat").dataframe[0].value["Bar"]) == ["1.5"]

    @pytest.mark.parametrize("is_refused", [False, True])
    def test_what_is_typed_for_a_private_conversation_that_went_is_not_kept(
        self, make_assistant: MakeAssistant, monkeypatch: pytest.MonkeyPatch, is_refused: bool
    ) -> None:
        """Private ones go before what is on the disk, and so also where that is refused; the tab stays private."""
        made = make_assistant("A secret.")
        page = finish(made, ask(click(page_of(made), "private", on=1), "Whisper?"))

        def refuse(*_: object) -> ErasureReceipt:
            raise HistoryError("history.disk_full")

        if is_refused:
            monkeypatch.setattr(made.records._history, "erase_everything", refuse)
        page = click(page, "page-records").button(key="erase-everything-ask").click().run()
        page = page.button(key="erase-sure").click().run()
        assert ("The disk is full" in words_on(page)) is is_refused
        page = click(page, "page-chat")
        assert composer_of(page)["conversation"] is None and composer_of(page)["private"] == "on"
        assert composer_of(page)["last_question"] == ""

    def test_everything_goes_after_a_question_and_leaves_a_receipt(self, assistant: Assistant) -> None:
        """Nothing is erased by the first click."""
        page = records_of(assistant)
        page.button(key="erase-everything-ask").click().run()
        assert len(assistant.conversations(LOCAL_OWNER)) == 2
        page.button(key="erase-sure").click().run()
        assert assistant.conversations(LOCAL_OWNER) == ()
        said = words_on(page)
        assert "Erased. Receipt 1" in said
        assert "Questions with their answers: 2" in said
        assert "Pictures: 1, files: " in said
        assert "c" not in address_of(page)
        assert page.dataframe[0].value.shape[0] == 1

    def test_days_are_chosen_first(self, assistant: Assistant) -> None:
        """In the reader's own zone, both days included."""
        page = records_of(assistant)
        assert page.button(key="erase-days-ask").disabled
        today = datetime.now(UTC).date()
        page.date_input(key="erase-range").set_value((today.replace(year=2020), today.replace(year=2020))).run()
        page.button(key="erase-days-ask").click().run()
        page.button(key="erase-sure").click().run()
        assert len(assistant.conversations(LOCAL_OWNER)) == 2
        page.date_input(key="erase-range").set_value((today, today)).run()
        page.button(key="erase-days-ask").click().run()
        page.button(key="erase-sure").click().run()
        assert assistant.conversations(LOCAL_OWNER) == ()

    def test_a_pending_receipt_is_completed(self, assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
        """It says why, and a button tries again."""
        at = datetime.now(UTC)
        monkeypatch.setattr(
            assistant.records, "erase_everything", lambda _owner: ErasureReceipt(7, "everything", at, None, turns=3)
        )
        monkeypatch.setattr(assistant.records, "settle", lambda: True)
        monkeypatch.setattr(
            assistant.records,
            "receipts",
            lambda _owner, limit=50: (ErasureReceipt(7, "everything", at, at, turns=3),),
        )
        page = records_of(assistant)
        page.button(key="erase-everything-ask").click().run()
        page.button(key="erase-sure").click().run()
        assert "not yet gone" in words_on(page)
        page.button(key="settle").click().run()
        assert "Erased. Receipt 7" in words_on(page)

    def test_a_site_that_keeps_records_says_so(self, tmp_path: Path, make_assistant: MakeAssistant) -> None:
        """And offers no erasing."""
        assistant = make_assistant(keep="records")
        assistant.records._history._keeping = Keeping(KeepingMode.RECORDS)  # the fixture's history knows no policy
        page = records_of(assistant)
        said = words_on(page)
        assert "keeps everything as records" in said
        assert "Nothing is erased here" in said
        assert not [button for button in page.button if (button.key or "").startswith("erase-")]


class TestTakingAndChecking:
    def test_an_archive_is_brought_in(self, assistant: Assistant) -> None:
        """Its conversations stand in the list; a file that is none is refused in a sentence."""
        target = io.BytesIO()
        assistant.records.export(target, owner=LOCAL_OWNER)
        page = records_of(assistant)
        page.file_uploader(key="import-0").upload("all.zip", target.getvalue(), "application/zip").run()
        page.button(key="import-do").click().run()
        assert len(assistant.conversations(LOCAL_OWNER)) == 4
        assert "Conversations imported: 2" in page.success[0].value
        page.file_uploader(key="import-1").upload("none.zip", b"none", "application/zip").run()
        page.button(key="import-do").click().run()
        assert len(assistant.conversations(LOCAL_OWNER)) == 4
        assert page.warning

    def test_what_was_changed_is_found(self, assistant: Assistant, tmp_path: Path) -> None:
        """A sound history says so; a changed line of the audit file is named."""
        page = records_of(assistant)
        page.button(key="verify").click().run()
        assert "Everything is intact" in page.success[0].value
        file = tmp_path / "data" / "audit.jsonl"
        file.write_bytes(file.read_bytes().replace(b"answered", b"unanswer"))
        page.button(key="verify").click().run()
        assert not page.success
        assert page.warning

    def test_the_figures_of_stored_answers(self, assistant: Assistant) -> None:
        """What was saved, and a way to have everything answered anew."""
        page = records_of(assistant)
        shown = {each.label: each.value for each in page.metric}
        assert shown["Stored"] == "2"
        page.button(key="forget-answers").click().run()
        assert {each.label: each.value for each in page.metric}["Stored"] == "0"

    @pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
    def test_it_speaks_both_languages(self, assistant: Assistant, locale: str) -> None:
        """No code is left as it is."""
        page = records_of(assistant, locale=locale)
        assert "ui.records" not in words_on(page)
        assert not page.exception


def test_a_history_that_cannot_be_read_says_why(tmp_path: Path, make_assistant: MakeAssistant) -> None:
    """And nothing else."""
    other = HistoryStore(tmp_path / "data")
    other.open(port=1234)
    try:
        page = records_of(make_assistant())
        assert "1234" in page.warning[0].value
        assert not page.tabs
    finally:
        other.close()
