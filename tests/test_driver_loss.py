"""A fallen graphics driver: the engine knows it, the question is kept, and the app ends so that it can be started again."""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qwen_vl_app import bootstrap
from qwen_vl_app.chat import EngineState, FinishReason, Message, Question, TurnState
from qwen_vl_app.engine.base import DRIVER_LOST
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.engine.local import engine as local_engine
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.errors import InferenceError, ModelError, Reason
from scripts import run
from tests.engine.harness import ask
from tests.engine.tiny_models import make_qwen2_5_vl
from tests.hub_parts import WAIT_S, an_assistant, replace_settings


def test_a_card_that_answers_no_more_is_told_from_an_answer_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where every later call would fail too is the engine at its end."""
    make_qwen2_5_vl(tmp_path / "tiny")
    strikes = [True, True]

    def fault(point: str) -> None:
        if point == "decode" and strikes and strikes.pop():
            raise RuntimeError("CUDA error: unspecified launch failure")

    engine = LocalEngine(tmp_path, device="cpu", fault=fault)
    engine.load()
    with pytest.raises(InferenceError) as caught:
        ask(engine, Message("user", "hello"))
    assert caught.value.code == "engine.run_failed"
    assert engine.status.state is EngineState.READY
    monkeypatch.setattr(hardware, "driver_is_lost", lambda device: True)
    with pytest.raises(InferenceError) as caught:
        ask(engine, Message("user", "hello"))
    assert caught.value.code == DRIVER_LOST
    assert engine.status.state.value == "failed"
    assert engine.status.error == Reason(DRIVER_LOST)


@pytest.mark.parametrize("answers", [True, False])
def test_a_driver_that_falls_over_while_loading_is_told_from_a_library_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Such a card does not even take its memory back: the status says that it is lost, and the app can be started again."""
    make_qwen2_5_vl(tmp_path / "tiny")

    def falls(*given: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", (lambda: None) if answers else falls)
    monkeypatch.setattr(torch.cuda, "synchronize", (lambda device: None) if answers else falls)
    engine = LocalEngine(tmp_path, device="cpu", fault=falls)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError) as caught:
        engine.load()
    told = Reason("engine.load.failed", model="tiny") if answers else Reason(DRIVER_LOST)
    assert caught.value.reason == told
    assert engine.status.state is EngineState.FAILED
    assert engine.status.error == told


def test_a_failed_load_holds_nothing_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even through its error, which whoever asked for the model still has in hand while memory is given back."""
    make_qwen2_5_vl(tmp_path / "tiny")
    held: list[weakref.ref[torch.Tensor]] = []
    gone: list[bool] = []

    def fault(point: str) -> None:
        weights = torch.ones(4)
        held.append(weakref.ref(weights))
        raise ModelError("engine.load.damaged", model="tiny")

    engine = LocalEngine(tmp_path, device="cpu", fault=fault)
    monkeypatch.setattr(local_engine, "_free_memory", lambda: gone.extend(each() is None for each in held))
    with pytest.raises(ModelError):
        engine.load()
    assert gone == [True]


def test_the_card_is_asked_whether_it_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory is no lost driver, and a processor has none."""
    card = torch.device("cuda", 0)

    def fails(error: Exception) -> bool:
        def synchronize(_: object) -> None:
            raise error

        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
        return hardware.driver_is_lost(card)

    assert fails(RuntimeError("CUDA error: unspecified launch failure"))
    assert not fails(torch.OutOfMemoryError("CUDA out of memory"))
    assert not hardware.driver_is_lost(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert not hardware.driver_is_lost(card)


class Falling(FakeEngine):
    """Falls over in the middle of its first answer."""

    def fall(self) -> None:
        """Be what a lost driver leaves behind."""
        self._status = replace(self._status, state=EngineState.FAILED, error=Reason(DRIVER_LOST))


def test_the_question_is_kept_and_the_app_asks_to_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn stands in the history with its reason; the process ends with the status that the start script knows."""
    import app

    engine = Falling([InferenceError(DRIVER_LOST)])
    settings = replace_settings(data_dir=tmp_path, exit_on_driver_loss=True)
    assistant = an_assistant(engine, tmp_path, settings=settings)
    assistant.open()
    assistant.wait_until_loaded(WAIT_S)
    monkeypatch.setattr(bootstrap, "_instances", [assistant])
    assert not bootstrap.driver_is_lost()
    job = assistant.ask(Question("What is wrong with this pump?"))
    answer = job.wait(WAIT_S)
    assert answer is not None and answer.finish_reason is FinishReason.FAILED
    engine.fall()
    assert bootstrap.driver_is_lost()
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(app, "DRIVER_POLL_S", 0.01)
    asyncio.run(app._end_with_the_driver())
    assert ended == [run.RESTART_STATUS]
    assert run.is_crash(ended[0])

    again = an_assistant(FakeEngine(), tmp_path)
    with again:
        (conversation,) = again.conversations("local")
        (turn,) = again.turns("local", conversation.id)
    assert (turn.question, turn.state) == ("What is wrong with this pump?", TurnState.FAILED)


def test_without_anybody_to_start_it_again_the_app_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is wrong, and the history can still be read."""
    engine = Falling()
    assistant = an_assistant(engine, tmp_path)
    engine.fall()
    monkeypatch.setattr(bootstrap, "_instances", [assistant])
    assert not bootstrap.driver_is_lost()
