"""One answer in the making, on the inference thread: looked up, generated, parsed, kept.

Knows the engine, the history and what one question carries along its way. Does not know the queue, or which doors there
are; the hub hands it a question that was kept already, and takes back nothing but the finished job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeAlias

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.answers import confidence_of, nullable_schema, parse_answer, regions_as_answer, with_absent
from qwen_vl_app.chat import (
    Answer,
    Box,
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    ImageInput,
    Message,
    ParsedAnswer,
    Question,
    Region,
    Rendition,
    ScoredToken,
    Size,
    StagedPicture,
    StoredAnswer,
    Timing,
    Turn,
    TurnPicture,
    TurnState,
    Usage,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import Engine, FinishedStep, GenerationRequest, StageStep, TokenStep
from qwen_vl_app.errors import AppError, HistoryError, OutOfMemoryError, Reason
from qwen_vl_app.history import HistoryStore, answer_key
from qwen_vl_app.imaging import crop_region, to_image_input
from qwen_vl_app.present_model import why_not_loaded
from qwen_vl_app.prompts import answered, latest_images, outline_of, pictures_of, prompt_of
from qwen_vl_app.tasks import task_named, task_of
from qwen_vl_app.tiles import Part, mapped, merged_regions, merged_text, parts_of

log = logging.getLogger(__name__)

PARTIAL_EVERY_S = 1.0

_Keep: TypeAlias = Callable[[], object]


class Stage(Protocol):
    """Turns a file into a picture or clip for a question: `Assistant.stage_upload`."""

    def __call__(self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None) -> StagedPicture:
        """Raises PictureError, ModelNotLoadedError."""
        ...


@dataclass(slots=True)
class Run:
    """What one question carries along its way. Only the inference thread changes it once it was queued."""

    job: AnswerJob
    question: Question
    history: HistoryStore
    """Where its conversation is: on the disk, or in memory alone."""
    turn: Turn | None
    not_kept: Reason | None
    answered: tuple[Turn, ...] = ()
    """The earlier turns that the model is told of: those that have an answer, whole or stopped."""
    seen: tuple[Size, ...] = ()
    """The sizes, in the prompt as it went to the model, of the pictures that the answer speaks about."""
    clip_seconds: float | None = None
    """How long the clip is that the answer speaks about, where it speaks about one."""
    beside: int | None = None
    """The turn whose place it takes, on a branch of its own."""
    is_anew: bool = False
    is_private: bool = False
    """True where storage may neither answer it nor keep its answer for others: using an entry leaves a trace, too."""
    is_background: bool = False
    """True where nobody waits for it."""
    is_looked_up: bool = False
    cache_key: str | None = None
    """What the question and all that it is told is known by, where its answer may be given again."""
    started_at: float | None = None
    notes: list[Reason] = field(default_factory=list)


class Answering:
    """Makes the answers of one assistant. All but `finish` and `look_up_now` run on the inference thread."""

    def __init__(
        self,
        *,
        engine: Engine,
        settings: Settings,
        stage: Stage,
        status: Callable[[], EngineStatus],
        forget: Callable[[AnswerJob], None],
    ) -> None:
        """Prepare. Raises UsageError for a setting about a ready-made task that does not exist."""
        self.is_closing = False
        """Set once the app ends: what is stopped from then on was stopped by nobody."""
        self._engine = engine
        self._settings = settings
        self._task_days = {task_named(name).name: days for name, days in settings.cache_task_days.items()}
        self._stage = stage
        self._status = status
        self._forget = forget

    def answer(self, run: Run) -> Generator[None, None, None]:
        """Answer a question a step at a time; whatever happens, the job is finished at the end. Raises nothing."""
        job = run.job
        run.started_at = time.monotonic()
        try:
            status = self._status()
            if status.state is not EngineState.READY:
                raise why_not_loaded(status)
            if run.turn is not None:
                self._keeping(run, partial(run.history.mark_running, run.turn.id))
            run.answered = self._earlier(run)
            run.cache_key = self._key(run, status)
            if not run.is_looked_up and self._look_up(run):
                return
            yield from self._generate(run)
        except GeneratorExit:  # the app closes while this runs: what there is, is kept
            self.finish(run, FinishReason.STOPPED)
            raise
        except AppError as error:
            log.warning("a question failed: %s", error.code)
            self.finish(run, FinishReason.FAILED, error=error.reason)
        except Exception:  # a stranger's error: the person gets a calm sentence, the log the rest
            log.exception("a question failed")
            self.finish(run, FinishReason.FAILED, error=Reason("app.unexpected"))
        finally:
            # Nobody may wait for ever, whatever broke above, the keeping of the failure included.
            unexpected = Answer(job.text, FinishReason.FAILED, error=Reason("app.unexpected"))
            if job.finish(unexpected, JobState.FAILED):
                log.error("a question ended without an answer")
            self._forget(job)

    def _generate(self, run: Run) -> Generator[None, None, None]:
        """Run the prompt; where memory runs out, once more with the pictures one rung lower."""
        if run.question.in_parts and (parts := self._parts(run.question)):
            yield from self._in_parts(run, parts)
            return
        messages = self._messages(run)
        for attempt in (1, 2):
            latest = latest_images(messages)
            run.seen = tuple(image.size for image in latest)
            run.clip_seconds = next((image.clip.seconds for image in latest if image.clip is not None), None)
            run.job.begin_reading()
            request = GenerationRequest(
                messages=messages,
                sampling=run.question.sampling,
                conversation_key=None if run.job.conversation_id is None else str(run.job.conversation_id),
                schema=enforced_schema(run.question),
                is_schema_open=not run.question.is_schema_exact,
                is_background=run.is_background,
            )
            try:
                yield from self._steps(run, request)
                return
            except OutOfMemoryError:
                if attempt == 2:
                    raise
            # Outside the handler: the traceback, which holds what filled the memory, is gone.
            smaller = self._smaller(run)
            if smaller is None:
                raise OutOfMemoryError("inference.out_of_memory")
            messages = smaller
            run.cache_key = None  # the answer is about other pixels than the question's

    def _parts(self, question: Question) -> tuple[Box, ...]:
        plan = self._engine.status.plan
        if plan is None or len(question.pictures) != 1:
            return ()
        picture = question.pictures[0]
        if picture.clip is not None:
            return ()
        return parts_of(picture.size, picture.seen.size, max_pixels=plan.rung().max_pixels)

    def _in_parts(self, run: Run, boxes: Sequence[Box]) -> Generator[None, None, None]:
        """Ask about the whole picture and about each of its parts, and make one answer of them; a stop keeps what there is."""
        picture, status = run.question.pictures[0], self._engine.status
        run.seen = (picture.seen.size,)
        run.job.begin_reading()
        looked: list[Part] = []
        usage, reason = Usage(), FinishReason.STOP
        for number, box in enumerate((Box(0.0, 0.0, 1.0, 1.0), *boxes)):
            if run.job.is_cancelled:
                reason = FinishReason.STOPPED
                break
            seen_png = picture.seen_png
            if number:
                seen_png = self._stage(crop_region(picture.view, box, margin=0.0), picture.name).seen_png
            image = to_image_input(seen_png)
            request = GenerationRequest((Message("user", run.question.text, (image,)),), run.question.sampling)
            said: list[str] = []
            for step in self._engine.generate(request, should_stop=lambda: run.job.is_cancelled):
                match step:
                    case StageStep(done=done, total=total):
                        run.job.read_to((number + 0.5 * done / max(total, 1)) / (len(boxes) + 1))
                    case TokenStep(text=text):
                        said.append(text)
                    case FinishedStep(finish_reason=ended, usage=used, text=rest):
                        said.append(rest)
                        usage = added(usage, used)
                        reason = ended if ended is not FinishReason.STOP else reason
                yield
            text = "".join(said)
            found = parse_answer(text, space=status.coordinates, seen=(image.size,)).regions
            looked.append(Part(box, mapped(found, box), text))
            if reason is FinishReason.STOPPED:
                break
        run.notes.append(Reason("tiles.asked", count=len(boxes), looked=max(0, len(looked) - 1)))
        whole = looked[0].regions if looked else ()
        regions = merged_regions(whole, looked[1:])
        if regions:
            text = regions_as_answer(regions, space=status.coordinates, seen=picture.seen.size)
        else:
            text = merged_text(looked[1:] if any(part.text.strip() for part in looked[1:]) else looked)
        run.job.add(text, is_token=False)
        self.finish(run, reason, usage=usage, regions=regions or None)

    def _steps(self, run: Run, request: GenerationRequest) -> Generator[None, None, None]:
        job = run.job
        kept_at = time.monotonic()
        for step in self._engine.generate(request, should_stop=lambda: job.is_cancelled):
            match step:
                case StageStep(done=done, total=total):
                    job.read_to(done / max(total, 1))
                case TokenStep(text=text):
                    token = ScoredToken(text, step.logprob, step.raw, step.allowed, step.likely)
                    job.add(text, token=token)
                    if run.turn is not None and time.monotonic() - kept_at >= PARTIAL_EVERY_S:
                        kept_at = time.monotonic()
                        self._keeping(run, partial(run.history.keep_partial, run.turn.id, job.text))
                case FinishedStep(finish_reason=reason, usage=usage, text=rest):
                    if rest:
                        job.add(rest, is_token=False)
                    run.notes += step.notes
                    self.finish(run, reason, usage=usage)
            yield

    def _key(self, run: Run, status: EngineStatus) -> str | None:
        """Return what a repeated question is known by; None where it is not to be answered from storage, nor kept for it.

        A server of somebody else's may change its model under the same name, so its answers have none.
        """
        if (
            run.turn is None
            or run.is_private
            or run.question.in_parts  # storage knows a question by the whole picture alone
            or not self._settings.cache_answers
            or not status.fingerprint
            or self._settings.remote_address
        ):
            return None
        return answer_key(
            run.job.owner,
            outline_of(run.question, run.answered),
            sampling=run.question.sampling,
            fingerprint=f"{status.fingerprint} {status.dtype}",
            schema=enforced_schema(run.question),
        )

    def look_up_now(self, run: Run) -> bool:
        """Answer at once, without waiting for the model, where storage has the answer."""
        try:
            run.answered = self._earlier(run)
        except HistoryError:
            return False  # whoever reads the conversation for the model says what is wrong
        run.cache_key = self._key(run, self._status())
        run.is_looked_up = True
        return self._look_up(run)

    def _look_up(self, run: Run) -> bool:
        if run.cache_key is None or run.is_anew:
            return False
        task = task_of(run.question.text) if self._task_days else None
        days = self._task_days.get(task.name if task else "", self._settings.cache_days)
        try:
            found = run.history.answer_cache.find(
                run.job.owner, run.cache_key, max_age=timedelta(days=days) if days else None
            )
        except HistoryError as error:
            log.warning("no stored answer could be looked for: %s", error.code)
            return False
        if found is not None:
            self._finish_from(run, found)
        return found is not None

    def _finish_from(self, run: Run, found: StoredAnswer) -> None:
        job, now = run.job, time.monotonic()
        started_at = run.started_at or job.asked_at
        note = Reason("history.from_cache", at=f"{found.kept_at:%Y-%m-%d %H:%M}", turn=found.turn_id)
        answer = replace(
            found.answer,
            timing=Timing(queued_s=started_at - job.asked_at, first_token_s=now - started_at, total_s=now - started_at),
            notes=(*found.answer.notes, note, *((run.not_kept,) if run.not_kept else ())),
        )
        run.cache_key = None  # it stands in storage as the answer of the turn that was asked first
        self._end(run, answer)

    def _earlier(self, run: Run) -> tuple[Turn, ...]:
        """Return the turns that the model is told of. Read only now: while this one waited, another may have ended."""
        if run.question.conversation_id is None:
            return ()
        turns = run.history.turns(
            run.job.owner, run.question.conversation_id, before=run.beside if run.turn is None else run.turn.id
        )
        return answered(turns)

    def _messages(self, run: Run) -> tuple[Message, ...]:
        def seen_png(picture: TurnPicture) -> bytes:
            return run.history.picture_bytes(run.job.owner, picture.id, Rendition.SEEN).data

        return prompt_of(run.question, run.answered, seen_png=seen_png)

    def _smaller(self, run: Run) -> tuple[Message, ...] | None:
        """Return the prompt with its largest pictures one rung lower; None where there is no lower rung.

        The pictures of this question keep their new size from here on; those of earlier turns are smaller in this
        prompt alone, since memory that is short today says nothing about tomorrow.
        """
        plan = self._engine.status.plan
        details = [picture.seen.detail for turn in run.answered for picture in turn.pictures]
        details += [picture.seen.detail for picture in pictures_of(run.question)]
        if plan is None or not details:
            return None
        order = list(Detail)
        rung = plan.below(max(details, key=order.index))
        if rung is None:
            return None

        def is_above(detail: Detail) -> bool:
            return order.index(detail) > order.index(rung.detail)

        def lowered(pictures: tuple[StagedPicture, ...]) -> tuple[StagedPicture, ...]:
            return tuple(
                self._stage(picture.upload, picture.name, page=picture.page, detail=rung.detail)
                if is_above(picture.seen.detail)
                else picture
                for picture in pictures
            )

        if any(is_above(picture.seen.detail) for picture in pictures_of(run.question)):
            earlier = tuple(replace(each, pictures=lowered(each.pictures)) for each in run.question.earlier)
            pictures = lowered(run.question.pictures)
            run.question = replace(run.question, pictures=pictures, earlier=earlier)
            run.job.pictures = pictures
            if run.turn is not None:
                self._keeping(run, partial(run.history.replace_seen, run.turn.id, pictures))
        messages = list(self._messages(run))
        for number, turn in enumerate(run.answered):
            at = len(run.question.earlier) + 2 * number
            images = tuple(
                self._lowered(run, picture, rung.detail) if is_above(picture.seen.detail) else image
                for picture, image in zip(turn.pictures, messages[at].images, strict=True)
            )
            messages[at] = replace(messages[at], images=images)
        run.notes.append(Reason("inference.smaller_after_out_of_memory", tokens=rung.max_tokens))
        return tuple(messages)

    def _lowered(self, run: Run, picture: TurnPicture, detail: Detail) -> ImageInput:
        upload = run.history.picture_bytes(run.job.owner, picture.id, Rendition.UPLOAD).data
        lowered = self._stage(upload, picture.name, page=picture.page, detail=detail)
        return to_image_input(lowered.seen_png, lowered.clip)

    def finish(
        self,
        run: Run,
        reason: FinishReason,
        *,
        usage: Usage | None = None,
        error: Reason | None = None,
        regions: tuple[Region, ...] | None = None,
    ) -> None:
        """End a question with what its job has so far: keep it and hand it to who waits. A second call does nothing.

        `regions` are known better than the text can say, where they are given.
        """
        job, now = run.job, time.monotonic()
        if job.answer is not None:
            return
        started_at = run.started_at or now
        status = self._engine.status
        text, tokens = job.text, job.news().tokens
        notes = (*run.notes, run.not_kept) if run.not_kept else tuple(run.notes)
        if reason is FinishReason.STOP and not text.strip():
            notes = (*notes, Reason("inference.wrote_nothing"))
        parsed = ParsedAnswer()
        if text:
            parsed = parse_answer(text, space=status.coordinates, seen=run.seen, clip_seconds=run.clip_seconds)
        if parsed.has_data and run.question.schema is not None and not run.question.is_schema_exact:
            parsed = replace(parsed, data=with_absent(parsed.data, run.question.schema))
        answer = Answer(
            text=text,
            finish_reason=reason,
            parsed=parsed if regions is None else replace(parsed, regions=regions),
            usage=usage or Usage(),
            timing=Timing(
                queued_s=started_at - job.asked_at,
                first_token_s=None if job.first_token_at is None else job.first_token_at - started_at,
                total_s=now - started_at,
            ),
            model=status.model,
            notes=notes,
            error=error,
            tokens=tokens,
            confidence=confidence_of(text, tokens),
        )
        self._end(run, answer)

    def _end(self, run: Run, answer: Answer) -> None:
        """Keep an answer, hand it to who waits, and let it be given again where it may be."""
        job, status = run.job, self._engine.status
        kept, state = _STATES[answer.finish_reason]
        if self.is_closing and kept is TurnState.STOPPED:
            kept = TurnState.INTERRUPTED  # nobody stopped it: the app ended
        if run.turn is not None:
            try:
                run.history.finish_turn(
                    run.turn.id, answer, state=kept, fingerprint=status.fingerprint, precision=status.dtype
                )
            except HistoryError as failure:
                answer = replace(answer, notes=(*run.notes, failure.reason))
        job.finish(answer, state)
        if run.turn is not None and run.cache_key is not None and answer.finish_reason is FinishReason.STOP:
            try:  # only now: nobody shall wait for it
                run.history.answer_cache.keep(job.owner, run.cache_key, run.turn.id)
            except HistoryError as failure:
                log.warning("an answer was not kept for repeated questions: %s", failure.code)
        self._forget(job)

    def _keeping(self, run: Run, keep: _Keep) -> None:
        """Do a write that the answer can do without: where it fails, the answer says so at the end."""
        try:
            keep()
        except HistoryError as error:
            run.not_kept = error.reason


_STATES: dict[FinishReason, tuple[TurnState, JobState]] = {
    FinishReason.STOP: (TurnState.DONE, JobState.DONE),
    FinishReason.LENGTH: (TurnState.DONE, JobState.DONE),
    FinishReason.REPETITION: (TurnState.DONE, JobState.DONE),
    FinishReason.STOPPED: (TurnState.STOPPED, JobState.STOPPED),
    FinishReason.FAILED: (TurnState.FAILED, JobState.FAILED),
}


def enforced_schema(question: Question) -> str | None:
    """Return the schema that the engine holds an answer to: the question's, with null for whatever may not be there."""
    if question.schema is None or question.is_schema_exact:
        return question.schema
    return nullable_schema(question.schema)


def added(one: Usage, other: Usage) -> Usage:
    """Return the counts of two prompts and their answers together."""
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        picture_tokens=one.picture_tokens + other.picture_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
    )
