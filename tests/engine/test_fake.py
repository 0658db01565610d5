"""The scripted engine speaks the protocol as the real one does."""

from __future__ import annotations

import threading

import pytest

from qwen_vl_app.chat import Detail, EngineState, FinishReason, Message, SamplingParams, Size
from qwen_vl_app.engine.base import Engine, FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.fake import FakeEngine, PiecesThen
from qwen_vl_app.errors import ModelError, ModelNotLoadedError, OutOfMemoryError

REQUEST = GenerationRequest((Message("user", "Hello there"),), SamplingParams())


def text_of(engine: FakeEngine) -> str:
    """Run the next reply to its end."""
    steps = engine.generate(REQUEST, should_stop=lambda: False)
    return "".join(step.text for step in steps if isinstance(step, TokenStep | FinishedStep))


def test_it_plays_its_replies_in_order() -> None:
    """Whole texts, pieces, errors, and errors in the middle."""
    engine: Engine = FakeEngine(
        ["one", ["t", "wo"], OutOfMemoryError("engine.out_of_memory"), PiecesThen(["a"], RuntimeError("x"))]
    )
    assert isinstance(engine, FakeEngine)
    with pytest.raises(ModelNotLoadedError):
        engine.generate(REQUEST, should_stop=lambda: False)
    engine.load()
    assert (text_of(engine), text_of(engine)) == ("one", "two")
    with pytest.raises(OutOfMemoryError):
        text_of(engine)
    with pytest.raises(RuntimeError):
        text_of(engine)
    assert len(engine.requests) == 4
    with pytest.raises(AssertionError):
        text_of(engine)


def test_a_gate_lets_one_piece_pass_at_a_time() -> None:
    """A test can look between two tokens and stop."""
    gate = threading.Semaphore(1)
    is_stopped = threading.Event()
    engine = FakeEngine([["a", "b", "c"]], gate=gate)
    engine.load()
    steps = engine.generate(REQUEST, should_stop=is_stopped.is_set)
    assert isinstance(next(steps), object)
    token = next(steps)
    assert isinstance(token, TokenStep) and token.text == "a"
    is_stopped.set()
    last = next(steps)
    assert isinstance(last, FinishedStep) and last.finish_reason is FinishReason.STOPPED


def test_loading_can_be_watched_and_can_fail() -> None:
    """The plan is there before the weights; a failure is told in the status."""
    loading = threading.Event()
    engine = FakeEngine(loading=loading)
    thread = threading.Thread(target=engine.load)
    thread.start()
    while engine.status.state is EngineState.EMPTY:
        pass
    assert engine.seen_size(Size(4032, 3024), detail=Detail.BALANCED).tokens <= 1280
    assert engine.status.state is EngineState.LOADING
    loading.set()
    thread.join()
    assert engine.status.state.value == "ready"
    broken = FakeEngine(load_error=ModelError("engine.load.failed", model="x"))
    with pytest.raises(ModelError):
        broken.load()
    assert broken.status.error is not None
