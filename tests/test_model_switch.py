"""The model is changed while the app runs; whatever goes wrong, the one that answered goes on answering."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import EngineState, Question
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.deferred import DeferredEngine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import ModelError, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.model_switch import SwitchState
from tests.hub_parts import WAIT_S, FakeDecoder


class Sized(FakeEngine):
    """A fake that says what memory it needs and what is free."""

    needed_bytes, free_bytes = 100, 1000

    def prepare(self) -> None:
        super().prepare()
        self._status = replace(self._status, needed_bytes=self.needed_bytes, free_bytes=self.free_bytes)


class Garage:
    """Engines by the model's name; the next one of a name is made when it is asked for."""

    def __init__(self, **engines: list[FakeEngine]) -> None:
        self.engines = engines
        self.made: list[str] = []

    def make(self, model: str) -> Engine:
        self.made.append(model)
        return self.engines[model].pop(0)


@contextmanager
def assistant_of(garage: Garage, folder: Path, **settings: object) -> Iterator[Assistant]:
    """An open assistant whose model is `old`."""
    engine = DeferredEngine(lambda: garage.make("old"))
    made = Assistant(
        engine=engine,
        exchange=EngineExchange(engine, garage.make, present="old"),
        decoder=cast(PictureDecoder, FakeDecoder()),
        history=HistoryStore(folder),
        settings=Settings.model_validate({"data_dir": folder, **settings}),
    )
    with made:
        made.wait_until_loaded(WAIT_S)
        yield made


def answer_of(assistant: Assistant) -> str:
    """Ask something and return who answered and what."""
    answer = assistant.ask(Question("who?"), is_kept=False, is_anew=True).wait(WAIT_S)
    assert answer is not None
    return f"{answer.model}: {answer.text}"


def test_the_new_model_takes_over_once_it_has_answered(tmp_path: Path) -> None:
    """The old one answers while the new one loads, and is closed only then."""
    loading = threading.Event()
    old, new = FakeEngine(["before"], model="old"), Sized(["2", "after"], model="new", loading=loading)
    with assistant_of(Garage(old=[old], new=[new]), tmp_path) as assistant:
        assert answer_of(assistant) == "old: before"
        assistant.switch_model("new")
        with pytest.raises(UsageError, match="under_way"):
            assistant.switch_model("new")
        assert assistant.status.engine.model == "old"
        assert assistant.status.engine.state is EngineState.READY
        loading.set()
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.DONE
        assert answer_of(assistant) == "new: after"
        assert old.status.state is EngineState.CLOSED
        assert assistant.settings.model == "new"
        assert new.requests[0].messages[0].text == "What is 1 + 1?"


@pytest.mark.parametrize("failure", ["load", "answer", "silence", "stranger"])
def test_a_model_that_does_not_load_or_answer_changes_nothing(tmp_path: Path, failure: str) -> None:
    """The reason is told, the old model answers on."""
    new = {
        "load": Sized(model="new", load_error=ModelError("engine.load.failed", model="new")),
        "answer": Sized([ModelError("engine.run_failed")], model="new"),
        "silence": Sized([[]], model="new"),
        "stranger": Sized([RuntimeError("a library's own error")], model="new"),
    }[failure]
    old = FakeEngine(["as before"], model="old")
    with assistant_of(Garage(old=[old], new=[new]), tmp_path) as assistant:
        assistant.switch_model("new")
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.FAILED
        assert status.problem is not None
        assert answer_of(assistant) == "old: as before"
        assert new.status.state is EngineState.CLOSED
        assert assistant.settings.model == ""


def test_without_room_for_both_nothing_happens_until_one_says_so(tmp_path: Path) -> None:
    """Told with both sizes; then the old one goes first, and the new one takes over."""

    class Large(Sized):
        needed_bytes, free_bytes = 900, 950

    old = FakeEngine(["still here"], model="old")
    garage = Garage(old=[old], new=[Large(model="new"), Large(["2", "after"], model="new")])
    with assistant_of(garage, tmp_path) as assistant:
        assistant.switch_model("new")
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.NEEDS_ROOM
        assert status.problem is not None
        assert dict(status.problem.facts) == {"model": "new", "present": "old", "needed": 900, "free": 950}
        assert answer_of(assistant) == "old: still here"
        assistant.switch_model("new", unloads_first=True)
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.DONE
        assert old.status.state is EngineState.CLOSED
        assert answer_of(assistant) == "new: after"


def test_where_the_old_one_had_to_go_and_the_new_one_fails_the_old_one_comes_back(tmp_path: Path) -> None:
    """Loaded anew, so that somebody answers."""

    class Large(Sized):
        needed_bytes, free_bytes = 900, 950

    garage = Garage(
        old=[FakeEngine(model="old"), FakeEngine(["back again"], model="old")],
        new=[Large(model="new", load_error=None)],
    )
    with assistant_of(garage, tmp_path) as assistant:
        garage.engines["new"][0].load = _fails  # type: ignore[method-assign]
        assistant.switch_model("new", unloads_first=True)
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.FAILED
        assert answer_of(assistant) == "old: back again"
        assert garage.made == ["old", "new", "old"]


def test_what_a_failed_model_had_loaded_is_gone_before_the_old_one_comes_back(tmp_path: Path) -> None:
    """A card of 24 GB has no room for the old one beside it; and an error holds the variables of all it passed through."""

    class Weights:
        pass

    held: list[weakref.ref[Weights]] = []
    seen: list[bool] = []

    class Failing(Sized):
        needed_bytes, free_bytes = 900, 950

        def load(self) -> None:
            weights = Weights()
            held.append(weakref.ref(weights))
            try:
                raise RuntimeError("a library's own error")
            except RuntimeError as error:
                raise ModelError("engine.load.failed", model="new") from error

    class Old(FakeEngine):
        def load(self) -> None:
            seen.extend(each() is None for each in held)
            super().load()

    garage = Garage(old=[FakeEngine(model="old"), Old(["back again"], model="old")], new=[Failing(model="new")])
    with assistant_of(garage, tmp_path) as assistant:
        assistant.switch_model("new", unloads_first=True)
        status = assistant.wait_for_switch(WAIT_S)
        assert status is not None and status.state is SwitchState.FAILED
        assert status.problem is not None and status.problem.code == "engine.load.failed"
        assert answer_of(assistant) == "old: back again"
    assert seen == [True]


def _fails() -> None:
    raise ModelError("engine.load.failed", model="new")


def test_a_site_can_keep_its_model(tmp_path: Path) -> None:
    """Where many people share one model, nobody changes it for the others."""
    with assistant_of(Garage(old=[FakeEngine(model="old")]), tmp_path, switch_models=False) as assistant:
        with pytest.raises(UsageError, match="not_here"):
            assistant.switch_model("new")
        assert assistant.switch_status is None
