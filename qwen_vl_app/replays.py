"""A kept turn run again, on the pictures that the model saw then, and compared with what was answered.

Knows what makes two answers comparable. Does not know rows, nor how an answer is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.chat import Answer, FinishReason, Turn, TurnState
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.errors import AppError, InferenceError, UsageError
from qwen_vl_app.records import Records


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A kept turn beside the answer that it gets now. `differs_at` is the first character that differs."""

    turn: Turn
    answer: Answer
    is_same: bool
    is_same_model: bool
    is_same_precision: bool
    model: str
    precision: str
    differs_at: int | None = None


class Replays:
    """Runs kept turns again; nothing of it is kept. Any thread."""

    def __init__(self, records: Records, *, ask: Callable[..., AnswerJob], engine: Engine) -> None:
        self._records = records
        self._ask = ask
        self._engine = engine

    def run(self, owner: str, turn_id: int) -> ReplayResult:
        """Run a kept turn again and compare. Waits for the model.

        Raises UsageError where the turn was not finished or its answer was left to chance, HistoryError, and the errors of
        a question that fails.
        """
        return self.compare(owner, turn_id, self.start(owner, turn_id))

    def start(self, owner: str, turn_id: int) -> AnswerJob:
        """Begin to run a kept turn again; the job is for `compare`. Raises as `run`, and QueueFullError."""
        if (refusal := _refusal(self._records.turn(owner, turn_id))) is not None:
            raise refusal
        return self._ask(self._records.question_of(owner, turn_id), owner=owner, is_kept=False, beside=turn_id)

    def compare(self, owner: str, turn_id: int, job: AnswerJob) -> ReplayResult:
        """Wait for a turn that was begun again and compare it with what was kept. Raises AppError where it failed."""
        answer = job.wait()
        assert answer is not None  # noqa: S101 - there was no time-out
        if answer.error is not None:
            raise InferenceError(answer.error.code, **answer.error.facts)
        if answer.finish_reason is FinishReason.STOPPED:
            raise UsageError("records.replay_stopped")
        status = self._engine.status
        turn = self._records.turn(owner, turn_id)
        return _compared(turn, answer, fingerprint=status.fingerprint, precision=status.dtype)


def _refusal(turn: Turn) -> AppError | None:
    """Return why a turn cannot be played again and compared, or None where it can."""
    if turn.state is not TurnState.DONE or turn.answer is None:
        return UsageError("records.replay_unfinished")
    if turn.answer.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.REPETITION):
        return UsageError("records.replay_unfinished")
    if turn.sampling.temperature > 0 and turn.sampling.seed is None:
        return UsageError("records.replay_left_to_chance")
    return None


def _compared(turn: Turn, answer: Answer, *, fingerprint: str, precision: str) -> ReplayResult:
    """Compare a kept turn with the answer that the same question got now from these weights."""
    before = turn.answer.text if turn.answer is not None else ""
    is_same = before == answer.text and turn.answer is not None and turn.answer.finish_reason is answer.finish_reason
    return ReplayResult(
        turn=turn,
        answer=answer,
        is_same=is_same,
        is_same_model=turn.fingerprint == fingerprint,
        is_same_precision=turn.precision == precision,
        model=answer.model,
        precision=precision,
        differs_at=None if is_same else _first_difference(before, answer.text),
    )


def _first_difference(left: str, right: str) -> int:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))
