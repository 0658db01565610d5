"""Commands beside a running app: they ask its model, in its sizes, and load none of their own."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from qwen_vl_app import bootstrap
from qwen_vl_app.api.guard import GuardMiddleware
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import EngineState, EngineStatus
from qwen_vl_app.cli import main, prove_offline
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.history.lock import holder_port
from qwen_vl_app.imaging import PictureDecoder
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S, FakeTorch
from tests.serving import free_port, serving

BOX = '```json\n[{"bbox_2d": [28, 28, 140, 84], "label": "lamp"}]\n```'


LEAST_PIXELS = 40_000


class KnownEngine(AnsweringEngine):
    """A scripted engine of a family that commands know."""

    @property
    def status(self) -> EngineStatus:
        status = super().status
        plan = None if status.plan is None else replace(status.plan, min_pixels=LEAST_PIXELS)
        return replace(status, family="Qwen2.5-VL", plan=plan)


@dataclass
class Running:
    """An app that runs on a data folder, and what its model was asked."""

    engine: KnownEngine
    parts: Parts
    folder: Path


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a second model was loaded")

    monkeypatch.setattr("qwen_vl_app.engine.local.engine.LocalEngine.load", never)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", port=port, api_keys=("k" * 16,))
    engine = KnownEngine(lambda _: BOX, at_a_time=3)
    decoder = PictureDecoder(max_bytes=2**24, max_pixels=10_000_000, timeout_s=30.0)
    with Assistant(
        engine=engine, decoder=decoder, history=HistoryStore(settings.data_dir), settings=settings
    ) as assistant:
        assistant.wait_until_loaded(WAIT_S)
        app = Starlette(routes=[*make_routes(lambda: assistant)])
        app.add_middleware(GuardMiddleware, policy="default-src 'none'")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + WAIT_S
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        environment = {
            "QWEN_VL_DATA_DIR": str(tmp_path / "data"),
            "QWEN_VL_MODELS_DIR": str(tmp_path / "models"),
            "QWEN_VL_API_KEYS": "k" * 16,
            "QWEN_VL_LANGUAGE": "en",
        }
        yield Running(engine, Parts(settings_file=tmp_path / "config.toml", environment=environment), tmp_path)
        server.should_exit = server.force_exit = True
        thread.join(WAIT_S)
    listener.close()


def _photo(folder: Path, name: str, size: tuple[int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, "teal").save(folder / name)
    return folder / name


def test_a_question_is_asked_through_the_app(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """The app's model sees the picture in the size that the command chose; boxes are pixels of the original."""
    photo = _photo(running.folder, "photo.png", (1120, 560))
    assert main(["ask", str(photo), "Where is the lamp?", "--json"], parts=running.parts) == 0
    said = json.loads(capsys.readouterr().out)
    (request,) = running.engine.requests
    assert not request.is_background
    seen = request.messages[-1].images[0].size
    assert (said["pictures"][0]["seen_width"], said["pictures"][0]["seen_height"]) == (seen.width, seen.height)
    scale = 1120 / seen.width
    assert said["regions"][0]["bbox"] == [round(28 * scale), round(28 * scale), round(140 * scale), round(84 * scale)]


def test_a_small_picture_is_seen_as_large_as_the_app_sees_it(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """The app's model may want small pictures larger than its family does; `look` tells the same."""
    photo = _photo(running.folder, "small.png", (56, 56))
    assert main(["look", str(photo), "--json"], parts=running.parts) == 0
    looked = json.loads(capsys.readouterr().out)
    assert main(["ask", str(photo), "Where is the lamp?", "--json"], parts=running.parts) == 0
    seen = running.engine.requests[0].messages[-1].images[0].size
    assert seen.width * seen.height >= LEAST_PIXELS
    assert (looked["seen_width"], looked["seen_height"]) == (seen.width, seen.height)


def test_a_folder_is_run_through_the_app(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows lie where every run lies, each picture was asked about once, several at a time and behind everybody else."""
    for number in range(3):
        _photo(running.folder / "photos", f"{number}.png", (560 + 28 * number, 560))
    assert main(["batch", str(running.folder / "photos"), "--prompt", "?", "--json"], parts=running.parts) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["answered"], told["at_a_time"]) == (3, 3)
    assert [request.is_background for request in running.engine.requests] == [True] * 3


def test_another_model_is_not_asked_in_its_place(running: Running) -> None:
    """Whoever names a model gets that one: the app's own answers only for its own."""
    named = running.parts.settings({"model": "another"})
    assert bootstrap._through_running_app(named) is None
    through = bootstrap._through_running_app(running.parts.settings({"model": "fake"}))
    assert through is not None and through.remote_address.startswith("http://127.0.0.1:")


def test_an_app_whose_model_is_still_being_loaded_is_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second model beside the one that is on its way would need its memory once more."""
    loading = replace(running.engine.status, state=EngineState.LOADING)
    monkeypatch.setattr(KnownEngine, "status", property(lambda _: loading))
    through = bootstrap._through_running_app(running.parts.settings({"model": "fake"}))
    assert through is not None and through.remote_address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(("model", "code"), [("fake", "doctor.choice.running"), ("", "doctor.choice.running_loading")])
def test_the_doctor_tells_what_the_app_has_and_no_lack_of_room(
    running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, code: str
) -> None:
    """Beside the app's own model there is no room for it a second time, which is nothing wrong with this machine."""

    def never(_: object) -> None:
        raise AssertionError("what would be loaded was worked out beside the app")

    if not model:  # the app is there, its engine not yet
        monkeypatch.setattr(KnownEngine, "status", property(lambda _: EngineStatus(EngineState.EMPTY)))
    monkeypatch.setattr(bootstrap._EngineProbe, "torch", lambda _: FakeTorch())
    monkeypatch.setattr(bootstrap._EngineProbe, "fits", never)
    monkeypatch.setattr(bootstrap._EngineProbe, "prepared", never)
    main(["doctor", "--json"], parts=running.parts)
    findings = json.loads(capsys.readouterr().out)["findings"]
    (chosen,) = (each for each in findings if each["check"] in ("choice", "fit"))
    assert (chosen["code"], chosen["verdict"]) == (code, "ok")
    assert chosen["facts"].get("model", "") == model


def test_a_proof_waits_until_the_app_has_ended(
    running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own app would find the memory taken and choose a smaller model, and the signed report would name that."""
    monkeypatch.setattr(prove_offline, "_prove", lambda *_, **__: pytest.fail("a second app was started"))
    report = running.folder / "report.md"
    assert main(["prove-offline", "--json", "--out", str(report)], parts=running.parts) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "prove.app_is_running"
    assert not report.exists()


def test_an_app_says_which_port_it_was_really_given(tmp_path: Path) -> None:
    """Streamlit takes its port from a flag or a file of its own; commands look for the app where it is."""
    port, data = free_port(), tmp_path / "data"
    told = {
        "QWEN_VL_DATA_DIR": str(data),
        "QWEN_VL_MODELS_DIR": str(tmp_path / "none"),
        "QWEN_VL_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    with serving(command, log=tmp_path / "log", is_ready=lambda: bool(holder_port(data)), environment=told):
        assert holder_port(data) == port


def test_without_an_app_there_is_nobody_to_ask(tmp_path: Path) -> None:
    """No lock, a lock that nobody holds, and a holder that does not answer all mean: load the model here."""
    settings = Settings(data_dir=tmp_path)
    assert holder_port(tmp_path) is None
    assert bootstrap._through_running_app(settings) is None
    store = HistoryStore(tmp_path)
    store.open(port=1)
    store.close()
    assert holder_port(tmp_path) is None
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        store = HistoryStore(tmp_path)
        store.open(port=silent.getsockname()[1])
        try:
            assert holder_port(tmp_path) == silent.getsockname()[1]
            assert bootstrap._through_running_app(settings) is None
        finally:
            store.close()
