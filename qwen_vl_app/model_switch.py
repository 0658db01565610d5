"""Changing the model while the app runs: one change at a time, behind the questions that wait already, with its progress told.

Knows the queue and the engine's exchange. Does not know how a model is loaded, nor who may ask for another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.errors import AppError, Reason, UsageError
from qwen_vl_app.jobs import JobQueue

log = logging.getLogger(__name__)

OWNER = "model switch"
"""Whose turn it is in the queue."""
Examine = Callable[[str, Engine], Iterable[None]]
"""Asks the model of a name, which is loaded but does not answer people yet, what is known of it; raises ModelError to refuse it."""


class SwitchState(StrEnum):
    """How far a change of models is."""

    WAITING = "waiting"
    """Behind the questions that came before."""
    LOADING = "loading"
    DONE = "done"
    NEEDS_ROOM = "needs_room"
    """Both models do not fit beside each other; nothing was changed. The old one would have to go first."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SwitchStatus:
    """The last change of models that was asked for. `problem` says why it did not come about."""

    model: str
    state: SwitchState
    loaded_bytes: int = 0
    weights_bytes: int = 0
    problem: Reason | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing more happens."""
        return self.state in (SwitchState.DONE, SwitchState.NEEDS_ROOM, SwitchState.FAILED)


class ModelSwitch:
    """The one place where models are changed. `examine` has a word before one takes over, `on_switched` is told its name after."""

    def __init__(
        self,
        exchange: EngineExchange,
        queue: JobQueue,
        on_switched: Callable[[str], None],
        *,
        examine: Examine = lambda model, engine: (),
    ) -> None:
        self._exchange = exchange
        self._queue = queue
        self._on_switched = on_switched
        self._examine = examine
        self._status: SwitchStatus | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def status(self) -> SwitchStatus | None:
        """The last change, None where there was none. Never blocks."""
        status, progress = self._status, self._exchange.progress
        if status is None or progress is None or status.state is not SwitchState.LOADING:
            return status
        return SwitchStatus(status.model, status.state, progress.loaded_bytes, progress.weights_bytes)

    def begin(self, model: str, *, unloads_first: bool = False) -> None:
        """Change to a model as soon as it is its turn; `status` tells the rest.

        Raises UsageError while another change is under way, QueueFullError.
        """
        with self._lock:
            if self._status is not None and not self._status.is_over:
                raise UsageError("switch.under_way", model=self._status.model)
            before, self._status = self._status, SwitchStatus(model, SwitchState.WAITING)
            self._over.clear()
        try:
            self._queue.submit(OWNER, lambda: self._run(model, unloads_first=unloads_first), is_alone=True)
        except AppError:
            self._status = before
            raise

    def wait(self, timeout_s: float | None = None) -> SwitchStatus | None:
        """Wait until the change is over, or the time is."""
        self._over.wait(timeout_s)
        return self.status

    def _run(self, model: str, *, unloads_first: bool) -> Generator[None, None, None]:
        self._status = SwitchStatus(model, SwitchState.LOADING)
        try:
            name = yield from self._exchange.run(
                model,
                unloads_first=unloads_first,
                is_alone=lambda: self._queue.running <= 1,
                examine=partial(self._examine, model),
            )
            self._on_switched(model)
            self._status = SwitchStatus(name, SwitchState.DONE)
        except AppError as error:
            log.warning("the model was not changed: %s", error.code)
            needs_room = error.code == "engine.switch.both_do_not_fit"
            state = SwitchState.NEEDS_ROOM if needs_room else SwitchState.FAILED
            self._status = SwitchStatus(model, state, problem=error.reason)
        except Exception:  # a stranger's error: the person gets a calm sentence, the log the rest
            log.exception("the model was not changed")
            self._status = SwitchStatus(model, SwitchState.FAILED, problem=Reason("app.unexpected"))
        finally:
            if self._status is not None and not self._status.is_over:  # the app ends
                self._status = SwitchStatus(model, SwitchState.FAILED, problem=Reason("model.not_loaded"))
            self._over.set()
