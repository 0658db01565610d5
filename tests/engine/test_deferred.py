"""An engine that is made only when it is to be loaded."""

from __future__ import annotations

import pytest

from qwen_vl_app.chat import EngineState, Size
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.deferred import DeferredEngine
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import ModelNotLoadedError


def test_nothing_is_made_before_it_is_loaded() -> None:
    """Status and refusals come without the engine; loading makes it once."""
    made: list[Engine] = []

    def make() -> Engine:
        made.append(FakeEngine())
        return made[-1]

    engine = DeferredEngine(make)
    assert [engine.status.state] == [EngineState.EMPTY]
    engine.forget()
    with pytest.raises(ModelNotLoadedError):
        engine.seen_size(Size(100, 100))
    assert not made
    engine.prepare()
    engine.load()
    assert len(made) == 1
    assert _state(engine) is EngineState.READY
    assert engine.seen_size(Size(100, 100)) == made[0].seen_size(Size(100, 100))


def test_an_engine_that_comes_too_late_is_closed() -> None:
    """Where the app closes while the engine is being made, the engine is let go at once."""
    made: list[FakeEngine] = []

    def make() -> Engine:
        engine.close()
        made.append(FakeEngine())
        return made[-1]

    engine = DeferredEngine(make)
    with pytest.raises(ModelNotLoadedError):
        engine.load()
    assert made[0].status.state is EngineState.CLOSED
    with pytest.raises(ModelNotLoadedError):
        engine.load()


def _state(engine: Engine) -> EngineState:
    return engine.status.state
