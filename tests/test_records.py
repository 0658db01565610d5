"""What is kept, as the doors use it: branches, replays, answers from storage, erasing that stops and forgets, policies."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from PIL import Image

from qwen_vl_app import bootstrap
from qwen_vl_app import records as records_module
from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import (
    Answer,
    Detail,
    EarlierMessage,
    FinishReason,
    Message,
    Question,
    SamplingParams,
    Size,
    StagedPicture,
    TurnState,
)
from qwen_vl_app.config import Settings, load_settings
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError, InferenceError, OutOfMemoryError, Reason, UsageError
from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode
from qwen_vl_app.imaging import PictureDecoder, to_image_input
from qwen_vl_app.records import Records, day_of, find_traces, restore_backup
from tests.hub_parts import WAIT_S, a_file, an_assistant, wait_until_let_go

OWNER = "a-browser"
OTHER = "another-browser"
Opener = Callable[..., Assistant]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of the test's assistant."""
    return tmp_path / "data"


@pytest.fixture
def open_assistant(folder: Path) -> Iterator[Opener]:
    """Opens a loaded assistant around an engine, and closes it at the end."""
    with ExitStack() as stack:

        def opened(
            engine: FakeEngine, *, keeping: Keeping | None = None, settings: Settings | None = None
        ) -> Assistant:
            history = HistoryStore(folder, keeping=keeping)
            assistant = stack.enter_context(an_assistant(engine, folder, history=history, settings=settings))
            assistant.wait_until_loaded(WAIT_S)
            return assistant

        yield opened


def ended(job: AnswerJob) -> Answer:
    answer = job.wait(WAIT_S)
    assert answer is not None, job.progress()
    return answer


def asked(assistant: Assistant, text: str, *pictures: StagedPicture, **how: object) -> AnswerJob:
    """A question that is over, its cache entry written."""
    conversation = how.pop("conversation_id", None)
    sampling = how.pop("sampling", SamplingParams())
    assert isinstance(sampling, SamplingParams)
    assert conversation is None or isinstance(conversation, int)
    question = Question(text, pictures, conversation_id=conversation, sampling=sampling)
    job = assistant.ask(question, **{"owner": OWNER, **how})  # type: ignore[arg-type]
    ended(job)
    wait_until_let_go(assistant, job)
    return job


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [message.text for message in messages]


def notes(job: AnswerJob) -> list[str]:
    return [note.code for note in ended(job).notes]


def turn_id(job: AnswerJob) -> int:
    assert job.turn_id is not None
    return job.turn_id


class TestAskingAgain:
    def test_a_sibling_is_told_only_of_the_turns_before_it(self, open_assistant: Opener) -> None:
        """The turn whose place it takes, and what continues that, stay out of its prompt."""
        engine = FakeEngine(["one", "two", "three", "two again"])
        assistant = open_assistant(engine)
        first = asked(assistant, "First?")
        second = asked(assistant, "Second?", conversation_id=first.conversation_id)
        asked(assistant, "Third?", conversation_id=first.conversation_id)
        sibling = asked(assistant, "Second, differently?", beside=turn_id(second))
        assert texts(engine.requests[-1].messages) == ["First?", "one", "Second, differently?"]
        assert sibling.conversation_id == first.conversation_id
        shown = assistant.turns(OWNER, first.conversation_id or 0)
        assert [turn.question for turn in shown] == ["First?", "Second, differently?"]
        assert shown[-1].branch_ids == (second.turn_id, sibling.turn_id)

    def test_the_next_question_follows_the_shown_branch(self, open_assistant: Opener) -> None:
        """After switching back, the model is told of that branch, down to its end."""
        engine = FakeEngine(["one", "two", "other one", "three"])
        assistant = open_assistant(engine)
        first = asked(assistant, "First?")
        asked(assistant, "Second?", conversation_id=first.conversation_id)
        other = asked(assistant, "Other first?", beside=turn_id(first))
        branches = assistant.records.branches(OWNER, turn_id(other))
        assert [turn.question for turn in branches] == ["First?", "Other first?"]
        assistant.records.switch(OWNER, turn_id(first))
        asked(assistant, "Third?", conversation_id=first.conversation_id)
        assert texts(engine.requests[-1].messages) == ["First?", "one", "Second?", "two", "Third?"]

    def test_a_kept_question_is_asked_with_the_pictures_that_the_model_saw(self, open_assistant: Opener) -> None:
        """Not staged again: what was seen small is seen small, whatever the plan says today."""
        engine = FakeEngine(["small", "again"])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(5600, 2800), "panel.png", detail=Detail.LOW_MEMORY)
        job = asked(assistant, "What is it?", picture)
        question = assistant.records.question_of(OWNER, turn_id(job), text="And now?")
        (again,) = question.pictures
        assert (again.seen, again.seen_png, again.upload) == (picture.seen, picture.seen_png, picture.upload)
        assert (again.picture_id, again.name, again.size) == (picture.picture_id, "panel.png", Size(5600, 2800))
        ended(assistant.ask(question, owner=OWNER, beside=turn_id(job)))
        assert texts(engine.requests[-1].messages) == ["And now?"]
        assert engine.requests[0].messages[0].images == engine.requests[1].messages[0].images

    def test_nobody_asks_beside_a_turn_of_somebody_else(self, open_assistant: Opener) -> None:
        """It is not found, and nothing is kept or asked."""
        engine = FakeEngine(["one"])
        assistant = open_assistant(engine)
        job = asked(assistant, "Mine?")
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            assistant.ask(Question("Yours?"), owner=OTHER, beside=turn_id(job))
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            assistant.records.question_of(OTHER, turn_id(job))
        assert assistant.conversations(OTHER) == ()


class TestReplay:
    def test_a_turn_played_again_says_that_it_is_the_same(self, open_assistant: Opener) -> None:
        """The model gets the same prompt, and nothing of the replay is kept or shown."""
        engine = FakeEngine(["one", "two", "two"])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(), "a.png")
        first = asked(assistant, "First?", picture)
        second = asked(assistant, "Second?", conversation_id=first.conversation_id)
        result = assistant.replays.run(OWNER, turn_id(second))
        assert (result.is_same, result.is_same_model, result.is_same_precision) == (True, True, True)
        assert result.differs_at is None
        assert engine.requests[-1].messages == engine.requests[-2].messages
        assert len(assistant.turns(OWNER, first.conversation_id or 0)) == 2
        assert assistant.running(OWNER, first.conversation_id or 0) == ()

    def test_another_answer_is_told_with_its_place(self, open_assistant: Opener) -> None:
        """The first character that differs is named; so is a text that only goes on."""
        assistant = open_assistant(FakeEngine(["00427.5", "00421.5", "00427.5 kWh"]))
        job = asked(assistant, "Read.")
        assert (assistant.replays.run(OWNER, turn_id(job)).differs_at, job.text) == (4, "00427.5")
        result = assistant.replays.run(OWNER, turn_id(job))
        assert (result.is_same, result.differs_at) == (False, 7)

    def test_another_model_is_told(self, open_assistant: Opener, folder: Path) -> None:
        """The weights of the kept answer and those of now are compared by their fingerprints."""
        with an_assistant(FakeEngine(["one"], model="small"), folder) as before:
            before.wait_until_loaded(WAIT_S)
            job = asked(before, "Read.")
        result = open_assistant(FakeEngine(["one"], model="large")).replays.run(OWNER, turn_id(job))
        assert (result.is_same, result.is_same_model, result.model) == (True, False, "large")

    def test_what_was_left_to_chance_is_refused(self, open_assistant: Opener) -> None:
        """A temperature without a seed cannot be compared; with one it can."""
        assistant = open_assistant(FakeEngine(["one", "two", "two"]))
        job = asked(assistant, "Say something.", sampling=SamplingParams(temperature=0.7))
        with pytest.raises(UsageError, match=r"records\.replay_left_to_chance"):
            assistant.replays.run(OWNER, turn_id(job))
        seeded = asked(assistant, "Say something.", sampling=SamplingParams(temperature=0.7, seed=3))
        assert assistant.replays.run(OWNER, turn_id(seeded)).is_same

    def test_a_failed_turn_is_refused_and_a_failing_replay_says_why(self, open_assistant: Opener) -> None:
        """Neither is compared with anything."""
        engine = FakeEngine([InferenceError("engine.run_failed"), "one", InferenceError("engine.run_failed")])
        assistant = open_assistant(engine)
        failed = asked(assistant, "Read.")
        with pytest.raises(UsageError, match=r"records\.replay_unfinished"):
            assistant.replays.run(OWNER, turn_id(failed))
        job = asked(assistant, "Read.")
        with pytest.raises(InferenceError, match=r"engine\.run_failed"):
            assistant.replays.run(OWNER, turn_id(job))


class TestAnswersFromStorage:
    def test_the_very_same_question_is_answered_without_the_model(self, open_assistant: Opener) -> None:
        """As a turn of its own, with a note that says from when, structure and all."""
        engine = FakeEngine(['[{"bbox_2d": [0, 0, 28, 28], "label": "lamp"}]'])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(), "a.png")
        first = asked(assistant, "Where?", picture)
        again = asked(assistant, "Where?", assistant.stage(a_file(), "another-name.png"))
        answer = ended(again)
        assert len(engine.requests) == 1
        assert (again.state, answer.text, answer.finish_reason) == (JobState.DONE, first.text, FinishReason.STOP)
        assert answer.parsed.regions == ended(first).parsed.regions
        (note,) = answer.notes
        assert (note.code, note.facts["turn"]) == ("history.from_cache", first.turn_id)
        at = datetime.fromisoformat(str(note.facts["at"])).replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
        assert again.conversation_id != first.conversation_id
        turn = assistant.records.turn(OWNER, turn_id(again))
        assert (turn.state, turn.fingerprint, turn.precision) == (TurnState.DONE, "fake:fake", "fp32")
        assert turn.answer == answer
        figures = assistant.records.cache_figures()
        assert (figures.entries, figures.hits, figures.misses) == (1, 1, 1)

    @pytest.mark.parametrize(
        ("text", "size", "sampling"),
        [
            ("Where is it?", (560, 280), SamplingParams()),
            ("Where?", (280, 280), SamplingParams()),
            ("Where?", (560, 280), SamplingParams(max_new_tokens=7)),
            ("Where?", None, SamplingParams()),
        ],
    )
    def test_any_other_question_goes_to_the_model(
        self, open_assistant: Opener, text: str, size: tuple[int, int] | None, sampling: SamplingParams
    ) -> None:
        """Other words, other pixels, another limit, no picture: each is another question."""
        engine = FakeEngine(["one", "two"])
        assistant = open_assistant(engine)
        asked(assistant, "Where?", assistant.stage(a_file(), "a.png"))
        pictures = () if size is None else (assistant.stage(a_file(*size), "a.png"),)
        assert notes(asked(assistant, text, *pictures, sampling=sampling)) == []
        assert len(engine.requests) == 2

    def test_what_was_said_before_belongs_to_the_question(self, open_assistant: Opener) -> None:
        """The same words after another answer are another question; after the same ones the same."""
        engine = FakeEngine(["one", "more", "uno", "mas"])
        assistant = open_assistant(engine)
        first = asked(assistant, "First?")
        asked(assistant, "And?", conversation_id=first.conversation_id)
        other = asked(assistant, "Erst?")
        assert notes(asked(assistant, "And?", conversation_id=other.conversation_id)) == []
        same = asked(assistant, "First?")
        assert notes(asked(assistant, "And?", conversation_id=same.conversation_id)) == ["history.from_cache"]
        assert len(engine.requests) == 4

    def test_never_across_owners(self, open_assistant: Opener) -> None:
        """What one browser asked, another does not profit from."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        asked(assistant, "Where?")
        assert asked(assistant, "Where?", owner=OTHER).text == "two"

    def test_never_from_or_for_what_is_not_kept(self, open_assistant: Opener) -> None:
        """A question that leaves no trace gets no stored answer and stores none."""
        engine = FakeEngine(["one", "two", "three"])
        assistant = open_assistant(engine)
        asked(assistant, "Where?", is_kept=False)
        assert asked(assistant, "Where?").text == "two"
        assert asked(assistant, "Where?", is_kept=False).text == "three"

    def test_never_what_was_stopped_cut_or_left_to_chance(self, open_assistant: Opener) -> None:
        """Only a deterministic answer that ended by itself is given again."""
        assistant = open_assistant(FakeEngine(["one", "two"], finish_reason=FinishReason.LENGTH))
        asked(assistant, "Where?")
        assert asked(assistant, "Where?").text == "two"
        assert assistant.records.cache_figures().entries == 0

    def test_chance_is_asked_each_time(self, open_assistant: Opener) -> None:
        """With a temperature the same question may be answered differently."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        asked(assistant, "Where?", sampling=SamplingParams(temperature=0.5))
        assert asked(assistant, "Where?", sampling=SamplingParams(temperature=0.5)).text == "two"

    def test_asked_anew_the_model_answers_and_that_is_stored(self, open_assistant: Opener) -> None:
        """The newer answer takes the place of the older one."""
        engine = FakeEngine(["one", "two"])
        assistant = open_assistant(engine)
        asked(assistant, "Where?")
        anew = asked(assistant, "Where?", is_anew=True)
        assert (anew.text, notes(anew)) == ("two", [])
        again = asked(assistant, "Where?")
        assert (again.text, ended(again).notes[0].facts["turn"]) == ("two", anew.turn_id)

    def test_the_same_question_waiting_behind_itself_is_answered_once(self, open_assistant: Opener) -> None:
        """What is asked twice in a hurry is looked up when its turn comes."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["one"], gate=gate)
        assistant = open_assistant(engine)
        first = assistant.ask(Question("Where?"), owner=OWNER)
        second = assistant.ask(Question("Where?"), owner=OWNER)
        gate.release()
        assert (ended(first).text, ended(second).text) == ("one", "one")
        assert notes(second) == ["history.from_cache"]
        assert assistant.records.cache_figures().misses == 1

    def test_another_model_answers_for_itself(self, open_assistant: Opener, folder: Path) -> None:
        """The weights are part of the question."""
        with an_assistant(FakeEngine(["one"], model="small"), folder) as before:
            before.wait_until_loaded(WAIT_S)
            asked(before, "Where?")
        assert asked(open_assistant(FakeEngine(["two"], model="large")), "Where?").text == "two"

    def test_an_answer_about_smaller_pixels_is_not_stored_for_the_larger(self, open_assistant: Opener) -> None:
        """Where memory ran out, the model saw another picture than the question's."""
        engine = FakeEngine([OutOfMemoryError("inference.out_of_memory"), "small", "large"])
        assistant = open_assistant(engine)
        big = a_file(5600, 2800)
        assert notes(asked(assistant, "Read.", assistant.stage(big, "a.png"))) == [
            "inference.smaller_after_out_of_memory"
        ]
        assert asked(assistant, "Read.", assistant.stage(big, "a.png")).text == "large"

    def test_what_is_erased_is_not_said_again(self, open_assistant: Opener) -> None:
        """The stored answer goes with its turn."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        job = asked(assistant, "Where?")
        assert assistant.records.erase_turn(OWNER, turn_id(job)).cached_answers == 1
        assert asked(assistant, "Where?").text == "two"

    def test_a_site_can_switch_it_off_and_a_person_can_empty_it(self, open_assistant: Opener, folder: Path) -> None:
        """Then every question goes to the model."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        asked(assistant, "Where?")
        assert assistant.records.forget_answers(OTHER) == 0
        assert assistant.records.forget_answers(OWNER) == 1
        assert asked(assistant, "Where?").text == "two"
        assistant.close()
        off = open_assistant(FakeEngine(["three"]), settings=Settings(data_dir=folder, cache_answers=False))
        assert asked(off, "Where?").text == "three"

    def test_an_old_answer_is_not_given_where_the_site_sets_an_age(self, open_assistant: Opener, folder: Path) -> None:
        """An answer made just now is young enough for any limit."""
        assistant = open_assistant(FakeEngine(["one"]), settings=Settings(data_dir=folder, cache_days=1))
        asked(assistant, "Where?")
        assert notes(asked(assistant, "Where?")) == ["history.from_cache"]

    def test_a_ready_made_task_has_an_age_of_its_own(
        self, open_assistant: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In any language and case of its name; other questions keep the site's, and a misspelt task is an error."""

        class Lately(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Lately:
                return cls.fromtimestamp(real.now(tz).timestamp() - ago.total_seconds(), tz)

        real, ago = datetime, timedelta(days=5)
        site = Settings(data_dir=folder, cache_days=3, cache_task_days={"Read_Text": 7, "describe": 2})
        engine = FakeEngine(["text", "about", "where", "about anew", "where anew"])
        assistant = open_assistant(engine, settings=site)
        questions = ("请识别出图中所有的文字。", "Describe this image.", "Where?")
        with monkeypatch.context() as patched:
            patched.setattr("qwen_vl_app.history.answer_cache.datetime", Lately)
            for question in questions:
                asked(assistant, question)
            assert assistant.records.cache_figures().entries == len(questions)
        assert [asked(assistant, question).text for question in questions] == ["text", "about anew", "where anew"]
        with pytest.raises(UsageError, match=r"tasks\.unknown"):
            an_assistant(FakeEngine(), folder, settings=Settings(data_dir=folder, cache_task_days={"dance": 1}))

    def test_earlier_messages_of_a_program_belong_to_the_question(self, open_assistant: Opener) -> None:
        """What a caller says was said before is part of what the model is told."""
        engine = FakeEngine(["one", "two"])
        assistant = open_assistant(engine)
        earlier = (EarlierMessage("system", "Be brief."),)
        ended(assistant.ask(Question("Where?", earlier=earlier), owner=OWNER))
        assert ended(assistant.ask(Question("Where?"), owner=OWNER)).text == "two"

    def test_the_id_of_a_staged_picture_is_the_hash_of_what_the_model_sees(self) -> None:
        """Keys are made of staged ids, so these must be those of the pixels."""
        png = io.BytesIO()
        Image.radial_gradient("L").convert("RGB").save(png, "PNG")
        decoder = PictureDecoder(max_bytes=2**20, max_pixels=10**6, timeout_s=60)
        decoder.start()
        try:
            rendered = decoder.render(png.getvalue(), name="a.png", fit=lambda _size: Size(84, 56))
        finally:
            decoder.close()
        assert rendered.picture_id == to_image_input(rendered.seen_png).picture_id


class TestErasing:
    def test_what_runs_is_stopped_first_and_the_model_forgets(self, open_assistant: Opener) -> None:
        """The answer in the making ends as stopped, nothing of it comes back, and the engine has let go."""
        gate = threading.Semaphore(1)
        engine = FakeEngine([["one", "more"]], gate=gate)
        assistant = open_assistant(engine)
        job = assistant.ask(Question("Secret?"), owner=OWNER)
        next(iter(job))
        receipt = assistant.records.erase_conversation(OWNER, job.conversation_id or 0)
        assert (receipt.is_complete, receipt.turns, receipt.conversations) == (True, 1, 1)
        assert (job.state, engine.forgotten) == (JobState.STOPPED, 1)
        assert assistant.conversations(OWNER) == ()
        assert assistant.records.receipts(OWNER)[0].id == receipt.id

    def test_a_replay_is_stopped_as_well(self, open_assistant: Opener) -> None:
        """It is told of the conversation although it belongs to no page."""
        gate = threading.Semaphore(1)
        engine = FakeEngine(["one", ["one", "more"]], gate=gate)
        assistant = open_assistant(engine)
        job = asked(assistant, "Secret?")
        again = assistant.replays.start(OWNER, turn_id(job))
        assistant.records.erase_turn(OWNER, turn_id(job))
        assert again.state is JobState.STOPPED
        with pytest.raises(UsageError, match=r"records\.replay_stopped"):
            assistant.replays.compare(OWNER, turn_id(job), again)

    def test_other_conversations_and_owners_go_on(self, open_assistant: Opener) -> None:
        """Erasing one thing stops nothing else."""
        gate = threading.Semaphore(1)
        engine = FakeEngine(["one", "two"], gate=gate)
        assistant = open_assistant(engine)
        mine = asked(assistant, "Mine?")
        theirs = assistant.ask(Question("Theirs?"), owner=OTHER)
        assert assistant.records.erase_everything(OWNER).turns == 1
        gate.release()
        assert (ended(theirs).text, theirs.state) == ("two", JobState.DONE)
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            assistant.records.turn(OWNER, turn_id(mine))
        assert len(assistant.conversations(OTHER)) == 1

    def test_nobody_erases_what_is_somebody_elses(self, open_assistant: Opener) -> None:
        """It is not found, and what runs there runs on."""
        gate = threading.Semaphore(0)
        assistant = open_assistant(FakeEngine(["one"], gate=gate))
        job = assistant.ask(Question("Mine?"), owner=OWNER)
        refused: tuple[Callable[[], object], ...] = (
            lambda: assistant.records.erase_turn(OTHER, turn_id(job)),
            lambda: assistant.records.erase_conversation(OTHER, job.conversation_id or 0),
        )
        for erase in refused:
            with pytest.raises(HistoryError, match=r"history\.not_found"):
                erase()
        assert not job.is_cancelled
        gate.release()
        assert ended(job).text == "one"

    def test_a_day_is_erased_from_midnight_to_midnight(self, open_assistant: Opener) -> None:
        """By the clock of the zone that is meant; another day's turns stay."""
        engine = FakeEngine(["one"])
        assistant = open_assistant(engine)
        job = asked(assistant, "Today?")
        here = timezone(timedelta(hours=8))
        today = assistant.records.turn(OWNER, turn_id(job)).asked_at.astimezone(here).date()
        assert assistant.records.erase_day(OWNER, today - timedelta(days=1), zone=here).turns == 0
        assert assistant.records.erase_day(OWNER, today, zone=here).turns == 1

    def test_a_day_on_which_the_clocks_change_has_its_own_length(self) -> None:
        """23 hours in spring, 25 in autumn."""
        berlin = ZoneInfo("Europe/Berlin")
        for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 11, 21), 24)):
            since, until = day_of(day, zone=berlin)
            assert until - since == timedelta(hours=hours)

    def test_nothing_is_left_of_it_on_the_disk(self, open_assistant: Opener, folder: Path) -> None:
        """Question, answer, file name and the file's own bytes are nowhere in the data folder."""
        marker = "MARKER-发票-0427"
        assistant = open_assistant(FakeEngine([f"The {marker} answer", "kept"]))
        picture = assistant.stage(a_file(), f"{marker}.png")
        job = asked(assistant, f"Is {marker} there?", picture)
        asked(assistant, "Another question")
        found = find_traces([folder], marker)
        assert found.files
        assert find_traces([folder], a_file()).files
        assistant.records.erase_conversation(OWNER, job.conversation_id or 0)
        assert find_traces([folder], marker.lower()).files == ()
        assert find_traces([folder], a_file()).files == ()

    def test_records_are_not_erased_but_corrected(self, open_assistant: Opener) -> None:
        """Nothing is stopped for an erasure that is refused."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["one"], gate=gate)
        assistant = open_assistant(engine, keeping=Keeping(KeepingMode.RECORDS))
        job = assistant.ask(Question("Read."), owner=OWNER)
        assert not assistant.records.can_erase
        refused: tuple[Callable[[], object], ...] = (
            lambda: assistant.records.erase_turn(OWNER, turn_id(job)),
            lambda: assistant.records.erase_everything(OWNER),
            lambda: assistant.delete(OWNER, job.conversation_id or 0),
        )
        for erase in refused:
            with pytest.raises(HistoryError, match=r"history\.records_are_kept"):
                erase()
        assert not job.is_cancelled
        gate.release()
        ended(job)
        assistant.records.correct(OWNER, turn_id(job), "It reads 00427.6")
        (correction,) = assistant.records.corrections(OWNER, turn_id(job))
        assert correction.text == "It reads 00427.6"

    def test_a_model_that_is_busy_for_long_is_told_of(self, folder: Path) -> None:
        """The receipt says what could not be promised."""
        caveat = Reason("records.model_still_remembers")
        history = HistoryStore(folder)
        with Records(history, let_go=lambda _owner: (caveat,)) as records:
            history.begin_turn(OWNER, Question("Read."), title="t")
            assert caveat in records.erase_everything(OWNER).caveats


class TestPolicies:
    @pytest.mark.parametrize("mode", list(KeepingMode))
    def test_settings_choose_what_is_kept(self, folder: Path, mode: KeepingMode) -> None:
        """Each policy reaches the history; one that keeps nothing makes no folder."""
        settings = load_settings({"keep": mode.value, "keep_days": 7, "data_dir": folder}, environment={})
        with bootstrap.build_records(settings) as records:
            assert (records.keeping.mode, records.keeping.days) == (mode, 7)
            assert records.can_erase == (mode is not KeepingMode.RECORDS)
            assert folder.exists() == (mode is not KeepingMode.NOTHING)

    def test_a_site_that_keeps_days_looks_again_while_it_runs(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not only at the start; the model forgets with it, and closing ends the looking."""
        looked = threading.Semaphore(0)
        forgotten: list[str] = []

        class Expiring(HistoryStore):
            def expire(self) -> None:
                looked.release()

        monkeypatch.setattr(records_module, "EXPIRE_EVERY_S", 0.01)
        history = Expiring(folder, keeping=Keeping(KeepingMode.DAYS, days=1))
        records = Records(history, let_go=lambda owner: forgotten.append(owner) or ())  # type: ignore[func-returns-value]
        records.start_expiring()
        assert looked.acquire(timeout=WAIT_S)
        assert looked.acquire(timeout=WAIT_S)
        records.stop_expiring()
        assert not any(thread.name == "expiry" for thread in threading.enumerate())
        assert forgotten == []  # nothing had expired

    def test_other_sites_have_no_such_thread(self, open_assistant: Opener) -> None:
        """What is kept until it is erased needs nobody to look."""
        open_assistant(FakeEngine())
        assert not any(thread.name == "expiry" for thread in threading.enumerate())


class TestTakingAway:
    def test_an_export_comes_back_elsewhere(self, open_assistant: Opener) -> None:
        """One conversation or all; in the readable form a link to another machine leads nowhere."""
        assistant = open_assistant(FakeEngine(["See ![x](http://evil.example/a.png)", "two"]))
        picture = assistant.stage(a_file(), "panel.png")
        first = asked(assistant, "First?", picture)
        asked(assistant, "Second?")
        one, everything = io.BytesIO(), io.BytesIO()
        assert assistant.records.export(one, owner=OWNER, conversation_id=first.conversation_id) == 1
        assert assistant.records.export(everything, owner=OWNER) == 2
        with zipfile.ZipFile(one) as archive:
            (page,) = [name for name in archive.namelist() if name.endswith(".md")]
            assert b"](http" not in archive.read(page)
        one.seek(0)
        (new,) = assistant.records.import_archive(one, owner=OTHER)
        (turn,) = assistant.records.turns(OTHER, new)
        assert (turn.question, turn.pictures[0].name) == ("First?", "panel.png")
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            assistant.records.export(io.BytesIO(), owner=OTHER, conversation_id=first.conversation_id)

    @pytest.mark.parametrize(
        ("rendition", "size"),
        [("view", (9000, 9000)), ("seen", (9000, 9000)), ("seen", (28, 28)), ("thumbnail", (2000, 2000))],
    )
    def test_pictures_that_the_app_never_made_do_not_come_in(
        self, open_assistant: Opener, rendition: str, size: tuple[int, int]
    ) -> None:
        """A few bytes can be any number of pixels, and what is shown is decoded in this process."""
        assistant = open_assistant(FakeEngine(["one"]))
        asked(assistant, "First?", assistant.stage(a_file(), "panel.png"))
        source, changed, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
        assistant.records.export(source, owner=OWNER)
        Image.new("RGB", size).save(png, "PNG")
        with zipfile.ZipFile(source) as before, zipfile.ZipFile(changed, "w") as after:
            (folder,) = json.loads(before.read("manifest.json"))["conversations"]
            told = json.loads(before.read(f"{folder}/conversation.json"))
            form = told["turns"][0]["pictures"][0]["renditions"][rendition]
            form.update(file="pictures/x.png", mime="image/png", sha256=hashlib.sha256(png.getvalue()).hexdigest())
            for name in before.namelist():
                after.writestr(name, json.dumps(told) if name.endswith(".json") and "/" in name else before.read(name))
            after.writestr(f"{folder}/pictures/x.png", png.getvalue())
        with pytest.raises(HistoryError, match=r"history\.not_an_archive"):
            assistant.records.import_archive(changed, owner=OTHER)
        assert assistant.records.conversations(OTHER) == ()
        assert len(assistant.records.import_archive(source, owner=OTHER)) == 1

    def test_a_backup_is_put_back(self, open_assistant: Opener, folder: Path, tmp_path: Path) -> None:
        """What came after it is set aside, and the restored records are sound."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        asked(assistant, "Before?")
        assert assistant.records.backup(tmp_path / "backup.zip") > 0
        asked(assistant, "After?")
        with pytest.raises(HistoryError, match=r"history\.in_use"):
            restore_backup(folder, tmp_path / "backup.zip")
        assistant.close()
        replaced = restore_backup(folder, tmp_path / "backup.zip")
        assert replaced is not None
        with Records(HistoryStore(folder)) as records:
            assert [each.title for each in records.conversations(OWNER)] == ["Before?"]
            assert records.verify().is_sound


class TestFindingAndChecking:
    def test_search_pins_and_owners_are_each_owners_own(self, open_assistant: Opener) -> None:
        """Found are the owner's turns; a pinned conversation stands first."""
        assistant = open_assistant(FakeEngine(["the meter reads 5", "two", "three"]))
        first = asked(assistant, "Where is the 发票?")
        asked(assistant, "Later?")
        asked(assistant, "Where is the 发票 now?", owner=OTHER)
        records = assistant.records
        (hit,) = records.search(OWNER, "发票").hits
        assert hit.turn_id == first.turn_id
        assert [each.turn_id for each in records.search(OWNER, "meter").hits] == [first.turn_id]
        records.pin(OWNER, first.conversation_id or 0)
        assert records.conversations(OWNER)[0].id == first.conversation_id
        assert set(records.owners()) == {OWNER, OTHER}

    def test_verify_finds_what_was_changed(self, open_assistant: Opener, folder: Path) -> None:
        """A line of the audit file, a picture that is gone, a picture that is another one."""
        assistant = open_assistant(FakeEngine(["one", "two"]))
        asked(assistant, "First?", assistant.stage(a_file(), "a.png"))
        assert assistant.records.verify().is_sound
        files = sorted(file for file in (folder / "pictures").rglob("*") if file.is_file())
        files[0].unlink()
        files[1].write_bytes(b"something else")
        audit = folder / "audit.jsonl"
        audit.write_bytes(audit.read_bytes().replace(b'"pictures":1', b'"pictures":2'))
        found = assistant.records.verify()
        assert not found.is_sound
        assert found.audit.problem is not None
        assert found.audit.problem.code == "history.audit_changed"
        assert found.storage == (
            Reason("history.pictures_missing", count=1),
            Reason("history.pictures_damaged", count=1),
        )

    def test_a_file_that_may_not_be_read_is_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is said of it, rather than that it holds nothing."""
        (tmp_path / "closed").write_bytes(b"MARKER-1")
        (tmp_path / "open").write_bytes(b"x marker-1 x")
        real = Path.open

        def refusing(path: Path, *arguments: object, **named: object) -> object:
            if path.name == "closed":
                raise PermissionError(13, "no")
            return real(path, *arguments, **named)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refusing)
        traces = find_traces([tmp_path, tmp_path / "absent"], "Marker-1")
        assert (traces.files, traces.unread) == ((tmp_path / "open",), 1)
