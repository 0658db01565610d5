"""A model is asked what is known of it once it is loaded, in idle moments; one that should take over, before it does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from qwen_vl_app import model_check
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.bootstrap import build_assistant
from qwen_vl_app.chat import EngineState, Question
from qwen_vl_app.config import ROOT, load_settings
from qwen_vl_app.doctor import Verdict, check_finding
from qwen_vl_app.engine.deferred import DeferredEngine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import InferenceError, ModelError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.known_answers import load_known_answers
from qwen_vl_app.model_check import CheckKind, CheckStatus, ModelCheck
from qwen_vl_app.model_switch import SwitchState
from qwen_vl_app.texts import Language, render
from tests.hub_parts import FakeDecoder, a_file, replace_settings
from tests.test_model_switch import Garage, Sized, answer_of

DEADLINE_S = 120.0
"""Nothing takes this long unless it is broken, or the machine has hardly a moment for it."""


def bring(models: Path, name: str, *answers: str) -> None:
    """Write a model's folder with a known question for each answer, named after its place."""
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(a_file())
    entries = [
        {"name": f"plate {number}", "pictures": ["a.png"], "question": f"known {number}?", "answer": {"text": text}}
        for number, text in enumerate(answers, 1)
    ]
    (folder / "known.json").write_text(json.dumps(entries), encoding="utf-8")


@contextmanager
def assistant_of(engine: FakeEngine, folder: Path, *, garage: Garage | None = None) -> Iterator[Assistant]:
    """An open assistant that checks its models, whose folders lie in `folder / "models"`."""
    deferred = DeferredEngine(lambda: engine)
    made = Assistant(
        engine=deferred,
        exchange=None if garage is None else EngineExchange(deferred, garage.make, present="old"),
        decoder=cast(PictureDecoder, FakeDecoder()),
        history=HistoryStore(folder / "data"),
        settings=replace_settings(data_dir=folder / "data", models_dir=folder / "models"),
        checks_models=True,
    )
    with made:
        made.wait_until_loaded(DEADLINE_S)
        yield made


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def checked(assistant: Assistant) -> CheckStatus:
    """Wait for the end of the check and return what came of it."""
    wait_for(lambda: assistant.status.check is not None and assistant.status.check.is_over)
    assert assistant.status.check is not None
    return assistant.status.check


def texts(engine: FakeEngine) -> list[str]:
    return [request.messages[-1].text for request in engine.requests]


def test_a_loaded_model_is_asked_what_is_known_of_it(tmp_path: Path) -> None:
    """Nobody has to ask for it, nobody waits for it, and it leaves no trace."""
    bring(tmp_path / "models", "old", "1", "2", "3")
    engine = FakeEngine(["1", "2", "3"], model="old")
    with assistant_of(engine, tmp_path) as assistant:
        status = checked(assistant)
        assert (status.kind, status.asked, status.is_well) == (CheckKind.KNOWN, 3, True)
        assert status.about is not None
        assert render(status.about, Language.ENGLISH).startswith(
            "old gave the right answer to every question whose answer is known (3)"
        )
        assert texts(engine) == ["known 1?", "known 2?", "known 3?"]
        assert all(len(request.messages[-1].images) == 1 for request in engine.requests)
        assert not assistant.status.is_busy
        assert assistant.conversations("local") == ()
        assert assistant.status.expected_wait_s is None, "what is no job says nothing about the wait for one"


@pytest.mark.parametrize(
    ("replies", "codes"),
    [
        (["1", "false", "3"], ["known.wrong"]),
        ([InferenceError("inference.out_of_memory"), "2", "3"], ["inference.out_of_memory"]),
        (["1", RuntimeError("a stranger's"), "3"], ["app.unexpected"]),
        (["1", InferenceError("engine.driver_lost")], ["engine.driver_lost"]),
    ],
)
def test_what_goes_wrong_is_told_and_the_app_answers_on(tmp_path: Path, replies: list[Any], codes: list[str]) -> None:
    """With the reason of each; after the loss of the driver there is nothing more to ask."""
    bring(tmp_path / "models", "old", "1", "2", "3")
    engine = FakeEngine(replies, model="old")
    with assistant_of(engine, tmp_path) as assistant:
        status = checked(assistant)
        assert [problem.code for problem in status.problems] == codes
        finding = check_finding(status)
        assert finding is not None and finding.verdict is Verdict.PROBLEM
        assert finding.about.code == "check.known_wrong"
        engine.replies.append("still here")
        assert answer_of(assistant) == "old: still here"


def test_a_question_does_not_wait_for_the_check(tmp_path: Path) -> None:
    """The known question that is under way gives way within a token, and is asked again afterwards."""
    bring(tmp_path / "models", "old", "1 2", "3")
    gate = threading.Semaphore(0)
    engine = FakeEngine([["1 ", "never"], "for a person", ["1 ", "2"], "3"], model="old", gate=gate)
    with assistant_of(engine, tmp_path) as assistant:
        wait_for(lambda: len(engine.requests) == 1)
        gate.release()
        job = assistant.ask(Question("who?"), is_kept=False, is_anew=True)
        wait_for(lambda: len(engine.requests) == 2)
        gate.release(20)
        answer = job.wait(DEADLINE_S)
        assert answer is not None and answer.text == "for a person"
        status = checked(assistant)
        assert texts(engine) == ["known 1?", "who?", "known 1?", "known 2?"]
        assert status.is_well and status.asked == 2


def test_an_app_that_ends_does_not_wait_for_the_check(tmp_path: Path) -> None:
    """What is under way gives way to the end as well."""
    bring(tmp_path / "models", "old", "1")
    engine = FakeEngine([["1"]], model="old", gate=threading.Semaphore(0))
    with assistant_of(engine, tmp_path):
        wait_for(lambda: len(engine.requests) == 1)
    assert engine.status.state is EngineState.CLOSED
    assert not [thread for thread in threading.enumerate() if thread.name == "inference"]


def test_a_damaged_list_is_told_and_nothing_is_asked(tmp_path: Path) -> None:
    """A model whose list cannot be read is not said to be well."""
    bring(tmp_path / "models", "old")
    (tmp_path / "models" / "old" / "known.json").write_text("{", encoding="utf-8")
    with assistant_of(FakeEngine(model="old"), tmp_path) as assistant:
        status = checked(assistant)
        assert status.about is not None and status.about.code == "known.unreadable"
        assert not status.is_well


def test_a_model_that_is_wrong_on_most_does_not_take_over(tmp_path: Path) -> None:
    """The old one goes on answering, with its own check as it was; the reason says how many were right."""
    bring(tmp_path / "models", "old", "1")
    bring(tmp_path / "models", "new", "1", "2", "3", "4", "5", "6", "7", "8")
    old, new = FakeEngine(["1"], model="old"), Sized(["2", "1", "?", "?", "?"], model="new")
    with assistant_of(old, tmp_path, garage=Garage(new=[new])) as assistant:
        assert checked(assistant).is_well
        assistant.switch_model("new")
        switched = assistant.wait_for_switch(DEADLINE_S)
        assert switched is not None and switched.state is SwitchState.FAILED
        assert switched.problem is not None
        assert switched.problem == ModelError("switch.wrong_answers", model="new", right=1, count=4).reason
        assert texts(new) == ["What is 1 + 1?", "known 1?", "known 3?", "known 5?", "known 7?"], (
            "from all over the list"
        )
        assert checked(assistant).model == "old"
        old.replies.append("as before")
        assert answer_of(assistant) == "old: as before"


def test_a_model_that_takes_over_is_asked_the_rest_afterwards(tmp_path: Path) -> None:
    """One wrong answer may be the machine's arithmetic: it answers people, and the page says what is wrong."""
    bring(tmp_path / "models", "old", "1")
    bring(tmp_path / "models", "new", "1", "2", "3", "4", "5", "6", "7", "8")
    old = FakeEngine(["1"], model="old")
    new = Sized(["2", "1", "3", "5", "?", "2", "4", "6", "8"], model="new")
    with assistant_of(old, tmp_path, garage=Garage(new=[new])) as assistant:
        assert checked(assistant).is_well
        assistant.switch_model("new")
        switched = assistant.wait_for_switch(DEADLINE_S)
        assert switched is not None and switched.state is SwitchState.DONE
        wait_for(lambda: assistant.status.check is not None and assistant.status.check.model == "new")
        status = checked(assistant)
        assert (status.asked, status.total, len(status.problems)) == (8, 8, 1)
        assert status.about is not None
        assert "only 7 of 8" in render(status.about, Language.ENGLISH)
        assert texts(new)[5:] == ["known 2?", "known 4?", "known 6?", "known 8?"]


def test_a_model_that_brings_nothing_is_asked_for_a_drawn_thing(tmp_path: Path) -> None:
    """On a small picture, whose places are known; not to find it is worth a word, and keeps no model from taking over."""
    said = {
        '[{"bbox_2d": [56, 252, 168, 364], "label": "a red disc"}]': ("check.drawn_right", Verdict.OK),
        '[{"bbox_2d": [0, 0, 50, 50], "label": "red circle"}]': ("check.drawn_wrong", Verdict.NOTE),
        "There is no circle.": ("check.drawn_wrong", Verdict.NOTE),
    }
    engine = FakeEngine(said, model="real")
    engine.load()
    decoder = PictureDecoder(max_bytes=2**20, max_pixels=10**7, timeout_s=DEADLINE_S)
    try:
        for code, verdict in said.values():
            check = ModelCheck(engine.status, tmp_path, decoder=decoder, detail=None)
            assert list(check.begin(engine)) == [None]
            assert check.status.about is not None and check.status.about.code == code
            finding = check_finding(check.status)
            assert finding is not None and (finding.check, finding.verdict) == ("grounding", verdict)
            assert not check.go_on(engine, lambda: False)
    finally:
        decoder.close()
    image = engine.requests[0].messages[0].images[0]
    assert image.size.pixels <= 256 * 28 * 28
    assert "red circle" in engine.requests[0].messages[0].text


def test_the_app_checks_its_model_and_commands_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model itself, as the app opens it, on some of its known answers: they are right."""
    # All of them are asked in `test_known_answers`, which waits for each; here the check has a deadline.
    monkeypatch.setattr(model_check, "load_known_answers", lambda folder: load_known_answers(folder)[:3])
    settings = load_settings(overrides={"models_dir": ROOT / "models", "model": "demo", "data_dir": tmp_path})
    with build_assistant(settings, checks_models=True) as assistant:
        assistant.wait_until_loaded()
        status = checked(assistant)
        assert status.total == 3
        assert status.is_well, status.problems
    assert build_assistant(settings).status.check is None
