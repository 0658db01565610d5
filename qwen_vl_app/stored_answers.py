"""The very same question again: what it is known by, the answer that storage has for it, and keeping one for the next time.

Knows the settings about storage and what all an answer depends on. Does not know how answers are made or told; the
entries themselves are the history's.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta

from qwen_vl_app.answer_run import Run
from qwen_vl_app.chat import Answer, EngineStatus, Timing
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import answer_key
from qwen_vl_app.prompts import outline_of
from qwen_vl_app.tasks import task_named, task_of

log = logging.getLogger(__name__)


class StoredAnswers:
    """Answers that may be given again. Any thread; a storage that fails is as good as an empty one."""

    def __init__(self, settings: Settings) -> None:
        """Prepare. Raises UsageError for a setting about a ready-made task that does not exist."""
        self._settings = settings
        self._task_days = {task_named(name).name: days for name, days in settings.cache_task_days.items()}

    def key_of(self, run: Run, status: EngineStatus) -> str | None:
        """Return what a repeated question is known by; None where it is not to be answered from storage, nor kept for it.

        A server of somebody else's may change its model under the same name, so its answers have none.
        """
        if (
            (run.turn is None and not run.will_be_kept)
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
            schema=run.schema,
        )

    def find(self, run: Run) -> Answer | None:
        """Return the answer that is kept under the key of a question, with a note that says whence it is; None where there is none."""
        if run.cache_key is None or run.is_anew:
            return None
        task = task_of(run.question.text) if self._task_days else None
        days = self._task_days.get(task.name if task else "", self._settings.cache_days)
        try:
            found = run.history.answer_cache.find(
                run.job.owner, run.cache_key, max_age=timedelta(days=days) if days else None
            )
        except HistoryError as error:
            log.warning("no stored answer could be looked for: %s", error.code)
            return None
        if found is None:
            return None
        asked_at, now = run.job.asked_at, time.monotonic()
        started_at = run.started_at or asked_at
        note = Reason("history.from_cache", at=f"{found.kept_at:%Y-%m-%d %H:%M}", turn=found.turn_id)
        return replace(
            found.answer,
            timing=Timing(queued_s=started_at - asked_at, first_token_s=now - started_at, total_s=now - started_at),
            notes=(*found.answer.notes, note, *((run.not_kept,) if run.not_kept else ())),
        )

    def keep(self, run: Run) -> None:
        """Let the answer that a question's turn has got be given again, where the question has a key."""
        if run.turn is None or run.cache_key is None:
            return
        try:
            run.history.answer_cache.keep(run.job.owner, run.cache_key, run.turn.id)
        except HistoryError as failure:
            log.warning("an answer was not kept for repeated questions: %s", failure.code)
