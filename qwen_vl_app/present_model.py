"""The model that answers at present: brought up, waited for, checked in idle moments, and changed for another.

Knows the engine, its exchange and the queue whose thread loads and generates. Does not know questions, owners or what is
kept. How a model is brought in beside another is `model_switch.py`, what it is asked to know it is well `model_check.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from qwen_vl_app.chat import Detail, EngineState, EngineStatus
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.engine.folders import ModelFolder, list_models
from qwen_vl_app.engine.form_rules import form_rules
from qwen_vl_app.engine.json_schemas import UnenforceableError
from qwen_vl_app.errors import AppError, ModelNotLoadedError, Reason, UsageError
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.jobs import JobQueue
from qwen_vl_app.model_check import CheckStatus, ModelCheck
from qwen_vl_app.model_switch import ModelSwitch, SwitchStatus
from qwen_vl_app.samples import Sample, load_samples

log = logging.getLogger(__name__)

PLAN_TIMEOUT_S = 600.0
"""The first start from a slow disk, where a virus scanner reads every library as well, takes minutes."""
FORGET_TIMEOUT_S = 10.0

_StatusTest: TypeAlias = Callable[[EngineStatus], bool]


@dataclass(frozen=True, slots=True)
class FormSupport:
    """Whether answers are held to a schema while they are written, and the rules of it that are not, by their names."""

    is_held: bool
    unheld: tuple[str, ...] = ()


class PresentModel:
    """The one model of an assistant. Any thread; the engine itself is the assistant's to close."""

    def __init__(
        self,
        engine: Engine,
        queue: JobQueue,
        *,
        settings: Settings,
        decoder: PictureDecoder,
        detail: Detail | None,
        exchange: EngineExchange | None,
        is_checked: bool,
        on_switched: Callable[[str], None],
    ) -> None:
        """Prepare. Without `exchange` there is no other model to be had; `on_switched` is told the name of one that took over.

        With `is_checked` a model is asked what is known of it, on pictures at the rung `detail`.
        """
        self._engine = engine
        self._queue = queue
        self._settings = settings
        self._chosen = settings.model
        """A folder's name or a path, as the settings or a change of models named it; empty for whichever is found."""
        self._decoder = decoder
        self._detail = detail
        self._is_checked = is_checked and not settings.remote_address
        self._on_switched = on_switched
        self._load_problem: Reason | None = None
        self._is_given_up = False
        self._page_stands = threading.Event()
        self._check: ModelCheck | None = None
        self._next_check: ModelCheck | None = None
        """Of the model that is about to take over."""
        self._switch = None
        if exchange is not None:
            self._switch = ModelSwitch(exchange, queue, self._note_switch, examine=self._examine)

    # 1. Coming up

    def load(self, *, courtesy_s: float = 0.0) -> None:
        """Start the queue, and the model first thing on its thread, after `page_stands` or `courtesy_s`. Returns at once."""
        self._queue.start(partial(self._bring_up, self._engine.load, courtesy_s=courtesy_s))

    def prepare(self) -> None:
        """Start the queue, and only find out the plan of sizes: no weights are read. Returns at once."""
        self._queue.start(partial(self._bring_up, self._engine.prepare))

    def page_stands(self) -> None:
        """Tell that a first page was drawn. Any thread, any number of times."""
        self._page_stands.set()

    def give_up(self) -> None:
        """Tell that the app ends: nothing waits for a page any more, and what does not load is not tried again."""
        self._is_given_up = True
        self._page_stands.set()

    def _bring_up(self, step: Callable[[], None], *, courtesy_s: float = 0.0) -> None:
        self._page_stands.wait(courtesy_s)
        for is_last in (False, True):
            try:
                step()
                if self._engine.status.state is EngineState.READY:
                    self._begin_check(self._new_check(self._engine))
            except AppError as error:
                log.warning("the model did not load: %s", error.code)
                self._load_problem = error.reason
            except Exception:  # whatever went wrong, the thread must live to tell those who ask
                log.exception("the model did not load")
                if not is_last and not self._is_given_up:
                    # Libraries of this size fail by chance at times, on a machine that is short of everything as it starts.
                    continue
                self._load_problem = Reason("model.load_broke")
            return

    # 2. How it is

    @property
    def status(self) -> EngineStatus:
        """The engine's own word, but FAILED where loading broke in a way that the engine did not notice itself."""
        status = self._engine.status
        if self._load_problem is None or status.state in (EngineState.FAILED, EngineState.CLOSED):
            return status
        return replace(status, state=EngineState.FAILED, error=self._load_problem)

    @property
    def check_status(self) -> CheckStatus | None:
        """How it does on what is known of it; None where it is not checked."""
        return None if self._check is None else self._check.status

    def wait_until_loaded(self, timeout_s: float | None = None) -> EngineStatus:
        """Wait for the weights. Raises ModelNotLoadedError with the reason when it failed, or when the time is up."""
        return self._await(lambda status: status.state is EngineState.READY, timeout_s)

    def wait_for_plan(self, timeout_s: float = PLAN_TIMEOUT_S) -> EngineStatus:
        """Wait until the sizes of pictures are known, well before the weights are there. Raises as `wait_until_loaded`."""
        return self._await(lambda status: status.plan is not None, timeout_s)

    def _await(self, is_enough: _StatusTest, timeout_s: float | None) -> EngineStatus:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            status = self.status
            if is_enough(status):
                return status
            if status.state in (EngineState.FAILED, EngineState.CLOSED):
                raise why_not_loaded(status)
            if deadline is not None and time.monotonic() > deadline:
                raise ModelNotLoadedError("model.still_loading")
            time.sleep(0.02)

    def form_support(self, schema: str) -> FormSupport:
        """Return how far its answers would be held to a schema, given as JSON text."""
        try:
            rules = form_rules(schema)
        except UnenforceableError as error:
            return FormSupport(is_held=False, unheld=(error.rule,))
        is_held = any(choice.code == "engine.form.grammar" for choice in self.status.choices)
        return FormSupport(is_held, rules.relaxed)

    def forget(self) -> tuple[Reason, ...]:
        """Let it drop pictures and conversations that it has read, as if it had just been loaded; return what cannot be promised."""
        if self._settings.remote_address:
            return (Reason("records.server_may_remember"),)
        if self.status.state is not EngineState.READY:
            return ()
        if self._queue.aside(self._engine.forget).wait(FORGET_TIMEOUT_S):
            return ()
        return (Reason("records.model_still_remembers"),)

    # 3. Its folder

    def folders(self) -> tuple[ModelFolder, ...]:
        """Return the model folders there are, damaged ones with their problem."""
        return list_models(self._settings.models_dir)

    def folder(self) -> Path | None:
        """Return its own folder, None before it is known which one runs."""
        return self._folder_of(self._engine, self._chosen)

    def samples(self) -> tuple[Sample, ...]:
        """Return the sample pictures that came with it; none before it is known which one runs."""
        folder = self.folder()
        return load_samples(folder) if folder is not None else ()

    def _folder_of(self, engine: Engine, model: str) -> Path | None:
        name, given = engine.status.model, Path(model)
        if not name:
            return None
        return given if given.is_absolute() else self._settings.models_dir / name

    # 4. Another in its place

    @property
    def switch_status(self) -> SwitchStatus | None:
        """The last change of models that was asked for. Never blocks."""
        return None if self._switch is None else self._switch.status

    def switch(self, name: str, *, unloads_first: bool = False) -> None:
        """Bring another model in, a folder's name or a path; returns at once, `switch_status` tells the rest.

        The one there is stays until the new one has answered; questions asked meanwhile wait for that. Where both do not
        fit into memory beside each other, nothing is changed and the status says `needs_room`, unless the old one is to
        be unloaded first. Raises UsageError where models cannot be changed here or another change is under way,
        QueueFullError.
        """
        if self._switch is None or self._settings.remote_address or not self._settings.switch_models:
            raise UsageError("switch.not_here")
        self._switch.begin(name, unloads_first=unloads_first)

    def wait_for_switch(self, timeout_s: float | None = None) -> SwitchStatus | None:
        """Wait until a change of models is over."""
        return None if self._switch is None else self._switch.wait(timeout_s)

    def _note_switch(self, name: str) -> None:
        self._chosen = name
        self._on_switched(name)
        self._load_problem = None
        self._begin_check(self._next_check)

    def _examine(self, model: str, engine: Engine) -> Iterator[None]:
        """Ask a model that is to take over, a question at a step. Raises ModelError where it must not."""
        self._next_check = self._new_check(engine, model)
        if self._next_check is not None:
            yield from self._next_check.begin(engine)

    def _new_check(self, engine: Engine, model: str = "") -> ModelCheck | None:
        folder = self._folder_of(engine, model or self._chosen)
        if not self._is_checked or folder is None:
            return None
        return ModelCheck(engine.status, folder, decoder=self._decoder, detail=self._detail)

    def _begin_check(self, check: ModelCheck | None) -> None:
        self._check, self._next_check = check, None
        self._queue.pass_time_with(None if check is None else partial(check.go_on, self._engine))


def why_not_loaded(status: EngineStatus) -> ModelNotLoadedError:
    """Return the error for an engine that cannot answer, with its own reason where it has one."""
    if status.error is not None:
        return ModelNotLoadedError(status.error.code, **status.error.facts)
    return ModelNotLoadedError("model.not_loaded")
