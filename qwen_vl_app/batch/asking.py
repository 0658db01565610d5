"""The questions of a run that are in the making, and the row that each of them becomes as soon as it is over.

Knows how many there may be, in the queue and being answered, and that what is over is written down at once, whichever it
is. Does not know where pictures come from, or what pausing and stopping are for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.answers import sureness
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.book import RunBook, now
from qwen_vl_app.batch.pictures import Item
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.chat import Answer, EngineState, FinishReason, Question, SamplingParams, StagedPicture
from qwen_vl_app.errors import AppError, FormError, ModelError, QueueFullError, Reason
from qwen_vl_app.forms import FillPlan, FormFiller, JudgedForm, desk_of, named_values
from qwen_vl_app.jobs import Priority
from qwen_vl_app.run_width import tokens_of

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How soon a stop is noticed."""
GATHER_S = 10.0
"""How long an answer that was told to stop is waited for."""


class StoppedError(Exception):
    """A question was stopped: by the run's own end, or by the app's. Not a failure of anything."""


@dataclass(slots=True, eq=False)
class _Asked:
    item: Item
    job: AnswerJob
    filling: Future[JudgedForm] | None = None

    @property
    def is_over(self) -> bool:
        return self.job.answer is not None and (self.filling is None or self.filling.done())


class Asking:
    """Asks a run's questions, a few at a time. One thread asks and writes; any may `cancel`."""

    def __init__(
        self, assistant: Assistant, plan: BatchPlan, *, run_id: str, book: RunBook, is_stopping: threading.Event
    ) -> None:
        self._assistant = assistant
        self._plan = plan
        self._run_id = run_id
        self._book = book
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._asked: list[_Asked] = []
        self._moved = threading.Event()
        self._is_ending = threading.Event()
        self._fillers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="forms")
        self.width = assistant.run_width
        """How many answers are made at a time, and why; by the last question that was asked."""

    def __len__(self) -> int:
        return len(self._asked)

    def close(self) -> None:
        """Stop what is still in the making, and write nothing more."""
        self._is_ending.set()
        self.cancel()
        with self._lock:
            self._asked.clear()
        self._fillers.shutdown(wait=True)

    def cancel(self) -> None:
        """Tell every question to stop."""
        with self._lock:
            asked = list(self._asked)
        for each in asked:
            each.job.cancel()
        self._moved.set()

    # 1. Asking

    def begin(self) -> None:
        """Take note of the model that is there now."""
        self.width = self._assistant.run_width

    def ask(self, item: Item, *, go_on: Callable[[], None]) -> None:
        """Put a question into the queue, once there are not more pictures in the making than gain.

        `go_on` is called while it waits, and raises to end the run. Raises StoppedError, BatchError, ModelError.
        """
        question = self._question(item)
        self.width = self._assistant.run_width.within(tokens_of(question))
        # One picture more than are answered, so that the model need not wait for the next one.
        while self._pictures_beside(item) > self.width.count:
            self.land()
        while True:
            go_on()
            try:
                job = self._assistant.ask(
                    question, owner=f"batch:{self._run_id}", is_kept=False, priority=Priority.BATCH
                )
                break
            except QueueFullError as error:
                if error.code == "queue.closed":
                    raise StoppedError from error
                if self._asked:
                    self.land()
                else:  # the queue is full of other people's questions, which go first
                    self._is_stopping.wait(LOOK_S)
        with self._lock:
            self._asked.append(_Asked(item, job))
        job.watch(lambda: None if job.answer is None else self._moved.set())
        if self._is_stopping.is_set():  # it came in between
            job.cancel()

    def _question(self, item: Item) -> Question:
        if self._plan.form is not None:
            return self._filler().question(self._plan.form, item.picture)
        return Question(
            self._plan.questions[item.question_index],
            (item.picture,),
            sampling=SamplingParams(max_new_tokens=self._plan.max_new_tokens),
        )

    def _pictures_beside(self, item: Item) -> int:
        """Return how many other pictures are in the making."""
        return len({id(each.item.picture) for each in self._asked} - {id(item.picture)})

    # 2. Landing

    def land_all(self) -> None:
        """Wait for every question that is in the making. Raises as `land`."""
        while self._asked:
            self.land()

    def land(self) -> None:
        """Wait until a question is over, whichever is the first, and write down what came of it.

        Raises StoppedError where one was stopped, BatchError, ModelError where the model is gone.
        """
        while True:
            self._moved.clear()
            over = self._first_over()
            if over is not None:
                break
            if self._is_stopping.is_set():
                self.cancel()
            self._moved.wait(LOOK_S)
        self._write(over)

    def gather(self) -> None:
        """Stop everything, and write down what was answered by then, so that it is not asked again."""
        self._is_ending.set()
        self.cancel()
        for asked in tuple(self._asked):
            answer = asked.job.wait(GATHER_S)
            if answer is None or answer.finish_reason in (FinishReason.STOPPED, FinishReason.FAILED):
                continue
            with contextlib.suppress(StoppedError, AppError):  # a form's second look was stopped, or the disk is full
                if self._plan.form is not None and asked.filling is None:
                    continue
                self._write(asked)

    def _first_over(self) -> _Asked | None:
        for asked in self._asked:
            answer = asked.job.answer
            if answer is not None and self._plan.form is not None and asked.filling is None and _is_answered(answer):
                # The second looks are questions as well: others are answered meanwhile.
                asked.filling = self._fillers.submit(self._filled, self._plan.form, _seen(asked), answer)
                asked.filling.add_done_callback(lambda _: self._moved.set())
        return next((asked for asked in self._asked if asked.is_over), None)

    def _write(self, asked: _Asked) -> None:
        with self._lock:
            self._asked.remove(asked)
        answer, item = asked.job.answer, asked.item
        if answer is None or answer.finish_reason is FinishReason.STOPPED:
            raise StoppedError
        self._refuse_a_dead_engine(answer)
        picture = _seen(asked)
        is_failed = answer.finish_reason is FinishReason.FAILED
        judged = None if asked.filling is None else asked.filling.result()
        confidence = sureness(answer)
        self._book.write(
            BatchRow(
                item.file.found.name,
                RowOutcome.FAILED if is_failed else RowOutcome.ANSWERED,
                now(),
                page=picture.page,
                page_count=picture.page_count,
                question_index=item.question_index,
                question=self._plan.questions[item.question_index],
                content_hash=item.file.content_hash,
                size=picture.size,
                seen=picture.seen,
                answer=answer,
                confidence=confidence if judged is None else judged.confidence,
                error=answer.error if is_failed else None,
                thumbnail=item.thumbnail,
                form_id="" if judged is None else judged.form.form_id,
                values=None if judged is None else named_values(judged),
                badness=0.0 if judged is None else judged.badness,
            )
        )
        item.file.open_questions -= 1
        if item.file.is_all_put and item.file.open_questions == 0:
            self._book.finish_file(item.file.found, item.file.content_hash)

    def _filler(self) -> FormFiller:
        return FormFiller(
            self._assistant,
            owner=f"batch:{self._run_id}",
            priority=Priority.BATCH,
            should_stop=lambda: self._is_stopping.is_set() or self._is_ending.is_set(),
        )

    def _filled(self, plan: FillPlan, picture: StagedPicture, answer: Answer) -> JudgedForm:
        """Make and keep the form of an answer, the second looks included."""
        try:
            return desk_of(self._assistant).keep(self._filler().finish(plan, picture, answer), picture)
        except FormError as error:
            if error.code == "forms.fill.stopped":
                raise StoppedError from error
            raise

    def _refuse_a_dead_engine(self, answer: Answer) -> None:
        """End the run where the model is gone: a thousand rows that all say so would help nobody."""
        state = self._assistant.status.engine.state
        if answer.finish_reason is FinishReason.FAILED and state is not EngineState.READY:
            error = answer.error or Reason("app.unexpected")
            raise ModelError(error.code, **error.facts)


def _is_answered(answer: Answer) -> bool:
    return answer.finish_reason not in (FinishReason.STOPPED, FinishReason.FAILED)


def _seen(asked: _Asked) -> StagedPicture:
    """Return the picture as the model saw it: smaller than it was staged where memory was short."""
    return asked.job.pictures[0] if asked.job.pictures else asked.item.picture
