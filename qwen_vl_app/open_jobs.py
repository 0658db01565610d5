"""The questions whose answers are not over: whose they are, which conversation each is told of, and stopping them.

Knows jobs, not how they are answered or in which order; the queue knows only those that wait or run, this one all from
the moment they are asked until everything about them is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from qwen_vl_app.answer_job import AnswerJob

HALT_TIMEOUT_S = 30.0


class OpenJobs:
    """Every job from its question to the end of all that belongs to its answer. Any thread."""

    def __init__(self) -> None:
        self._told_of: dict[AnswerJob, int | None] = {}
        """In the order they were asked, with the conversation whose words each is told."""
        self._lock = threading.Lock()

    def add(self, job: AnswerJob, told_of: int | None) -> bool:
        """Take a job in, told of the words of that conversation; return whether its owner had none before it."""
        with self._lock:
            is_alone = all(other.owner != job.owner for other in self._told_of)
            self._told_of[job] = told_of
        return is_alone

    def remove(self, job: AnswerJob) -> None:
        """Let a job go; one that is gone already is no mistake."""
        with self._lock:
            self._told_of.pop(job, None)

    def all(self) -> tuple[AnswerJob, ...]:
        """Return all jobs, oldest first."""
        with self._lock:
            return tuple(self._told_of)

    def of(self, owner: str, conversation_id: int) -> tuple[AnswerJob, ...]:
        """Return the jobs that stand in a conversation of an owner's, oldest first."""
        return tuple(job for job in self.all() if (job.owner, job.conversation_id) == (owner, conversation_id))

    def halt(self, owner: str, conversations: Collection[int] | None) -> None:
        """Stop an owner's questions that are told of these conversations, all of them for None, and wait for their end."""
        with self._lock:
            told = [
                job
                for job, told_of in self._told_of.items()
                if job.owner == owner and (conversations is None or told_of in conversations)
            ]
        for job in told:
            job.cancel()
        deadline = time.monotonic() + HALT_TIMEOUT_S
        for job in told:
            job.wait(max(deadline - time.monotonic(), 0.0))
