"""How many answers of a run over a folder are made at a time, and why: by what the engine measured, and by memory.

Knows the engine's figures, its plan of sizes and what one question takes at most. Does not know runs, or the queue's turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwen_vl_app.chat import EngineState, EngineStatus, Question
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import Reason
from qwen_vl_app.jobs import BatchShare
from qwen_vl_app.prompts import pictures_of

WORTH = 1.1
"""More answers at a time have to gain this much over fewer, or they only wait longer for each other."""
FRAME_TOKENS = 64
"""What stands around a question: the system's words and the chat's marks."""


@dataclass(frozen=True, slots=True)
class RunWidth:
    """So many answers at a time, which together may take `room_tokens` of keys and values; None where nobody counts them.

    With `rests` they stand still while somebody waits for an answer, who need not wait for the end of any of them.
    """

    count: int
    reason: Reason
    room_tokens: int | None = None
    rests: bool = False

    def share(self) -> BatchShare:
        """Return the same for the queue, which has a thread for each question to a server."""
        return BatchShare(self.count, self.room_tokens, self.rests)

    def within(self, tokens: int) -> RunWidth:
        """Return what is left of it for questions that take so many tokens each."""
        if self.room_tokens is None or tokens * self.count <= self.room_tokens:
            return self
        count = max(1, self.room_tokens // max(tokens, 1))
        return RunWidth(
            count, Reason("batch.width.memory", count=count, tokens=tokens), self.room_tokens, rests=self.rests
        )


def width_of(status: EngineStatus, settings: Settings) -> RunWidth:
    """Return the width for the model that is loaded."""
    if settings.remote_address:
        count = settings.remote_lanes
        return RunWidth(count, Reason("batch.width.server", count=count))
    turns = settings.decode_batch
    plan = status.plan
    if status.state is not EngineState.READY or plan is None or not status.gains:
        # One turn stays free, so that nobody waits for a run.
        count = max(1, turns - 1)
        return RunWidth(count, Reason("batch.width.turns" if turns > 1 else "batch.width.one", count=count))
    count = settings.run_batch or best_of(status.gains)
    gain = status.gains.get(count, 1.0)
    if settings.run_batch:
        reason = Reason("batch.width.set", count=count)
    elif count == 1:
        reason = Reason("batch.width.no_gain", gain=max(status.gains.values()))
    else:
        reason = Reason("batch.width.gain", count=count, gain=gain)
    return RunWidth(count, reason, plan.spare_tokens, rests=True)


def best_of(gains: Mapping[int, float]) -> int:
    """Return how many answers at a time pay: as many as gain noticeably over the best of fewer."""
    best, most = 1, 1.0
    for count, gain in sorted(gains.items()):
        if gain >= most * WORTH:
            best, most = count, gain
    return best


def tokens_of(question: Question) -> int:
    """Return how many tokens a question and its answer take at most; a letter is at most one."""
    pictures = sum(picture.seen.tokens for picture in pictures_of(question))
    texts = len(question.text) + sum(len(each.text) for each in question.earlier)
    return pictures + texts + FRAME_TOKENS + question.sampling.max_new_tokens
