"""Private conversations: they do what others do, in memory alone, for one owner, and end for good."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, FinishReason, Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError, InferenceError, Reason, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.logs import keep_words_out
from qwen_vl_app.private import PRIVATE_FROM, PrivateConversations, is_private
from qwen_vl_app.records import find_traces
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings, wait_until_let_go

OWNER, OTHER = "a-browser", "another-browser"
MARKER = "zqx-canary-7741"
Opener = Callable[..., Assistant]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of the test's assistant."""
    return tmp_path / "data"


@pytest.fixture
def open_assistant(folder: Path) -> Iterator[Opener]:
    """Opens a loaded assistant around an engine, and closes it at the end."""
    with ExitStack() as stack:

        def opened(engine: FakeEngine, **settings: object) -> Assistant:
            site = replace_settings(data_dir=folder, **settings)
            assistant = stack.enter_context(an_assistant(engine, folder, settings=site))
            assistant.wait_until_loaded(WAIT_S)
            return assistant

        yield opened


def ended(job: AnswerJob) -> Answer:
    answer = job.wait(WAIT_S)
    assert answer is not None, job.progress()
    return answer


def asked(assistant: Assistant, text: str, *pictures: StagedPicture, owner: str = OWNER, **how: object) -> AnswerJob:
    conversation = how.pop("conversation_id", None)
    assert conversation is None or isinstance(conversation, int)
    question = Question(text, pictures, conversation_id=conversation)
    job = assistant.ask(question, owner=owner, **how)  # type: ignore[arg-type]
    ended(job)
    wait_until_let_go(assistant, job)
    return job


def begun(assistant: Assistant, text: str = "Private?", *pictures: StagedPicture, owner: str = OWNER) -> int:
    """The id of a new private conversation with one answered question."""
    return number(asked(assistant, text, *pictures, owner=owner, is_private=True).conversation_id)


def number(given: int | None) -> int:
    assert given is not None
    return given


class TestItsLife:
    def test_it_is_asked_continued_branched_shown_and_taken_away(self, open_assistant: Opener) -> None:
        """Everything that a page does with a conversation goes by its id."""
        engine = FakeEngine(["one", "two", "two again"])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(), "panel.png")
        first = asked(assistant, "First?", picture, is_private=True)
        where = number(first.conversation_id)
        second = asked(assistant, "Second?", conversation_id=where)
        assert [message.text for message in engine.requests[-1].messages] == ["First?", "one", "Second?"]
        again = assistant.ask(
            assistant.records.question_of(OWNER, number(second.turn_id)), owner=OWNER, beside=second.turn_id
        )
        assert ended(again).text == "two again"
        assistant.records.switch(OWNER, number(second.turn_id))
        turns = assistant.turns(OWNER, where)
        assert [(turn.question, turn.state) for turn in turns] == [
            ("First?", TurnState.DONE),
            ("Second?", TurnState.DONE),
        ]
        assert len(assistant.records.branches(OWNER, number(second.turn_id))) == 2
        assert assistant.picture(OWNER, turns[0].pictures[0].id, Rendition.UPLOAD).data == a_file()
        assistant.rename(OWNER, where, "mine")
        assert assistant.conversation(OWNER, where).title == "mine"
        target = io.BytesIO()
        assert assistant.records.export(target, owner=OWNER, conversation_id=where) == 1
        assert any(name.endswith("conversation.md") for name in zipfile.ZipFile(target).namelist())

    def test_its_ids_are_never_those_of_kept_ones(self, open_assistant: Opener) -> None:
        """Conversations, turns and pictures alike, and a site that keeps nothing has ids of its own, too."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        where = begun(assistant, "Private?", assistant.stage(a_file(), "p.png"))
        (turn,) = assistant.turns(OWNER, where)
        kept = asked(assistant, "Kept?")
        assert all(map(is_private, (where, turn.id, turn.pictures[0].id)))
        assert not is_private(kept.conversation_id)
        assert not is_private(kept.turn_id)
        in_memory = HistoryStore(None)
        in_memory.open()
        other = in_memory.begin_turn(OWNER, Question("?"), title="t")
        in_memory.close()
        assert other.id < PRIVATE_FROM < 10**15, "an address takes fifteen digits"

    def test_what_runs_in_it_is_found_and_followed(self, open_assistant: Opener) -> None:
        """A reloaded page goes on showing the answer that is being made."""
        gate = threading.Semaphore(0)
        assistant = open_assistant(FakeEngine(["slow answer"], gate=gate))
        job = assistant.ask(Question("?"), owner=OWNER, is_private=True)
        assert assistant.running(OWNER, number(job.conversation_id)) == (job,)
        gate.release()
        assert ended(job).text == "slow answer"

    def test_it_is_in_no_list_and_found_by_no_search(self, open_assistant: Opener) -> None:
        """Not even its owner's."""
        assistant = open_assistant(FakeEngine(["one"]))
        begun(assistant, "Unfindable?")
        assert assistant.conversations(OWNER) == ()
        assert assistant.records.search(OWNER, "Unfindable").hits == ()
        assert assistant.records.owners() == ()

    def test_nobody_else_sees_it(self, open_assistant: Opener) -> None:
        """Neither the conversation nor a turn nor a picture, and nobody continues, leaves or ends it."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        where = begun(assistant, "Mine?", assistant.stage(a_file(), "p.png"))
        (turn,) = assistant.turns(OWNER, where)
        for attempt in (
            lambda: assistant.conversation(OTHER, where),
            lambda: assistant.turns(OTHER, where),
            lambda: assistant.turn(OTHER, turn.id),
            lambda: assistant.picture(OTHER, turn.pictures[0].id, Rendition.THUMBNAIL),
            lambda: assistant.ask(Question("?", conversation_id=where), owner=OTHER),
            lambda: assistant.ask(Question("?"), owner=OTHER, beside=turn.id),
            lambda: assistant.private.end(OTHER, where),
            lambda: assistant.delete(OTHER, where),
            lambda: assistant.records.erase_turn(OTHER, turn.id),
        ):
            with pytest.raises(HistoryError, match=r"history\.not_found"):
                attempt()
        assistant.private.leave(OTHER, where)
        assert assistant.running(OTHER, where) == ()
        assert assistant.turns(OWNER, where) == (turn,)


class TestNothingOfItStays:
    def test_no_byte_of_it_reaches_a_file_or_a_log(
        self,
        open_assistant: Opener,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        request: pytest.FixtureRequest,
    ) -> None:
        """Question, answer, name and pixels of answered, stopped, failed and continued ones; a kept one is found."""
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        caplog.set_level(logging.DEBUG)
        request.addfinalizer(keep_words_out())
        engine = FakeEngine(
            [f"{MARKER} one", f"{MARKER} two", RuntimeError(MARKER), InferenceError("app.unexpected"), "five", "six"]
        )
        assistant = open_assistant(engine)
        picture = replace(assistant.stage(a_file(), "p.png"), name=f"{MARKER}.png", upload=MARKER.encode() * 3)
        where = begun(assistant, f"{MARKER}?", picture)
        for text in ("two", "breaks", "fails", "five"):
            asked(assistant, f"{MARKER} {text}", picture, conversation_id=where)
        assistant.rename(OWNER, where, f"{MARKER} title")
        assistant.records.correct(OWNER, assistant.turns(OWNER, where)[0].id, f"{MARKER} corrected")
        assert len(assistant.turns(OWNER, where)) == 5
        assert find_traces([folder, temporary], MARKER).files == ()
        assert MARKER not in caplog.text
        asked(assistant, "An ordinary one?")
        assistant.close()
        assert find_traces([folder, temporary], MARKER).files == ()
        assert find_traces([folder], "An ordinary one?").files != (), "the search would have found it"

    def test_it_is_neither_answered_from_storage_nor_kept_for_it(self, open_assistant: Opener) -> None:
        """Even using a kept answer would leave a trace, and a private answer is given to nobody again."""
        engine = FakeEngine(["kept", "private", "private again"])
        assistant = open_assistant(engine)
        asked(assistant, "The same?")
        begun(assistant, "The same?")
        begun(assistant, "The same?")
        assert len(engine.requests) == 3
        figures = assistant.records.cache_figures()
        assert (figures.entries, figures.hits, figures.misses) == (1, 0, 1)

    def test_a_broken_history_does_not_stop_it(self, folder: Path) -> None:
        """It needs no disk."""
        folder.write_text("no folder", encoding="utf-8")
        with an_assistant(FakeEngine(["one"]), folder) as assistant:
            assistant.wait_until_loaded(WAIT_S)
            assert assistant.status.history_problem is not None
            where = begun(assistant)
            (turn,) = assistant.turns(OWNER, where)
            assert turn.answer is not None
            assert turn.answer.notes == ()


class TestItsEnd:
    def test_ending_it_stops_what_runs_and_makes_the_model_forget(self, open_assistant: Opener) -> None:
        """Afterwards nothing of it is found, and the picture that another tab staged is still there."""
        engine = FakeEngine(["never said"], gate=threading.Semaphore(0))
        assistant = open_assistant(engine)
        staged = assistant.stage(a_file(), "next.png")
        assistant.staging.put(OWNER, staged)
        job = assistant.ask(Question("?"), owner=OWNER, is_private=True)
        where = number(job.conversation_id)
        receipt = assistant.private.end(OWNER, where)
        assert (receipt.is_complete, receipt.turns) == (True, 1)
        assert ended(job).finish_reason is FinishReason.STOPPED
        assert job.state is JobState.STOPPED
        assert engine.forgotten >= 1
        assert assistant.staging.get(OWNER, staged.staged_id) is staged
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            assistant.turns(OWNER, where)

    def test_deleting_and_erasing_reach_it(self, open_assistant: Opener) -> None:
        """As a conversation, as a turn, as part of a day and of everything; others' stay."""
        assistant = open_assistant(FakeEngine(["answer"] * 6))
        others = begun(assistant, owner=OTHER)
        deleted, day, everything, turn = (begun(assistant) for _ in range(4))
        assistant.delete(OWNER, deleted)
        assistant.records.erase_turn(OWNER, assistant.turns(OWNER, turn)[0].id)
        now = datetime.now(UTC)
        for where in (deleted, turn):
            with pytest.raises(HistoryError):
                assistant.turns(OWNER, where)
        assistant.records.erase_period(OWNER, since=now - timedelta(days=2), until=now - timedelta(days=1))
        assert assistant.turns(OWNER, day)
        assistant.records.erase_period(OWNER, since=now - timedelta(days=1), until=now + timedelta(days=1))
        with pytest.raises(HistoryError):
            assistant.turns(OWNER, day)
        last = begun(assistant)
        assistant.records.erase_everything(OWNER)
        for where in (everything, last):
            with pytest.raises(HistoryError):
                assistant.turns(OWNER, where)
        assert assistant.turns(OTHER, others)

    def test_a_site_that_keeps_records_has_none(self, open_assistant: Opener) -> None:
        """The refusal says what to do, and nothing was asked."""
        engine = FakeEngine(["one"])
        assistant = open_assistant(engine, keep="records")
        assert not assistant.private.may_begin
        with pytest.raises(UsageError, match=r"private\.site_keeps_records"):
            assistant.ask(Question("?"), owner=OWNER, is_private=True)
        assert engine.requests == []


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class TestTime:
    """What nobody looks at goes; what was left goes soon."""

    @pytest.fixture
    def clock(self) -> _Clock:
        return _Clock()

    @pytest.fixture
    def busy(self) -> set[int]:
        return set()

    @pytest.fixture
    def private(self, clock: _Clock, busy: set[int]) -> Iterator[PrivateConversations]:
        made = PrivateConversations(
            lifetime_s=100.0,
            watched_lifetime_s=1000.0,
            grace_s=10.0,
            look_every_s=3600.0,
            clock=clock,
            is_busy=lambda _owner, where: where in busy,
            bytes_per_owner=1000,
            bytes_in_all=1500,
        )
        yield made
        made.close()

    def begin(self, private: PrivateConversations, *pictures: StagedPicture, owner: str = OWNER) -> int:
        return private.begin_turn(owner, Question("?", pictures), title="t").conversation_id

    def test_one_that_is_looked_at_stays(self, private: PrivateConversations, clock: _Clock) -> None:
        """And one that is not, goes."""
        seen, unseen = self.begin(private), self.begin(private)
        clock.now_s += 99
        private.touch(OWNER, seen)
        private.touch(OTHER, unseen)
        clock.now_s += 2
        assert private.sweep() == 1
        assert private.history.turns(OWNER, seen)
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            private.history.turns(OWNER, unseen)

    def test_one_that_was_left_goes_soon_unless_the_page_was_only_reloaded(
        self, private: PrivateConversations, clock: _Clock
    ) -> None:
        """Somebody who closes the tab need not trust in hours; an answer in the making does not keep it."""
        closed, reloaded = self.begin(private), self.begin(private)
        private.leave(OWNER, closed)
        private.leave(OWNER, reloaded)
        private.touch(OWNER, reloaded)
        clock.now_s += 11
        assert private.sweep() == 1
        assert private.history.turns(OWNER, reloaded)

    def test_one_that_is_open_in_a_tab_stays_until_the_last_is_closed(
        self, private: PrivateConversations, clock: _Clock
    ) -> None:
        """An open tab that nobody touches keeps it longer; a tab of somebody else's counts for nothing."""
        where = self.begin(private)
        private.enter(OWNER, where)
        private.enter(OWNER, where)
        private.enter(OTHER, where)
        private.leave(OWNER, where)
        private.leave(OTHER, where)
        clock.now_s += 900
        assert private.sweep() == 0
        private.leave(OWNER, where)
        clock.now_s += 11
        assert private.sweep() == 1

    def test_a_tab_that_never_said_that_it_closed_does_not_keep_it_for_ever(
        self, private: PrivateConversations, clock: _Clock
    ) -> None:
        """A browser may be killed."""
        private.enter(OWNER, self.begin(private))
        clock.now_s += 1001
        assert private.sweep() == 1

    def test_a_long_answer_is_not_cut_off(self, private: PrivateConversations, clock: _Clock, busy: set[int]) -> None:
        """Unless its page was left."""
        where = self.begin(private)
        busy.add(where)
        clock.now_s += 200
        assert private.sweep() == 0
        private.leave(OWNER, where)
        clock.now_s += 11
        assert private.sweep() == 1

    def test_a_thread_looks_by_itself(self, clock: _Clock) -> None:
        """Nobody has to call anything."""
        private = PrivateConversations(lifetime_s=100.0, look_every_s=0.01, clock=clock)
        where = self.begin(private)
        clock.now_s += 101
        gone = threading.Event()
        for _ in range(6000):
            try:
                private.history.turns(OWNER, where)
            except HistoryError:
                gone.set()
                break
            gone.wait(0.01)
        private.close()
        assert gone.is_set()

    def test_they_hold_so_much_and_no_more(
        self, private: PrivateConversations, picture_of: Callable[[int], StagedPicture]
    ) -> None:
        """Of one owner and of all; ending one makes room."""
        first = self.begin(private, picture_of(900))
        with pytest.raises(UsageError, match=r"private\.too_much"):
            self.begin(private, picture_of(200))
        self.begin(private, picture_of(500), owner=OTHER)
        private.end(OWNER, first)
        self.begin(private, picture_of(900))
        with pytest.raises(UsageError, match=r"private\.too_much"):
            self.begin(private, picture_of(200), owner="a-third-browser")

    def test_closing_lets_all_go(self, private: PrivateConversations) -> None:
        """And takes none any more."""
        self.begin(private)
        private.close()
        with pytest.raises(HistoryError, match=r"history\.closed"):
            self.begin(private)


@pytest.fixture
def picture_of(tmp_path: Path) -> Callable[[int], StagedPicture]:
    """Makes pictures that take about so many bytes."""
    with an_assistant(FakeEngine([]), tmp_path / "elsewhere") as assistant:
        assistant.wait_until_loaded(WAIT_S)
        made = assistant.stage(a_file(28, 28), "p.png")

    def of(count: int) -> StagedPicture:
        return replace(made, upload=b"u" * count, view=b"", thumbnail=b"", seen_png=b"")

    return of


def test_a_reason_for_what_it_cannot_promise(folder: Path) -> None:
    """Where another server answers, that server may remember."""
    site = replace_settings(data_dir=folder, remote_address="http://127.0.0.1:9/v1")
    with an_assistant(FakeEngine(["one"]), folder, settings=site) as assistant:
        assistant.wait_until_loaded(WAIT_S)
        receipt = assistant.private.end(OWNER, begun(assistant))
    assert Reason("records.server_may_remember") in receipt.caveats
