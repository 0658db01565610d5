"""From a question to its job: looked over, kept, answered from storage or put into the queue.

Knows where a conversation is kept, the queue and who makes the answers. Does not know how an answer is made, which doors
there are, or anything of the model but whether it is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.answer_run import Run
from qwen_vl_app.answering import Answering
from qwen_vl_app.answers import is_schema
from qwen_vl_app.chat import FinishReason, Question
from qwen_vl_app.errors import HistoryError, QueueFullError, Reason, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.jobs import JobQueue, Place, Priority
from qwen_vl_app.open_jobs import OpenJobs
from qwen_vl_app.private import PrivateConversations
from qwen_vl_app.private import is_private as is_private_id
from qwen_vl_app.prompts import pictures_of
from qwen_vl_app.run_width import tokens_of

TITLE_LENGTH = 60


class Asking:
    """Takes the questions of one assistant. Any thread."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        jobs: OpenJobs,
        answering: Answering,
        history_of: Callable[[int | None], HistoryStore],
        history_problem: Callable[[], Reason | None],
        private: PrivateConversations,
        is_ready: Callable[[], bool],
        max_pictures: int,
    ) -> None:
        """Prepare. `history_of` says where a conversation or a turn is, and for None where a new one that is not private goes.

        `history_problem` says why nothing can be kept on the disk, `is_ready` whether the model could answer at once.
        """
        self._queue = queue
        self._jobs = jobs
        self._answering = answering
        self._history_of = history_of
        self._history_problem = history_problem
        self._private = private
        self._is_ready = is_ready
        self._max_pictures = max_pictures

    def ask(
        self,
        question: Question,
        *,
        owner: str,
        is_kept: bool = True,
        is_private: bool = False,
        priority: Priority = Priority.PAGE,
        beside: int | None = None,
        is_anew: bool = False,
    ) -> AnswerJob:
        """Keep a question, queue it, and return its job at once.

        `is_kept=False` leaves no trace in the history: for programs, who keep their conversations themselves. A new
        conversation that `is_private` lives in memory until `private` lets it go, and every question that continues it
        does as well; it is never answered from storage. With `beside` it takes the place of that turn, on a branch of
        its own: the model is told only of the turns before it. The very same question with a deterministic answer is
        answered from storage, which a note `history.from_cache` says, unless it `is_anew`.

        Raises UsageError for a question that is none, QueueFullError, and HistoryError only where the conversation that
        it continues is not this owner's: then nothing of it is kept. A history that cannot write does not stop the question:
        the answer says so.
        """
        question = self._usable(question)
        continued = question.conversation_id if beside is None else beside
        if continued is not None:
            is_private = is_private_id(continued)
        history = self._history_of(continued)
        not_kept: Reason | None = self._history_problem() if is_kept and not is_private else None
        if beside is not None:
            conversation_id = history.turn(owner, beside).conversation_id
            if question.conversation_id not in (None, conversation_id):
                raise HistoryError("history.not_found")
            question = replace(question, conversation_id=conversation_id)
        elif question.conversation_id is not None:
            history.conversation(owner, question.conversation_id)
        unkept = Run(
            job=AnswerJob(owner=owner, turn_id=None, conversation_id=None, pictures=question.pictures),
            question=question,
            history=self._private.history if is_private else history,
            not_kept=not_kept,
            turn=None,
            beside=beside,
            is_anew=is_anew,
            is_private=is_private,
            will_be_kept=is_kept and not_kept is None,
            is_background=priority is Priority.BATCH,
        )
        place = self._place_for(unkept, priority)
        try:
            run = self._kept(unkept, is_kept=is_kept)
            told_of = run.turn.conversation_id if run.turn else question.conversation_id
            # Only an answer of this owner's own that is still being made could change what storage knows.
            is_alone = self._jobs.add(run.job, told_of)
            if not (is_alone and self._is_ready() and self._answering.look_up_now(run)):
                self._queue_up(run, priority, place)
        finally:
            if place is not None:
                self._queue.leave(place)
        return run.job

    def _place_for(self, run: Run, priority: Priority) -> Place | None:
        """Return a place in the queue for a question before anything of it is kept; None where storage has its answer.

        Raises QueueFullError.
        """
        try:
            return self._queue.reserve(run.job.owner, priority=priority)
        except QueueFullError as error:
            is_alone = all(job.owner != run.job.owner for job in self._jobs.all())
            if error.code == "queue.closed" or not (is_alone and self._is_ready() and self._answering.is_stored(run)):
                raise
            return None

    def _kept(self, run: Run, *, is_kept: bool) -> Run:
        """Return what a question carries along, with its turn where it could be kept. Raises HistoryError, UsageError."""
        question, owner = run.question, run.job.owner
        turn, not_kept = run.turn, run.not_kept
        if run.will_be_kept:
            begin = self._private.begin_turn if run.is_private else run.history.begin_turn
            try:
                turn = begin(owner, question, title=_title(question.text), beside=run.beside)
            except HistoryError as error:
                if error.code == "history.not_found":
                    raise
                not_kept = error.reason
        told_of = turn.conversation_id if turn else question.conversation_id
        job = AnswerJob(
            owner=owner,
            turn_id=turn.id if turn else None,
            # What is played again beside a turn and not kept belongs on no page.
            conversation_id=told_of if is_kept or run.beside is None else None,
            pictures=question.pictures,
        )
        return replace(run, job=job, turn=turn, not_kept=not_kept, will_be_kept=False, answered=(), cache_key=None)

    def _queue_up(self, run: Run, priority: Priority, place: Place | None) -> None:
        """Let a question wait for the model. Raises QueueFullError where its place is gone, after its job was finished."""
        job, question = run.job, run.question
        group: object = job.conversation_id
        if priority is Priority.BATCH and group is None and question.pictures:
            # One after the other, so that the second finds the picture read.
            group = (job.owner, *(picture.picture_id for picture in question.pictures))
        try:
            ticket = self._queue.submit(
                job.owner,
                partial(self._answering.answer, run),
                priority=priority,
                group=group,
                cost=tokens_of(question),
                has_to_end=lambda: job.is_cancelled,
                place=place,
            )
        except QueueFullError as error:
            self._answering.finish(run, FinishReason.FAILED, error=error.reason)
            raise
        job.position_of = partial(self._queue.position, ticket)
        job.wait_of = self._queue.expected_wait_s

        def withdraw() -> None:
            if self._queue.withdraw(ticket):
                self._answering.finish(run, FinishReason.STOPPED)

        job.on_cancel = withdraw
        if job.is_cancelled:  # somebody deletes the conversation, or closes the app, at this very moment
            withdraw()

    def _usable(self, question: Question) -> Question:
        """Return the question in whole characters, without space around them. Raises UsageError for one that is none."""
        text = _speakable(question.text.strip())
        if not text and not (question.pictures and question.earlier):  # what is wanted may have been said before
            raise UsageError("question.empty")
        if len(pictures_of(question)) > self._max_pictures:
            raise UsageError("question.too_many_pictures", limit=self._max_pictures)
        if question.schema is not None and not is_schema(question.schema):
            raise UsageError("question.bad_schema")
        return replace(question, text=text)


def _speakable(text: str) -> str:
    """Put the replacement character where a word holds half a character, as a console of another encoding sends it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
