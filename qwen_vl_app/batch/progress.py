"""How far a run is, how fast it goes and how long it will take.

Knows counts and a monotonic clock that stands still while the run is paused. Does not know pictures.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from qwen_vl_app.errors import Reason

RECENT_FILES = 30
"""The rate is that of the last files: a folder may begin with small ones."""


class RunState(StrEnum):
    """Where a run stands."""

    LOADING = "loading"
    """It waits for the model."""
    RUNNING = "running"
    WATCHING = "watching"
    """Everything is done; it looks for new pictures."""
    PAUSED = "paused"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    """The app ended, or was killed, while it ran."""
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def is_live(self) -> bool:
        """True while a thread works on it, or waits."""
        return self in (RunState.LOADING, RunState.RUNNING, RunState.WATCHING, RunState.PAUSED)

    @property
    def is_resumable(self) -> bool:
        """True where going on makes sense."""
        return self in (RunState.STOPPED, RunState.INTERRUPTED, RunState.FAILED)


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """One consistent look at a run. `total` and `done` count files; answers, failures and duplicates count rows."""

    run_id: str
    state: RunState
    total: int
    done: int
    answered: int = 0
    failed: int = 0
    duplicates: int = 0
    skipped: int = 0
    current: str = ""
    """The file that is being worked on."""
    files_per_minute: float | None = None
    left_s: float | None = None
    """Seconds until the last file, at the present rate; None while there is nothing to judge by."""
    elapsed_s: float = 0.0
    """Since it was started or resumed, pauses not counted."""
    error: Reason | None = None
    at_a_time: int = 1
    """How many answers are made at a time."""
    why: Reason | None = None
    """Why so many; None before anything was asked."""

    @property
    def has_found_nothing(self) -> bool:
        """True where a run is over, and there was nothing to do."""
        rows = self.answered + self.failed + self.duplicates + self.skipped
        return self.state is RunState.FINISHED and not self.total and not rows


class Pace:
    """Measures files per second. Any thread; `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._worked_s = 0.0
        self._since: float | None = None
        self._landed: deque[float] = deque(maxlen=RECENT_FILES + 1)

    def start(self) -> None:
        """Let the clock run. Does nothing where it runs."""
        with self._lock:
            if self._since is None:
                self._since = self._clock()
                if not self._landed:
                    self._landed.append(self._worked_s)

    def stop(self) -> None:
        """Let the clock stand."""
        with self._lock:
            if self._since is not None:
                self._worked_s += self._clock() - self._since
                self._since = None

    def land(self) -> None:
        """Count one file."""
        with self._lock:
            self._landed.append(self._now_s())

    @property
    def elapsed_s(self) -> float:
        """The time worked so far."""
        with self._lock:
            return self._now_s()

    def seconds_per_file(self) -> float | None:
        """Return what one of the last files took, None before the first."""
        with self._lock:
            if len(self._landed) < 2:
                return None
            return max((self._landed[-1] - self._landed[0]) / (len(self._landed) - 1), 1e-6)

    def _now_s(self) -> float:
        return self._worked_s + (0.0 if self._since is None else self._clock() - self._since)
