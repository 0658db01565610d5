"""One answer in the making, on the inference thread: looked up, generated, parsed, kept.

Knows the engine and in which order things happen to one question. Does not know the queue, or which doors there are; the hub
hands it a question that was kept already, and takes back nothing but the finished job. What a question carries along is
`answer_run.py`; where storage has the answer `stored_answers.py` says, what becomes of large pictures `in_parts.py` and,
where memory ran out, `smaller_pictures.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.answer_run import Run
from qwen_vl_app.answers import confidence_of, parse_answer, with_absent
from qwen_vl_app.chat import (
    Answer,
    EngineState,
    EngineStatus,
    FinishReason,
    ParsedAnswer,
    Region,
    ScoredToken,
    Timing,
    TurnState,
    Usage,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import Engine, FinishedStep, GenerationRequest, StageStep, TokenStep
from qwen_vl_app.errors import AppError, HistoryError, OutOfMemoryError, Reason
from qwen_vl_app.in_parts import ask_in_parts
from qwen_vl_app.intake import Intake
from qwen_vl_app.present_model import why_not_loaded
from qwen_vl_app.prompts import latest_images
from qwen_vl_app.smaller_pictures import smaller_prompt
from qwen_vl_app.stored_answers import StoredAnswers

log = logging.getLogger(__name__)

PARTIAL_EVERY_S = 1.0


class Answering:
    """Makes the answers of one assistant. All but `finish` and `look_up_now` run on the inference thread."""

    def __init__(
        self,
        *,
        engine: Engine,
        settings: Settings,
        intake: Intake,
        status: Callable[[], EngineStatus],
        forget: Callable[[AnswerJob], None],
    ) -> None:
        """Prepare. Raises UsageError for a setting about a ready-made task that does not exist."""
        self.is_closing = False
        """Set once the app ends: what is stopped from then on was stopped by nobody."""
        self._engine = engine
        self._intake = intake
        self._stored = StoredAnswers(settings)
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
                run.keep_meanwhile(partial(run.history.mark_running, run.turn.id))
            run.read_earlier()
            run.cache_key = self._stored.key_of(run, status)
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
        pictures = run.question.pictures if run.question.in_parts else ()
        if len(pictures) == 1 and (parts := self._intake.parts(pictures[0])):
            looked = yield from ask_in_parts(run, parts, engine=self._engine, intake=self._intake)
            self.finish(run, looked.reason, usage=looked.usage, regions=looked.regions)
            return
        if len(pictures) > 1 and any(map(self._intake.part_count, pictures)):
            run.notes.append(Reason("tiles.several", count=len(pictures)))
        messages = run.prompt()
        for attempt in (1, 2):
            latest = latest_images(messages)
            run.seen = tuple(image.size for image in latest)
            run.clip_seconds = next((image.clip.seconds for image in latest if image.clip is not None), None)
            run.job.begin_reading()
            request = GenerationRequest(
                messages=messages,
                sampling=run.question.sampling,
                conversation_key=None if run.job.conversation_id is None else str(run.job.conversation_id),
                schema=run.schema,
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
            smaller = smaller_prompt(run, self._engine.status.plan, self._intake)
            if smaller is None:
                raise OutOfMemoryError("inference.out_of_memory")
            messages = smaller
            run.cache_key = None  # the answer is about other pixels than the question's

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
                        run.keep_meanwhile(partial(run.history.keep_partial, run.turn.id, job.text))
                case FinishedStep(finish_reason=reason, usage=usage, text=rest):
                    if rest:
                        job.add(rest, is_token=False)
                    run.notes += step.notes
                    self.finish(run, reason, usage=usage)
            yield

    def is_stored(self, run: Run) -> bool:
        """Tell whether storage has the answer of a question that is not kept yet."""
        try:
            run.read_earlier()
        except HistoryError:
            return False
        run.cache_key = self._stored.key_of(run, self._status())
        return self._stored.find(run) is not None

    def look_up_now(self, run: Run) -> bool:
        """Answer at once, without waiting for the model, where storage has the answer."""
        try:
            run.read_earlier()
        except HistoryError:
            return False  # whoever reads the conversation for the model says what is wrong
        run.cache_key = self._stored.key_of(run, self._status())
        run.is_looked_up = True
        return self._look_up(run)

    def _look_up(self, run: Run) -> bool:
        answer = self._stored.find(run)
        if answer is not None:
            run.cache_key = None  # it stands in storage as the answer of the turn that was asked first
            self._end(run, answer)
        return answer is not None

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
            parsed = parse_answer(
                text,
                space=status.coordinates,
                seen=run.seen,
                clip_seconds=run.clip_seconds,
                question=run.question.text,
            )
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
        if answer.finish_reason is FinishReason.STOP:
            self._stored.keep(run)  # only now: nobody shall wait for it
        self._forget(job)


_STATES: dict[FinishReason, tuple[TurnState, JobState]] = {
    FinishReason.STOP: (TurnState.DONE, JobState.DONE),
    FinishReason.LENGTH: (TurnState.DONE, JobState.DONE),
    FinishReason.REPETITION: (TurnState.DONE, JobState.DONE),
    FinishReason.STOPPED: (TurnState.STOPPED, JobState.STOPPED),
    FinishReason.FAILED: (TurnState.FAILED, JobState.FAILED),
}
