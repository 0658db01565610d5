"""Several pictures' forms, filled one after the other on a thread, so that a page can go on.

Knows how far it is. Does not know where forms are kept.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.forms.filling import Filling, FillPlan, FillProgress, FormFiller
from qwen_vl_app.forms.judging import JudgedForm

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One look at a run: which picture of how many, the step within it, and what could not be filled."""

    done: int
    total: int
    step: FillProgress
    picture_name: str = ""
    is_over: bool = False
    form_ids: tuple[str, ...] = ()
    problems: tuple[tuple[str, Reason], ...] = ()


class FillRun:
    """A run between `start` and its end. Any thread may look at it or stop it."""

    def __init__(
        self,
        assistant: Assistant,
        plan: FillPlan,
        pictures: tuple[StagedPicture, ...],
        *,
        owner: str,
        keep: Callable[[Filling, StagedPicture], JudgedForm],
    ) -> None:
        self.run_id = secrets.token_hex(8)
        self.owner = owner
        self.plan = plan
        self._pictures = pictures
        self._keep = keep
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._step = FillProgress()
        self._done = 0
        self._form_ids: list[str] = []
        self._problems: list[tuple[str, Reason]] = []
        self._ended = threading.Event()
        self._filler = FormFiller(assistant, owner=owner, should_stop=self._stopping.is_set, on_progress=self._note)
        self._thread = threading.Thread(target=self._work, name=f"forms {self.run_id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop soon; forms that are filled stay."""
        self._stopping.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False when the time is up first."""
        return self._ended.wait(timeout_s)

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return not self._ended.is_set()

    def progress(self) -> RunProgress:
        """Return how far it is."""
        with self._lock:
            name = self._pictures[self._done].name if self._done < len(self._pictures) else ""
            return RunProgress(
                self._done,
                len(self._pictures),
                self._step,
                name,
                self._ended.is_set(),
                tuple(self._form_ids),
                tuple(self._problems),
            )

    def _note(self, step: FillProgress) -> None:
        with self._lock:
            self._step = step

    def _work(self) -> None:
        try:
            for picture in self._pictures:
                if self._stopping.is_set():
                    return
                self._fill(picture)
                with self._lock:
                    self._done += 1
        finally:
            self._ended.set()

    def _fill(self, picture: StagedPicture) -> None:
        try:
            judged = self._keep(self._filler.fill(self.plan, picture), picture)
        except AppError as error:
            if error.code != "forms.fill.stopped":
                log.warning("a form was not filled: %s", error.code)
                with self._lock:
                    self._problems.append((picture.name, error.reason))
            return
        except Exception:  # a mistake of ours must not look like a run that still goes on
            log.exception("a form was not filled")
            with self._lock:
                self._problems.append((picture.name, Reason("app.unexpected")))
            return
        with self._lock:
            self._form_ids.append(judged.form.form_id)
