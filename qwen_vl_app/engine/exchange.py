"""One model in the place of another while the app runs: the old one stays until the new one has answered.

Knows engines and the memory they say they need. Does not know who asked for it, nor what waits meanwhile. Runs on the thread
that generates.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from qwen_vl_app.chat import EngineState, EngineStatus, Message, SamplingParams
from qwen_vl_app.engine.base import Engine, FinishedStep, GenerationRequest
from qwen_vl_app.engine.deferred import DeferredEngine
from qwen_vl_app.errors import AppError, ModelError, let_frames_go

log = logging.getLogger(__name__)

FIRST_QUESTION = "What is 1 + 1?"
FIRST_ANSWER_TOKENS = 8
LONGEST_WAIT_S = 300.0
SPARE = 1.1
"""Loading takes a little more than what it leaves behind."""


class EngineExchange:
    """Brings another model in. `make` returns an engine, not yet loaded, for a model's name or path."""

    def __init__(self, engine: DeferredEngine, make: Callable[[str], Engine], *, present: str = "") -> None:
        self._engine = engine
        self._make = make
        self._present = present
        self._candidate: Engine | None = None

    @property
    def progress(self) -> EngineStatus | None:
        """What the model that is being brought in says of itself; None while none is."""
        candidate = self._candidate
        return None if candidate is None else candidate.status

    def run(
        self,
        model: str,
        *,
        unloads_first: bool = False,
        is_alone: Callable[[], bool] = lambda: True,
        examine: Callable[[Engine], Iterable[None]] = lambda engine: (),
    ) -> Generator[None, None, str]:
        """Bring a model in, a step at a time, and return its name.

        Answers that are under way end with the model they began with. `is_alone` says that there are none any more: only then
        does a model that goes first leave its memory. `examine` asks the one that was loaded what its caller wants to know before
        it takes over, and raises ModelError to refuse it.

        Raises ModelError: `engine.switch.both_do_not_fit` where the two have no room beside each other and the old one was
        not to go first; whatever loading and a first question raise. In each case the old model answers as before, after
        having been loaded anew where it had to go.
        """
        former = self._present or self._engine.status.model
        with self._trying(model) as candidate:
            candidate.prepare()
            yield
            told = candidate.status
            # Whether both fit can only be asked of two that are in memory.
            is_only = self._engine.status.state is not EngineState.READY
            fits = told.needed_bytes * SPARE <= told.free_bytes
            if not fits and not unloads_first and not is_only:
                raise ModelError(
                    "engine.switch.both_do_not_fit",
                    model=told.model,
                    present=self._engine.status.model,
                    needed=told.needed_bytes,
                    free=told.free_bytes,
                )
            has_unloaded = not fits and not is_only
            if has_unloaded:  # from here on the new one's progress is what everybody sees
                self._let_go(self._engine.exchange(candidate))
                yield from _waiting(is_alone)
            failure: Exception | None = None
            try:
                candidate.load()
                yield
                _require_answer(candidate)
                yield from examine(candidate)
            except Exception as error:  # noqa: BLE001 - raised again below, once the old model is back
                failure = error
            if failure is not None:
                if has_unloaded:
                    # Its memory is what the old one needs; some of it hangs on the frames of what failed.
                    let_frames_go(failure)
                    candidate.close()
                    self._load_again(former)
                raise failure
            if not has_unloaded:
                self._let_go(self._engine.exchange(candidate))
            self._present = model
            return candidate.status.model

    @contextmanager
    def _trying(self, model: str) -> Iterator[Engine]:
        candidate = self._make(model)
        self._candidate = candidate
        try:
            yield candidate
        except BaseException:  # also where the app ends in the middle of it
            candidate.close()
            raise
        finally:
            self._candidate = None

    def _load_again(self, model: str) -> None:
        engine = self._make(model)
        self._engine.exchange(engine)
        try:
            engine.load()
        except AppError as error:  # its status says so, to everybody who asks
            log.warning("the former model did not load again: %s", error.code)

    @staticmethod
    def _let_go(engine: Engine | None) -> None:
        if engine is not None:
            engine.close()


def _waiting(is_over: Callable[[], bool]) -> Iterator[None]:
    """Give way until something is over, or until it would take too long."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not is_over() and time.monotonic() < deadline:
        yield


def _require_answer(engine: Engine) -> None:
    request = GenerationRequest((Message("user", FIRST_QUESTION),), SamplingParams(max_new_tokens=FIRST_ANSWER_TOKENS))
    finished = [step for step in engine.generate(request, should_stop=lambda: False) if isinstance(step, FinishedStep)]
    if not finished or not finished[-1].usage.completion_tokens:
        raise ModelError("engine.switch.no_answer", model=engine.status.model)
