"""An engine that is made only when it is to be loaded: importing what it stands on takes seconds, and a page can stand
before that.

Knows the engine's protocol. Does not know which engine it will be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from qwen_vl_app.chat import Detail, EngineState, EngineStatus, SeenSize, Size
from qwen_vl_app.engine.base import Engine, GenerationRequest, Prediction, Step
from qwen_vl_app.errors import ModelNotLoadedError


class DeferredEngine:
    """Stands for an engine until `prepare` or `load` makes it, on the caller's thread; then passes everything on."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine: Engine | None = None
        self._is_making = False
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def status(self) -> EngineStatus:
        """The engine's, or that it is on its way."""
        engine = self._engine
        if engine is not None:
            return engine.status
        if self._is_closed:
            return EngineStatus(EngineState.CLOSED)
        return EngineStatus(EngineState.LOADING if self._is_making else EngineState.EMPTY)

    def prepare(self) -> None:
        """Make the engine and let it prepare."""
        self._made().prepare()

    def load(self) -> None:
        """Make the engine and let it load."""
        self._made().load()

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Ask the engine; before it is there, raise ModelNotLoadedError."""
        return self._there().seen_size(size, detail=detail)

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Ask the engine; before it is there, raise ModelNotLoadedError."""
        return self._there().predict(picture_tokens, text_tokens=text_tokens)

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Ask the engine; before it is there, raise ModelNotLoadedError."""
        return self._there().generate(request, should_stop=should_stop)

    def forget(self) -> None:
        """Let the engine forget; one that was never made has nothing to forget."""
        if self._engine is not None:
            self._engine.forget()

    def exchange(self, engine: Engine) -> Engine | None:
        """Put another engine, loaded already, in the place of the one there is; return that one, which the caller closes.

        A run under way goes on with the engine it began with. Raises ModelNotLoadedError after `close`.
        """
        with self._lock:
            if self._is_closed:
                raise ModelNotLoadedError("model.not_loaded")
            former, self._engine = self._engine, engine
        return former

    def close(self) -> None:
        """Let the engine go, or never make it."""
        with self._lock:
            self._is_closed = True
            engine = self._engine
        if engine is not None:
            engine.close()

    def _made(self) -> Engine:
        with self._lock:
            if self._is_closed:
                raise ModelNotLoadedError("model.not_loaded")
            engine = self._engine
            self._is_making = True
        if engine is not None:
            return engine
        engine = self._make()
        with self._lock:
            self._engine = engine
            is_late = self._is_closed
        if is_late:  # closed while it was being made
            engine.close()
            raise ModelNotLoadedError("model.not_loaded")
        return engine

    def _there(self) -> Engine:
        if self._engine is None:
            raise ModelNotLoadedError("model.not_loaded")
        return self._engine
