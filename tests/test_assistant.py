"""The one path of a question: kept, queued, answered, parsed, kept again; and every way in which it may go wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.chat import (
    Answer,
    Detail,
    EngineState,
    FinishReason,
    Question,
    Rendition,
    Size,
    StagedPicture,
    Turn,
    TurnState,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import GenerationRequest, Step, TokenStep
from qwen_vl_app.engine.fake import FakeEngine, PiecesThen
from qwen_vl_app.errors import (
    HistoryError,
    ModelFolderError,
    ModelNotLoadedError,
    OutOfMemoryError,
    QueueFullError,
    Reason,
    UnreadableImageError,
    UsageError,
)
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import render
from tests.hub_parts import (
    WAIT_S,
    FakeDecoder,
    a_file,
    an_assistant,
    replace_settings,
    wait_until_let_go,
    with_queue,
)

OWNER = "a-browser"
OOM = OutOfMemoryError("inference.out_of_memory")
Opener = Callable[..., Assistant]


@pytest.fixture
def open_assistant(tmp_path: Path) -> Iterator[Opener]:
    """Opens an assistant around an engine, and closes it at the end."""
    with ExitStack() as stack:

        def opened(
            engine: FakeEngine, *, history: HistoryStore | None = None, settings: Settings | None = None
        ) -> Assistant:
            return stack.enter_context(an_assistant(engine, tmp_path / "data", history=history, settings=settings))

        yield opened


def answered(job: AnswerJob) -> Answer:
    answer = job.wait(WAIT_S)
    assert answer is not None, job.progress()
    return answer


def kept(assistant: Assistant, job: AnswerJob, owner: str = OWNER) -> Turn:
    assert job.conversation_id is not None
    return next(turn for turn in assistant.turns(owner, job.conversation_id) if turn.id == job.turn_id)


def until(job: AnswerJob, state: JobState) -> None:
    with job._changed:
        assert job._changed.wait_for(lambda: job.state is state, WAIT_S), job.state


class TestAsking:
    def test_a_question_is_staged_asked_streamed_parsed_and_kept(self, open_assistant: Opener) -> None:
        """From bytes to boxes: the answer streams, its boxes are fractions of the original, and the turn is kept."""
        engine = FakeEngine([['[{"bbox_2d": [0, 0, 280, 140], ', '"label": "meter"}]']])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(5600, 2800), "C:\\photos\\panel.png")
        job = assistant.ask(Question("  Where is the meter? ", (picture,)), owner=OWNER)
        assert list(job)[-1].endswith("]")
        answer = answered(job)
        assert (job.state, answer.finish_reason, answer.model) == (JobState.DONE, FinishReason.STOP, "fake")
        (region,) = answer.parsed.regions
        seen = picture.seen.size
        assert region.label == "meter"
        assert (region.box.x2, region.box.y2) == pytest.approx((280 / seen.width, 140 / seen.height))
        turn = kept(assistant, job)
        assert (turn.state, turn.question) == (TurnState.DONE, "Where is the meter?")
        assert turn.answer is not None
        assert turn.answer.text == answer.text
        assert turn.answer.parsed.regions == answer.parsed.regions
        (kept_picture,) = turn.pictures
        assert (kept_picture.size, kept_picture.seen) == (Size(5600, 2800), picture.seen)
        assert assistant.picture(OWNER, kept_picture.id, Rendition.UPLOAD).data == a_file(5600, 2800)
        assert answer.usage.picture_tokens == picture.seen.tokens

    def test_four_numbers_under_a_name_are_a_box_where_places_were_asked_for(self, open_assistant: Opener) -> None:
        """The question says what they are: the same answer to another one is data alone."""
        engine = FakeEngine(['{"meter": [0, 0, 280, 140]}', '{"meter": [0, 0, 280, 140]}'])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(5600, 2800), "panel.png")
        where = answered(assistant.ask(Question("Where is the meter?", (picture,)), owner=OWNER))
        assert [region.label for region in where.parsed.regions] == ["meter"]
        what = answered(assistant.ask(Question("Which four numbers does the meter show?", (picture,)), owner=OWNER))
        assert what.parsed.has_data and what.parsed.regions == ()

    def test_an_empty_answer_says_so(self, open_assistant: Opener) -> None:
        """A model that wrote nothing leaves a sentence, not an empty place."""
        assistant = open_assistant(FakeEngine([["", "\n "], "Words."]))
        empty = answered(assistant.ask(Question("What is this?"), owner=OWNER))
        assert [note.code for note in empty.notes] == ["inference.wrote_nothing"]
        assert answered(assistant.ask(Question("And now?"), owner=OWNER)).notes == ()

    def test_the_prompt_holds_the_picture_at_its_seen_size(self, open_assistant: Opener) -> None:
        """What was promised at staging is what the model gets."""
        engine = FakeEngine(["Yes."])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(), "a.png", detail=Detail.LOW_MEMORY)
        answered(assistant.ask(Question("?", (picture,)), owner=OWNER))
        (message,) = engine.requests[0].messages
        (image,) = message.images
        assert (message.role, message.text, image.size) == ("user", "?", picture.seen.size)
        assert len(image.rgb) == image.size.pixels * 3

    def test_a_follow_up_knows_the_conversation(self, open_assistant: Opener) -> None:
        """Earlier questions with their pictures and answers stand before the new one, under the same key."""
        engine = FakeEngine(["It is red.", "Yes, very."])
        assistant = open_assistant(engine)
        first = assistant.ask(Question("What colour?", (assistant.stage(a_file(), "a.png"),)), owner=OWNER)
        answered(first)
        second = assistant.ask(Question("Sure?", conversation_id=first.conversation_id), owner=OWNER)
        assert answered(second).text == "Yes, very."
        told = [(message.role, message.text, len(message.images)) for message in engine.requests[1].messages]
        assert told == [("user", "What colour?", 1), ("assistant", "It is red.", 0), ("user", "Sure?", 0)]
        assert engine.requests[0].messages[0].images == engine.requests[1].messages[0].images
        assert engine.requests[0].conversation_key == engine.requests[1].conversation_key != None  # noqa: E711

    def test_boxes_of_a_follow_up_lie_on_the_picture_it_speaks_about(self, open_assistant: Opener) -> None:
        """A follow-up without pictures is measured by the latest picture of the conversation."""
        engine = FakeEngine(["A meter.", '[{"bbox_2d": [0, 0, 28, 28], "label": "meter"}]'])
        assistant = open_assistant(engine)
        picture = assistant.stage(a_file(560, 280), "a.png")
        first = assistant.ask(Question("What?", (picture,)), owner=OWNER)
        answered(first)
        answer = answered(assistant.ask(Question("Where?", conversation_id=first.conversation_id), owner=OWNER))
        assert [round(region.box.x2, 4) for region in answer.parsed.regions] == [round(28 / picture.seen.size.width, 4)]

    def test_a_question_asked_while_the_one_before_it_waits_still_knows_its_answer(
        self, open_assistant: Opener
    ) -> None:
        """The conversation is read when a question's time has come, not when it was asked."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["One.", "Two."], gate=gate)
        assistant = open_assistant(engine)
        first = assistant.ask(Question("1?"), owner=OWNER)
        second = assistant.ask(Question("2?", conversation_id=first.conversation_id), owner=OWNER)
        gate.release(2)
        answered(second)
        assert [message.text for message in engine.requests[1].messages] == ["1?", "One.", "2?"]

    def test_failed_turns_are_not_told_to_the_model(self, open_assistant: Opener) -> None:
        """What the person never got an answer to does not confuse the next one."""
        engine = FakeEngine([ValueError("boom"), "Fine."])
        assistant = open_assistant(engine)
        first = assistant.ask(Question("1?"), owner=OWNER)
        answered(first)
        answered(assistant.ask(Question("2?", conversation_id=first.conversation_id), owner=OWNER))
        assert [message.text for message in engine.requests[1].messages] == ["2?"]

    def test_half_a_character_becomes_the_sign_for_one(self, open_assistant: Opener) -> None:
        """A console of another encoding sends such words; a model's tokens and a server's UTF-8 cannot hold them."""
        engine = FakeEngine(["Fine."])
        answered(open_assistant(engine).ask(Question("Is \udcff\ud83d\ude00 lit?"), owner=OWNER))
        assert engine.requests[0].messages[-1].text == "Is \ufffd\U0001f600 lit?"

    @pytest.mark.parametrize("text", ["", "   ", "\n\t"])
    def test_an_empty_question_is_refused(self, open_assistant: Opener, text: str) -> None:
        """Nothing is queued, nothing is kept."""
        assistant = open_assistant(FakeEngine())
        with pytest.raises(UsageError) as refused:
            assistant.ask(Question(text), owner=OWNER)
        assert refused.value.code == "question.empty"
        assert assistant.conversations(OWNER) == ()

    def test_too_many_pictures_are_refused(self, open_assistant: Opener) -> None:
        """The limit is in the sentence."""
        assistant = open_assistant(FakeEngine(), settings=replace_settings(max_pictures=1))
        picture = assistant.stage(a_file(), "a.png")
        with pytest.raises(UsageError) as refused:
            assistant.ask(Question("?", (picture, picture)), owner=OWNER)
        assert dict(refused.value.facts) == {"limit": 1}

    def test_a_conversation_of_another_owner_does_not_exist(self, open_assistant: Opener) -> None:
        """Neither asking, nor reading, nor its pictures: one browser's conversation is nobody else's."""
        engine = FakeEngine(["Mine."])
        assistant = open_assistant(engine)
        job = assistant.ask(Question("?", (assistant.stage(a_file(), "a.png"),)), owner=OWNER)
        answered(job)
        assert job.conversation_id is not None
        picture_id = kept(assistant, job).pictures[0].id
        for attempt in (
            lambda: assistant.ask(Question("?", conversation_id=job.conversation_id), owner="another"),
            lambda: assistant.turns("another", job.conversation_id or 0),
            lambda: assistant.picture("another", picture_id, Rendition.VIEW),
            lambda: assistant.delete("another", job.conversation_id or 0),
        ):
            with pytest.raises(HistoryError) as refused:
                attempt()
            assert refused.value.code == "history.not_found"
        assert len(engine.requests) == 1

    def test_long_questions_make_short_titles(self, open_assistant: Opener) -> None:
        """A title is one line, cut with an ellipsis."""
        assistant = open_assistant(FakeEngine(["."]))
        answered(assistant.ask(Question("What\n is " + "x" * 200), owner=OWNER))
        (conversation,) = assistant.conversations(OWNER)
        assert conversation.title.startswith("What is xxx")
        assert len(conversation.title) == 60


class TestStopping:
    def test_stopping_while_answering_keeps_what_was_said(self, open_assistant: Opener) -> None:
        """The text so far is the answer, in the job and in the history."""
        gate = threading.Semaphore(0)
        engine = FakeEngine([["The meter ", "reads ", "never said"]], gate=gate)
        assistant = open_assistant(engine)
        job = assistant.ask(Question("?"), owner=OWNER)
        reading = iter(job)
        gate.release()
        assert next(reading) == "The meter "
        job.cancel()
        gate.release()
        answer = answered(job)
        assert (job.state, answer.finish_reason, answer.text) == (JobState.STOPPED, FinishReason.STOPPED, "The meter ")
        turn = kept(assistant, job)
        assert turn.state is TurnState.STOPPED
        assert turn.answer is not None
        assert turn.answer.text == "The meter "

    def test_stopping_while_queued_ends_at_once(self, open_assistant: Opener) -> None:
        """It never reaches the model, and its turn is kept as stopped."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["First.", "Third."], gate=gate)
        assistant = open_assistant(engine)
        first, second, third = (assistant.ask(Question(f"{number}?"), owner=OWNER) for number in (1, 2, 3))
        until(first, JobState.READING)
        assert [job.progress().position for job in (second, third)] == [1, 2]
        second.cancel()
        assert second.state is JobState.STOPPED
        assert third.progress().position == 1
        gate.release(2)
        assert answered(third).text == "Third."
        assert kept(assistant, second).state is TurnState.STOPPED
        assert len(engine.requests) == 2

    def test_stopping_while_reading_ends_without_text(self, open_assistant: Opener) -> None:
        """The engine is told before the first word."""
        gate = threading.Semaphore(0)
        assistant = open_assistant(FakeEngine(["never said"], gate=gate))
        job = assistant.ask(Question("?"), owner=OWNER)
        until(job, JobState.READING)
        job.cancel()
        gate.release()
        answer = answered(job)
        assert (answer.finish_reason, answer.text) == (FinishReason.STOPPED, "")

    def test_stopping_twice_or_after_the_end_changes_nothing(self, open_assistant: Opener) -> None:
        """A late click on Stop does not take the answer away."""
        assistant = open_assistant(FakeEngine(["Done."]))
        job = assistant.ask(Question("?"), owner=OWNER)
        answered(job)
        job.cancel()
        job.cancel()
        assert (job.state, job.text) == (JobState.DONE, "Done.")
        assert kept(assistant, job).state is TurnState.DONE

    def test_a_running_answer_is_found_again(self, open_assistant: Opener) -> None:
        """A reloaded page finds the job of its own conversation, another browser does not, and a finished one is gone."""
        gate = threading.Semaphore(0)
        assistant = open_assistant(FakeEngine(["One."], gate=gate))
        job = assistant.ask(Question("?"), owner=OWNER)
        assert job.conversation_id is not None
        assert assistant.running(OWNER, job.conversation_id) == (job,)
        assert not assistant.is_running("another", job.conversation_id)
        gate.release()
        answered(job)
        assert kept(assistant, job).state is TurnState.DONE
        wait_until_let_go(assistant, job)
        assert not assistant.is_running(OWNER, job.conversation_id)


class TestFailing:
    def test_a_stranger_s_error_is_a_calm_sentence_and_the_next_question_works(self, open_assistant: Opener) -> None:
        """The person sees neither the exception's text nor silence; the turn is kept as failed with what was said."""
        assistant = open_assistant(FakeEngine([PiecesThen(["Half an "], ZeroDivisionError("secret")), "Whole."]))
        job = assistant.ask(Question("?"), owner=OWNER)
        answer = answered(job)
        assert (job.state, answer.text, answer.error) == (JobState.FAILED, "Half an ", Reason("app.unexpected"))
        assert "secret" not in render(answer.error or Reason("?"))
        turn = kept(assistant, job)
        assert turn.state is TurnState.FAILED
        assert turn.answer is not None
        assert turn.answer.error == Reason("app.unexpected")
        assert answered(assistant.ask(Question("again?"), owner=OWNER)).text == "Whole."

    def test_a_model_that_does_not_load_says_why_to_everybody(self, open_assistant: Opener) -> None:
        """Staging, waiting and asking all give the engine's own reason, not a riddle about readiness."""
        error = ModelFolderError("queue.full", waiting=3)  # stands for any code of the engine's
        assistant = open_assistant(FakeEngine(load_error=error))
        with pytest.raises(ModelNotLoadedError) as refused:
            assistant.wait_until_loaded(WAIT_S)
        assert (refused.value.code, dict(refused.value.facts)) == ("queue.full", {"waiting": 3})
        job = assistant.ask(Question("?"), owner=OWNER)
        answer = answered(job)
        assert (job.state, answer.error) == (JobState.FAILED, error.reason)
        assert kept(assistant, job).state is TurnState.FAILED
        assert assistant.status.engine.state is EngineState.FAILED

    def test_loading_that_breaks_unexpectedly_is_told_too(self, open_assistant: Opener) -> None:
        """An engine that forgot to notice its own failure does not let anybody wait for ever."""

        class Breaking(FakeEngine):
            def load(self) -> None:
                raise RuntimeError("driver")

        assistant = open_assistant(Breaking())
        with pytest.raises(ModelNotLoadedError) as refused:
            assistant.wait_until_loaded(WAIT_S)
        assert refused.value.code == "model.load_broke"
        with pytest.raises(ModelNotLoadedError):
            assistant.stage(a_file(), "a.png")
        assert answered(assistant.ask(Question("?"), owner=OWNER)).error == Reason("model.load_broke")
        assert assistant.status.engine.error == Reason("model.load_broke")

    def test_loading_that_breaks_by_chance_is_tried_once_more(self, open_assistant: Opener) -> None:
        """What nobody foresaw need not happen twice; a reason that is known is not asked again."""
        attempts: list[str] = []

        class Shaky(FakeEngine):
            def load(self) -> None:
                attempts.append("")
                if len(attempts) == 1:
                    raise RuntimeError("half imported")
                super().load()

        assistant = open_assistant(Shaky(["Here."]))
        assert answered(assistant.ask(Question("?"), owner=OWNER)).text == "Here."
        assert len(attempts) == 2

    def test_questions_wait_for_a_loading_model(self, open_assistant: Opener) -> None:
        """The plan of sizes is there before the weights, so pictures can be staged and questions queued."""
        loading = threading.Event()
        assistant = open_assistant(FakeEngine(["Now."], loading=loading))
        picture = assistant.stage(a_file(), "a.png")
        job = assistant.ask(Question("?", (picture,)), owner=OWNER)
        assert (job.state, job.progress().position) == (JobState.QUEUED, 0)
        with pytest.raises(ModelNotLoadedError) as early:
            assistant.wait_until_loaded(0.0)
        assert early.value.code == "model.still_loading"
        loading.set()
        assert answered(job).text == "Now."

    @pytest.mark.parametrize("is_private", [False, True])
    def test_of_a_question_that_a_full_queue_refuses_nothing_is_kept(
        self, open_assistant: Opener, *, is_private: bool
    ) -> None:
        """The person is told and has their words back: no conversation begins with it, none goes on, and no job is left."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["One.", "Two.", "Three."], gate=gate)
        assistant = open_assistant(engine, settings=with_queue(1, 1))
        gate.release()
        before = assistant.ask(Question("0?"), owner="another", is_private=is_private)
        answered(before)
        running = assistant.ask(Question("1?"), owner=OWNER)
        until(running, JobState.READING)
        waiting = assistant.ask(Question("2?"), owner=OWNER)
        begun = len(assistant.conversations("another"))
        for continued, beside in ((None, None), (before.conversation_id, None), (None, before.turn_id)):
            question = Question("3?", (assistant.stage(a_file(), "a.png"),), conversation_id=continued)
            with pytest.raises(QueueFullError) as refused:
                assistant.ask(question, owner="another", is_private=is_private, beside=beside)
            assert refused.value.code == "queue.full"
        assert len(assistant.conversations("another")) == begun
        assert before.conversation_id is not None
        (turn,) = assistant.turns("another", before.conversation_id)
        assert (turn.question, turn.state) == ("0?", TurnState.DONE)
        assert assistant.status.unanswered == 2
        gate.release(2)
        assert answered(waiting).text == "Three."

    def test_what_storage_knows_is_answered_before_a_full_queue(self, open_assistant: Opener) -> None:
        """It takes nobody's place, and is kept as any other question."""
        gate = threading.Semaphore(0)
        engine = FakeEngine(["Known.", "One.", "Two."], gate=gate)
        assistant = open_assistant(engine, settings=with_queue(1, 1))
        gate.release()
        assert answered(assistant.ask(Question("Known?"), owner="another")).text == "Known."
        until(assistant.ask(Question("1?"), owner=OWNER), JobState.READING)
        waiting = assistant.ask(Question("2?"), owner=OWNER)
        again = assistant.ask(Question("Known?"), owner="another")
        assert answered(again).text == "Known." and again.turn_id is not None
        gate.release(2)
        assert answered(waiting).text == "Two."

    def test_an_engine_that_ends_without_its_last_step_leaves_nobody_waiting(self, open_assistant: Opener) -> None:
        """A broken protocol is a failure that is told, not silence."""

        class Unfinished(FakeEngine):
            def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
                yield TokenStep("half", 1)

        assistant = open_assistant(Unfinished())
        answer = answered(assistant.ask(Question("?"), owner=OWNER))
        assert (answer.text, answer.finish_reason, answer.error) == (
            "half",
            FinishReason.FAILED,
            Reason("app.unexpected"),
        )

    def test_a_file_that_is_no_picture_is_refused_alone(self, open_assistant: Opener) -> None:
        """The error is imaging's own, and nothing else is disturbed."""
        assistant = open_assistant(FakeEngine())
        with pytest.raises(UnreadableImageError):
            assistant.stage(b"no picture", "a.png")
        assert assistant.stage(a_file(), "b.png").size == Size(560, 280)


class TestMemory:
    def staged(self, assistant: Assistant, size: int = 4000) -> StagedPicture:
        return assistant.stage(a_file(size, size), "large.png")

    def test_one_retry_at_the_next_rung_is_made_and_disclosed(self, open_assistant: Opener) -> None:
        """The picture gets smaller once, the answer says so, and everybody who asks afterwards gets the new size."""
        engine = FakeEngine([OOM, '[{"bbox_2d": [0, 0, 28, 28], "label": "a"}]'])
        assistant = open_assistant(engine)
        picture = self.staged(assistant)
        assert picture.seen.detail is Detail.BALANCED
        job = assistant.ask(Question("?", (picture,)), owner=OWNER)
        answer = answered(job)
        assert answer.finish_reason is FinishReason.STOP
        assert answer.notes == (Reason("inference.smaller_after_out_of_memory", tokens=256),)
        before, after = (request.messages[0].images[0].size for request in engine.requests)
        assert after.pixels < before.pixels
        (turn_picture,) = kept(assistant, job).pictures
        assert (turn_picture.seen.size, turn_picture.seen.detail) == (after, Detail.LOW_MEMORY)
        assert [each.seen for each in job.pictures] == [turn_picture.seen]
        (region,) = answer.parsed.regions
        assert region.box.x2 == pytest.approx(28 / after.width)
        assert assistant.picture(OWNER, turn_picture.id, Rendition.SEEN).data == job.pictures[0].seen_png

    def test_what_was_said_before_the_memory_ran_out_is_said_anew(self, open_assistant: Opener) -> None:
        """An attempt that broke off in the middle leaves none of its words in the answer."""
        assistant = open_assistant(FakeEngine([PiecesThen(["Long beginning of "], OOM), ["Short", "."]]))
        job = assistant.ask(Question("?", (self.staged(assistant),)), owner=OWNER)
        assert answered(job).text == "Short."
        assert (list(job), job.attempts) == (["Short."], 2)

    def test_a_second_out_of_memory_is_a_sentence(self, open_assistant: Opener) -> None:
        """Once is the limit: then the person is told what to do, and what was tried."""
        assistant = open_assistant(FakeEngine([OOM, OOM, "Fine."]))
        answer = answered(assistant.ask(Question("?", (self.staged(assistant),)), owner=OWNER))
        assert (answer.finish_reason, answer.error) == (FinishReason.FAILED, OOM.reason)
        assert [note.code for note in answer.notes] == ["inference.smaller_after_out_of_memory"]
        assert answered(assistant.ask(Question("?"), owner=OWNER)).text == "Fine."

    def test_without_a_lower_rung_there_is_no_retry(self, open_assistant: Opener) -> None:
        """A question of words alone, or of pictures that are as small as they get, is not tried twice."""
        engine = FakeEngine([OOM, OOM])
        assistant = open_assistant(engine)
        small = assistant.stage(a_file(4000, 4000), "a.png", detail=Detail.LOW_MEMORY)
        for question in (Question("?"), Question("?", (small,))):
            answer = answered(assistant.ask(question, owner=OWNER))
            assert (answer.error, answer.notes) == (OOM.reason, ())
        assert len(engine.requests) == 2

    def test_pictures_of_earlier_turns_are_lowered_for_one_prompt_only(self, open_assistant: Opener) -> None:
        """The kept size of an old picture stays, and boxes are measured by what the model really saw."""
        engine = FakeEngine(["Large.", OOM, '[{"bbox_2d": [0, 0, 28, 28], "label": "a"}]', "And now?"])
        assistant = open_assistant(engine)
        first = assistant.ask(Question("1?", (self.staged(assistant),)), owner=OWNER)
        answered(first)
        answer = answered(assistant.ask(Question("2?", conversation_id=first.conversation_id), owner=OWNER))
        large, lowered = (engine.requests[at].messages[0].images[0].size for at in (1, 2))
        assert lowered.pixels < large.pixels
        assert [region.box.x2 for region in answer.parsed.regions] == pytest.approx([28 / lowered.width])
        assert kept(assistant, first).pictures[0].seen.size == large
        answered(assistant.ask(Question("3?", conversation_id=first.conversation_id), owner=OWNER))
        assert engine.requests[3].messages[0].images[0].size == large


class FullDisk(HistoryStore):
    """A history on a disk that is full from some moment on."""

    def __init__(self, folder: Path, *, from_the_start: bool) -> None:
        super().__init__(folder)
        self.is_full = from_the_start

    def _check(self) -> None:
        if self.is_full:
            raise HistoryError("history.disk_full")

    def begin_turn(self, owner: str, question: Question, *, title: str, beside: int | None = None) -> Turn:
        self._check()
        turn = super().begin_turn(owner, question, title=title, beside=beside)
        self.is_full = True
        return turn

    def mark_running(self, turn_id: int) -> None:
        self._check()

    def finish_turn(
        self, turn_id: int, answer: Answer, *, state: TurnState, fingerprint: str = "", precision: str = ""
    ) -> Turn:
        self._check()
        return super().finish_turn(turn_id, answer, state=state, fingerprint=fingerprint, precision=precision)


class TestHistoryTrouble:
    @pytest.mark.parametrize("from_the_start", [True, False])
    def test_a_history_that_cannot_write_is_disclosed_with_the_answer(
        self, open_assistant: Opener, tmp_path: Path, from_the_start: bool
    ) -> None:
        """The answer comes all the same, and says once that it was not kept."""
        history = FullDisk(tmp_path / "full", from_the_start=from_the_start)
        assistant = open_assistant(FakeEngine(["Answered."]), history=history)
        job = assistant.ask(Question("?"), owner=OWNER)
        answer = answered(job)
        assert (job.state, answer.text) == (JobState.DONE, "Answered.")
        assert answer.notes == (Reason("history.disk_full"),)
        assert (job.turn_id is None) == from_the_start

    def test_what_could_not_be_written_for_a_moment_is_kept_at_the_end(
        self, open_assistant: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program held the history while the answer was made: the answer is whole there, and claims nothing else."""

        class Held(HistoryStore):
            def mark_running(self, turn_id: int) -> None:
                raise HistoryError("history.busy")

            def keep_partial(self, turn_id: int, text: str) -> None:
                raise HistoryError("history.busy")

        monkeypatch.setattr("qwen_vl_app.answering.PARTIAL_EVERY_S", 0.0)
        assistant = open_assistant(FakeEngine([["One ", "two"]]), history=Held(tmp_path / "held"))
        job = assistant.ask(Question("?"), owner=OWNER)
        assert answered(job).notes == ()
        turn = kept(assistant, job)
        assert turn.answer is not None
        assert (turn.answer.text, turn.answer.notes) == ("One two", ())

    def test_a_second_instance_answers_without_keeping(self, open_assistant: Opener, tmp_path: Path) -> None:
        """Another app on the same folder keeps the history; this one still answers and says why nothing is kept."""
        engine = FakeEngine(["Second."])
        first = open_assistant(FakeEngine())
        assert first.status.history_problem is None
        second = open_assistant(engine)
        assert second.status.history_problem is not None
        assert second.status.history_problem.code == "history.in_use"
        answer = answered(second.ask(Question("?"), owner=OWNER))
        assert answer.text == "Second."
        assert [note.code for note in answer.notes] == ["history.in_use"]
        assert second.conversations(OWNER) == ()

    def test_a_history_that_breaks_in_an_unexpected_way_leaves_nobody_waiting(
        self, open_assistant: Opener, tmp_path: Path
    ) -> None:
        """Even where the failure itself cannot be kept, the job ends."""

        class Broken(HistoryStore):
            def finish_turn(
                self, turn_id: int, answer: Answer, *, state: TurnState, fingerprint: str = "", precision: str = ""
            ) -> Turn:
                raise RuntimeError("a mistake of ours")

        assistant = open_assistant(FakeEngine(["Lost?", "Next."]), history=Broken(tmp_path / "broken"))
        answer = answered(assistant.ask(Question("?"), owner=OWNER))
        assert (answer.text, answer.error) == ("Lost?", Reason("app.unexpected"))

    def test_partial_text_is_kept_while_the_answer_is_made(
        self, open_assistant: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a power cut the history has what was on the screen."""
        monkeypatch.setattr("qwen_vl_app.answering.PARTIAL_EVERY_S", 0.0)
        gate = threading.Semaphore(0)
        assistant = open_assistant(FakeEngine([["One ", "two ", "three"]], gate=gate))
        job = assistant.ask(Question("?"), owner=OWNER)
        gate.release(2)
        reading = iter(job)
        text = ""
        while text != "One two ":
            text += next(reading)
        gate.release()  # the third piece is made only after the second was kept
        while text != "One two three":
            text += next(reading)
        answered(job)
        turn = kept(assistant, job)
        assert turn.answer is not None
        assert turn.answer.text == "One two three"


class TestEnding:
    def test_deleting_a_conversation_stops_what_runs_in_it(self, open_assistant: Opener) -> None:
        """The running answer ends first; then the conversation is gone for good."""
        stopped = threading.Event()

        class Endless(FakeEngine):
            def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
                gate.wait(WAIT_S)
                while not should_stop():
                    yield TokenStep("x", 1)
                    gate.wait(0.001)
                stopped.set()
                yield from FakeEngine.generate(self, request, should_stop=should_stop)

        gate = threading.Event()
        assistant = open_assistant(Endless(["."]))
        job = assistant.ask(Question("?"), owner=OWNER)
        gate.set()
        next(iter(job))
        gate.clear()
        assert job.conversation_id is not None
        assistant.delete(OWNER, job.conversation_id)
        assert stopped.is_set()
        assert job.state is JobState.STOPPED
        assert assistant.conversations(OWNER) == ()

    def test_closing_keeps_what_was_said_as_interrupted(self, tmp_path: Path) -> None:
        """The app ends in the middle of an answer: its text is kept, and nobody is said to have stopped it."""
        running = threading.Event()

        class Endless(FakeEngine):
            def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
                yield TokenStep("Half an ", 1)
                running.set()
                while not should_stop():
                    yield TokenStep("", 2)
                yield from FakeEngine.generate(self, request, should_stop=should_stop)

        assistant = an_assistant(Endless(["never said"]), tmp_path)
        with assistant:
            job = assistant.ask(Question("?"), owner=OWNER)
            waiting = assistant.ask(Question("next?"), owner=OWNER)
            assert running.wait(WAIT_S)
        assert [answered(each).finish_reason for each in (job, waiting)] == [FinishReason.STOPPED] * 2
        store = HistoryStore(tmp_path)
        store.open()
        try:
            kept_turns = [
                turn for conversation in store.conversations(OWNER) for turn in store.turns(OWNER, conversation.id)
            ]
        finally:
            store.close()
        assert {turn.state for turn in kept_turns} == {TurnState.INTERRUPTED}
        assert sorted(turn.answer.text if turn.answer else "" for turn in kept_turns) == ["", "Half an "]

    def test_closing_frees_readers_of_questions_that_were_never_kept(self, tmp_path: Path) -> None:
        """A job without a turn is ended too: its reader does not wait for an app that is gone."""
        gate = threading.Semaphore(0)
        history = FullDisk(tmp_path, from_the_start=True)
        assistant = an_assistant(FakeEngine(["One.", "Two."], gate=gate), tmp_path, history=history)
        with assistant:
            running, waiting = (assistant.ask(Question("?"), owner=OWNER) for _ in range(2))
            until(running, JobState.READING)
            gate.release()
        assert answered(waiting).finish_reason is FinishReason.STOPPED
        assert "".join(waiting) == ""
        assert running.state.is_over

    def test_a_closed_assistant_takes_no_questions(self, tmp_path: Path) -> None:
        """The refusal says that the app ends."""
        assistant = an_assistant(FakeEngine(), tmp_path)
        with assistant:
            pass
        with pytest.raises(QueueFullError) as refused:
            assistant.ask(Question("?"), owner=OWNER)
        assert refused.value.code == "queue.closed"
        assert assistant.status.engine.state is EngineState.CLOSED
        assert cast_decoder(assistant).is_closed


def cast_decoder(assistant: Assistant) -> FakeDecoder:
    decoder = assistant.intake._decoder
    assert isinstance(decoder, FakeDecoder)
    return decoder


class TestLooking:
    def test_looking_reads_no_weights_and_touches_no_history(self, tmp_path: Path) -> None:
        """The plan of sizes is enough, and the data folder is not even made."""
        engine = FakeEngine()
        assistant = an_assistant(engine, tmp_path / "data")
        assistant.open_to_look()
        try:
            facts, seen = assistant.intake.look(a_file(4000, 3000, pages=3), "a.pdf", page=2)
            assert (facts.size, facts.page_count) == (Size(4000, 3000), 3)
            assert seen == assistant.stage(a_file(4000, 3000), "a.png").seen
            _, small = assistant.intake.look(a_file(4000, 3000), "a.png", detail=Detail.LOW_MEMORY)
            assert small.tokens < seen.tokens
            assert engine.status.state is not EngineState.READY
        finally:
            assistant.close()
        assert not (tmp_path / "data").exists()

    def test_looking_and_staging_follow_the_detail_of_the_settings(self, open_assistant: Opener) -> None:
        """What is shown beforehand is what will be asked with."""
        assistant = open_assistant(FakeEngine(), settings=replace_settings(detail=Detail.LOW_MEMORY))
        _, seen = assistant.intake.look(a_file(4000, 3000), "a.png")
        assert seen.detail is Detail.LOW_MEMORY
        assert assistant.stage(a_file(4000, 3000), "a.png").seen == seen

    def test_looking_without_a_model_says_why(self, tmp_path: Path) -> None:
        """The engine's reason is the reason."""
        assistant = an_assistant(FakeEngine(load_error=ModelFolderError("model.not_loaded")), tmp_path)
        assistant.open_to_look()
        try:
            with pytest.raises(ModelNotLoadedError) as refused:
                assistant.wait_for_plan(WAIT_S)
            assert refused.value.code == "model.not_loaded"
        finally:
            assistant.close()


class TestKeeping:
    def test_titles_are_changed_within_reason(self, open_assistant: Opener) -> None:
        """A title is one line, and not empty."""
        assistant = open_assistant(FakeEngine(["."]))
        job = assistant.ask(Question("?"), owner=OWNER)
        answered(job)
        assert job.conversation_id is not None
        assistant.rename(OWNER, job.conversation_id, "  Boiler \n room ")
        assert assistant.conversation(OWNER, job.conversation_id).title == "Boiler room"
        with pytest.raises(UsageError):
            assistant.rename(OWNER, job.conversation_id, " \n ")

    def test_without_a_browser_the_owner_is_local(self, open_assistant: Opener) -> None:
        """The command line's questions are kept apart from every browser's."""
        assistant = open_assistant(FakeEngine(["."]))
        answered(assistant.ask(Question("?")))
        assert len(assistant.conversations(LOCAL_OWNER)) == 1
        assert assistant.conversations(OWNER) == ()
