"""The doctor: every finding has a verdict and a sentence, and nothing that is broken keeps it from speaking."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwen_vl_app import doctor
from qwen_vl_app.chat import CoordinateSpace, Detail, EngineState, EngineStatus
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.doctor import Driver, Finding, Fit, Memory, Verdict, machine
from qwen_vl_app.doctor.ticket import without_private
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.engine.folders import DEMO_MARK, ModelFolder
from qwen_vl_app.errors import ModelFolderError, PictureError, Reason, SettingsError
from qwen_vl_app.texts import Language, render
from tests.hub_parts import FakeProbe, FakeTorch, a_file, an_assistant
from tests.serving import free_port


@dataclass(frozen=True)
class Card:
    """A graphics card."""

    name: str = "RTX 9090"
    total_bytes: int = 24 * 2**30
    free_bytes: int = 20 * 2**30


def told(findings: Sequence[Finding] | Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.about.code, finding.verdict.value) for finding in findings]


def assert_has_sentences(findings: Sequence[Finding]) -> None:
    for finding in findings:
        for language in Language:
            sentence = render(finding.about, language)
            assert sentence != finding.about.code
            assert "{" not in sentence, sentence


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Folders of the test's own, and a port that nobody uses."""
    return Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", port=free_port())


def examine(settings: Settings, **probe: Any) -> list[Finding]:
    engine = probe.pop("engine", None) or FakeEngine()
    return list(doctor.examine(lambda: settings, lambda given: FakeProbe(given, engine, **probe)))


def test_everything_is_looked_at_and_said_in_both_languages(settings: Settings) -> None:
    """One finding at least for every thing that can be wrong."""
    findings = examine(settings)
    assert_has_sentences(findings)
    checks = {finding.check for finding in findings}
    assert checks >= {"python", "packages", "settings", "data_folder", "port", "offline", "model", "memory", "torch"}
    assert checks >= {"device", "choice", "sizes", "decoder"}
    assert not settings.data_dir.exists(), "a check leaves nothing behind"


def test_broken_settings_do_not_end_the_examination(settings: Settings) -> None:
    """The rest is looked at with the defaults."""

    def load() -> Settings:
        raise SettingsError("settings.not_toml", file="config.toml")

    findings = list(doctor.examine(load, lambda given: FakeProbe(settings, FakeEngine())))
    assert ("settings.not_toml", "problem") in told(findings)
    assert "sizes" in {finding.check for finding in findings}


@pytest.mark.parametrize("error", [ImportError("no"), OSError("a library"), RuntimeError("operator does not exist")])
def test_a_broken_torch_is_a_finding_and_the_rest_is_there(settings: Settings, error: Exception) -> None:
    """Whatever the import raises, models and memory are told, and the way out is in the sentence."""
    findings = examine(settings, torch=error)
    (problem,) = (finding for finding in findings if finding.check == "torch")
    assert problem.verdict is Verdict.PROBLEM
    assert "scripts/run.py" in render(problem.about)
    assert {"model", "memory", "port"} <= {finding.check for finding in findings}


def test_no_torch_broken_torch_and_a_broken_companion_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has another next step."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert doctor.torch_problem().code == "doctor.torch.broken"
    monkeypatch.setitem(sys.modules, "torch", json)  # any module that was imported well
    assert doctor.torch_problem().code == "doctor.torch.transformers_broken"
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert doctor.torch_problem().code == "doctor.torch.missing"


def test_torch_and_devices_are_judged_together() -> None:
    """A card that torch uses, none at all, one that this build cannot use, and drivers that are old, silent or odd."""

    def judged(torch: FakeTorch, driver: Driver | None) -> list[tuple[str, str]]:
        findings = list(doctor.torch_findings(torch, driver=lambda: driver, has_card=lambda: False))
        assert_has_sentences(findings)
        return told(findings)[1:]

    card, cuda = Driver("590.10", ("RTX 9090",)), FakeTorch("2.13.0", "13.0")
    assert judged(FakeTorch("2.13.0", "13.0", (Card(),)), card) == [
        ("doctor.device.gpu", "ok"),
        ("doctor.driver.fine", "ok"),
    ]
    assert judged(FakeTorch(), None) == [("doctor.device.cpu", "ok")]
    assert judged(FakeTorch(), card) == [("doctor.device.gpu_unused", "note"), ("doctor.driver.fine", "ok")]
    old = [("doctor.device.gpu_unused", "note"), ("doctor.driver.too_old", "note")]
    assert judged(FakeTorch(), Driver("570.86.15", ("RTX 4090",))) == old, "a kit for the card would be carried in vain"
    assert judged(FakeTorch(), Driver("")) == [("doctor.device.gpu_unused", "note")]
    assert judged(cuda, Driver("570.86.15")) == [("doctor.driver.too_old", "problem")]
    assert judged(cuda, Driver("")) == [("doctor.driver.silent", "note")]
    assert judged(cuda, card) == [("doctor.device.driver", "note")]
    assert judged(FakeTorch("2.20.0", "14.1"), card) == [("doctor.device.driver", "note")]


@pytest.mark.parametrize(
    ("cuda", "has_card", "expected"),
    [
        ("13.0", True, ("doctor.driver.missing", "note")),
        ("13.0", False, ("doctor.device.idle", "ok")),
        ("", True, ("doctor.device.gpu_unused", "note")),
        ("", False, ("doctor.device.cpu", "ok")),
    ],
)
def test_a_machine_without_a_driver_is_told_what_its_torch_makes_of_it(
    cuda: str, has_card: bool, expected: tuple[str, str]
) -> None:
    """A card that nobody drives is told from none; which driver to install is said in either language."""
    found = list(doctor.torch_findings(FakeTorch("2.13.0", cuda), driver=lambda: None, has_card=lambda: has_card))
    assert [(finding.about.code, finding.verdict.value) for finding in found[1:]] == [expected]
    for language in Language:
        said = render(found[1].about, language)
        assert ("580." in said) is (cuda != "")


def test_a_card_is_seen_without_its_driver(tmp_path: Path) -> None:
    """As Linux lists what is on its bus; a sound device of the same maker is no card, and a torn entry is nothing."""
    from qwen_vl_app.doctor import accelerator

    def plug(address: str, vendor: str, kind: str) -> None:
        (tmp_path / address).mkdir()
        (tmp_path / address / "vendor").write_text(vendor + "\n", encoding="ascii")
        (tmp_path / address / "class").write_text(kind + "\n", encoding="ascii")

    assert not accelerator.has_nvidia_card(tmp_path / "nothing")
    plug("00_02.0", "0x8086", "0x030000")
    plug("01_00.1", "0x10de", "0x040300")
    (tmp_path / "02_00.0").mkdir()
    assert not accelerator.has_nvidia_card(tmp_path)
    plug("01_00.0", "0x10de", "0x030200")
    assert accelerator.has_nvidia_card(tmp_path)


def test_the_driver_is_asked_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is read; a program that fails, or hangs in the kernel, is a driver that does not answer."""
    from qwen_vl_app.engine import driver

    monkeypatch.setattr("shutil.which", lambda name: None)
    assert driver.ask_driver() is None
    monkeypatch.setattr("shutil.which", lambda name: "nvidia-smi")

    def answer(out: str) -> Callable[..., object]:
        return lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=out)

    monkeypatch.setattr(subprocess, "run", answer("580.95.05, NVIDIA L4\n580.95.05, NVIDIA L4\n"))
    assert driver.ask_driver() == Driver("580.95.05", ("NVIDIA L4", "NVIDIA L4"))
    monkeypatch.setattr(subprocess, "run", answer("No devices were found\n"))
    assert driver.ask_driver() == Driver("")

    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 15)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert driver.ask_driver() == Driver("")


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a lack of permission."""
    import errno

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    (finding,) = doctor.data_folder_findings(tmp_path)
    assert (finding.about.code, finding.verdict) == ("doctor.data_folder.full", Verdict.PROBLEM)


def test_clock_fonts_browser_and_room_are_told() -> None:
    """Each with what to do where it is not as it should be."""
    from datetime import UTC, datetime

    findings = [
        doctor.clock_finding(datetime(1970, 1, 1, tzinfo=UTC)),
        doctor.clock_finding(datetime(2031, 5, 5, tzinfo=UTC)),
        doctor.fonts_finding(True),
        doctor.fonts_finding(False),
        doctor.browser_finding(None, port=8777),
        doctor.browser_finding(Path("/usr/bin/firefox"), port=8777),
        *doctor.fit_findings([Fit("big", "bf16", 10, 5), Fit("small", "fp32", 5, 10, Detail.FAST, 768)]),
    ]
    assert_has_sentences(findings)
    assert [finding.verdict.value for finding in findings] == ["note", "ok", "ok", "note", "note", "ok", "ok", "ok"]
    assert "8777" in render(findings[4].about)


def test_what_the_reader_of_pictures_is_held_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, some of it, no memory limit, and one that does not work: the last two with what to do."""
    from qwen_vl_app.errors import PictureError
    from qwen_vl_app.imaging import Confinement, PictureDecoder

    def refuse(*_: object, **__: object) -> None:
        raise PictureError("image.decoder_failed")

    held = [
        Confinement(has_memory_limit=True, is_without_files=True, is_without_network=True),
        Confinement(has_memory_limit=True, is_without_files=True),
        Confinement(is_without_files=True, is_without_network=True),
    ]
    findings = [*map(doctor.confinement_finding, held), doctor.decoder_finding(30)]
    monkeypatch.setattr(PictureDecoder, "inspect", refuse)
    findings.append(doctor.decoder_finding(30))
    assert_has_sentences(findings)
    assert [each.about.code.rpartition(".")[2] for each in findings[:3]] == ["fine", "partly", "unlimited"]
    assert [each.verdict.value for each in findings[:3]] == ["ok", "ok", "note"]
    if sys.platform.startswith("linux"):
        assert findings[3].verdict is Verdict.OK
    assert told(findings[4:]) == [("doctor.decoder.failed", "problem")]


def test_a_clock_that_is_behind_what_was_written_here_is_told(tmp_path: Path) -> None:
    """A battery that is empty sets a clock back to a date that may well be after this was written."""
    from datetime import UTC, datetime, timedelta

    file = tmp_path / "history.db"
    assert machine.last_written(file) is None
    file.touch()
    newest = datetime(2027, 3, 1, tzinfo=UTC)
    os.utime(file, (newest.timestamp(),) * 2)
    assert machine.last_written(file, tmp_path / "not there") == newest
    behind = doctor.clock_finding(newest - timedelta(days=40), written=newest)
    assert_has_sentences([behind])
    assert (behind.about.code, behind.verdict) == ("doctor.clock.before_files", Verdict.NOTE)
    for near in (newest - timedelta(hours=14), newest, newest + timedelta(days=400)):
        assert doctor.clock_finding(near, written=newest).verdict is Verdict.OK


def test_boxes_are_judged_by_where_things_were_drawn() -> None:
    """All right, some off, and all off by one factor."""
    from qwen_vl_app.chat import Answer, Box, FinishReason, ParsedAnswer, Region
    from qwen_vl_app.doctor.self_test import grounding_finding
    from qwen_vl_app.imaging import known_scenes

    scenes = known_scenes()
    assert len({round(scene.box.x1 / scene.box.y1, 2) for scene in scenes}) == len(scenes) > 3

    def answered(*factors: float) -> Finding:
        pairs = []
        for scene, factor in zip(scenes, factors, strict=True):
            box = Box(*(min(1.0, side * factor) for side in (scene.box.x1, scene.box.y1, scene.box.x2, scene.box.y2)))
            parsed = ParsedAnswer(regions=(Region(box, "other"), Region(box, scene.label)))
            pairs.append((scene, Answer("", FinishReason.STOP, parsed=parsed)))
        return grounding_finding(pairs)

    findings = [answered(1, 1, 1, 1), answered(1, 1, 1, 0.5), answered(0.5, 0.5, 0.5, 0.5), grounding_finding([])]
    assert_has_sentences(findings)
    assert [finding.verdict.value for finding in findings] == ["ok", "note", "problem", "problem"]
    assert findings[1].about.facts["missed"] == scenes[3].name


@pytest.mark.parametrize("is_demo", [True, False])
def test_the_demo_model_of_a_running_app_is_asked_nothing_that_it_has_never_seen(tmp_path: Path, is_demo: bool) -> None:
    """The engine that asks another process knows its model's name alone: what is drawn is still not for the demo model."""
    asked: list[str] = []

    def stage(data: bytes, name: str) -> None:
        asked.append(name)
        raise PictureError("image.decoder_failed")

    if is_demo:
        (tmp_path / DEMO_MARK).write_text("{}", encoding="utf-8")
    assistant: Any = SimpleNamespace(
        status=SimpleNamespace(engine=EngineStatus(EngineState.READY, model=tmp_path.name)),
        model=SimpleNamespace(folder=lambda: tmp_path),
        samples=tuple,
        stage=stage,
    )
    findings = list(doctor.examine_answers(assistant))
    assert [finding.check for finding in findings if finding.verdict is Verdict.PROBLEM] == ["grounding"] * (
        not is_demo
    )
    assert bool(asked) is not is_demo


def test_a_ticket_holds_nothing_private(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings, versions and settings, and neither names nor places, wherever they came from."""
    import getpass
    import platform

    monkeypatch.setattr(getpass, "getuser", lambda: "mustermann")
    monkeypatch.setattr(platform, "node", lambda: "line7-pc")
    secret = Settings(
        **{
            **settings.model_dump(),
            "api_keys": ("k" * 20,),
            "queue_limit": 7,
            "model": "/srv/geheim/model-x",
            "batch_folders": (settings.data_dir / "Zhang San" / "fotos",),
            "cache_task_days": {"frage-an-huber": 3},
            "model_aliases": ("huber-modell",),
        }
    )
    findings = [
        Finding("model", Verdict.PROBLEM, Reason("engine.folder.missing", model="/home/mustermann/projekt geheim")),
        Finding("device", Verdict.OK, Reason("doctor.device.gpu_unused", name=r"LINE7-PC C:\Users\mustermann\x")),
        Finding("device", Verdict.OK, Reason("doctor.device.gpu_unused", name=r"D:\Max Muster\Bilder 7\a.png")),
        Finding("model", Verdict.NOTE, Reason("engine.folder.pickle", model="auftrag-huber", file="huber.bin")),
        Finding("model", Verdict.OK, Reason("doctor.model.no_manifest", model="qwen2.5-vl-7b-instruct")),
        Finding("answers", Verdict.PROBLEM, Reason("known.unreadable", model="huber-turbine-v3")),
        Finding("answers", Verdict.PROBLEM, Reason("known.wrong", name="Contract HUBER 4711 serial")),
        Finding("answers", Verdict.OK, Reason("check.known_right", model="huber-turbine-v3", count=3)),
        Finding("model", Verdict.OK, Reason("doctor.model.no_manifest", model="demo-huber")),
        Finding("model", Verdict.OK, Reason("doctor.model.no_manifest", model="demo-relative")),
        Finding("answers", Verdict.PROBLEM, Reason("switch.wrong_answers", model="huber-v4", right=1, count=3)),
        Finding("settings", Verdict.PROBLEM, Reason("settings.unknown_key_near", key="prot", source="x", near="port")),
    ]
    ticket = doctor.write_ticket(findings, secret)
    for word in (
        "mustermann",
        "line7-pc",
        "geheim/",
        "kkkk",
        str(settings.data_dir),
        "model-x",
        "huber",
        "san",
        "muster",
        "bilder",
        "4711",
    ):
        assert word.lower() not in ticket.lower(), word
    assert "queue_limit = 7" in ticket
    assert "batch_folders = (set)" in ticket
    assert "models record qwen2.5-vl-7b-instruct" in ticket, "a published name says which model it is"
    assert "api_keys = (set)" in ticket
    assert "models record demo-relative" in ticket
    assert "Did you mean port?" in ticket
    assert 'The known question "<question>" was not answered' in ticket
    assert "problem model:" in ticket
    assert "streamlit" in ticket
    assert doctor.write_ticket([], None).count("could not be read") == 1


@pytest.mark.parametrize(
    "place",
    [
        "/nfs/acme/x", "/scratch/acme/x.png", "/storage/acme", "/run/media/bob/acme", "/Volumes/My Drive/acme",
        "/mein laufwerk/acme/x", "/acme/", "/home/acme", "-I/home/acme", "--data-dir=/nfs/acme", "(/nfs/acme)",
        "../acme/x", "~/acme", "~bob/acme", "C:\\acme\\x", "D:/acme/x", "d:/acme", "\\\\acme\\x", "//acme/x", "\\acme\\x",
        "file:///nfs/acme", "file:/nfs/acme", "nas:/export/acme", "/客户/acme/铭牌.png", "文件夹/客户/acme",
    ],
)  # fmt: skip
def test_no_place_of_this_machine_is_told(place: str) -> None:
    """Whatever its root is called, and whichever way its strokes lean."""
    told = without_private(f"The folder {place} is full.")
    assert "<folder>" in told, told
    assert not any(word in told for word in ("acme", "bob", "laufwerk", "Drive", "客户")), told


@pytest.mark.parametrize(
    "text",
    [
        "The app is running already: http://127.0.0.1:8501",
        "See https://vision.site.example/v1/models/x and http://localhost:8000/v1.",
        "Only 3/4 of them, 1/2/3, 05/11/2023, 3 / 4 / 5.",
        "30 km/h, 12.5 m/s, 9 m/s/s, GB/s, and/or, I/O, n/a; 24/7.",
        "Run python scripts/run.py (offline_pkgs/README.md), or copy models/demo/config.json again.",
        "Press /, or write /v1.",
        "about ~3/4 of it; 10:45; at C: or D: 5 files",
    ],
)
def test_ratios_units_and_addresses_are_no_places(text: str) -> None:
    """A stroke between letters or digits leads nowhere."""
    assert without_private(text) == text


@pytest.mark.parametrize(
    ("version", "is_64_bit", "code"),
    [((3, 11), True, "fine"), ((3, 14), True, "fine"), ((3, 10), True, "too_old"), ((3, 12), False, "narrow")],
)
def test_python_is_judged(version: tuple[int, int], is_64_bit: bool, code: str) -> None:
    """Too old and too narrow are problems."""
    finding = doctor.python_finding(version, is_64_bit=is_64_bit)
    assert finding.about.code == f"doctor.python.{code}"
    assert (finding.verdict is Verdict.OK) == (code == "fine")
    assert_has_sentences([finding])


def test_packages_are_compared_with_their_pins(tmp_path: Path) -> None:
    """As pinned, in another version, missing, and a build that carries its device behind a plus sign."""
    import importlib.metadata

    pins = tmp_path / "requirements.txt"
    rich = importlib.metadata.version("rich")
    torch = importlib.metadata.version("torch").partition("+")[0]

    def judged(text: str) -> Finding:
        pins.write_text(text, encoding="utf-8")
        return doctor.packages_finding(pins)

    fine = judged(f"# a comment\nrich=={rich}\ntorch=={torch}\n\n")
    assert (fine.about, fine.verdict) == (Reason("doctor.packages.fine", count=2), Verdict.OK)
    other = judged(f"rich==0.1\ntorch=={torch}\n")
    assert (other.about.facts["names"], other.verdict) == (f"rich {rich}", Verdict.NOTE)
    missing = judged(f"rich==0.1\nno-such-package-of-ours==1.0\ntorch=={torch}\n")
    assert (missing.about.facts["names"], missing.verdict) == ("no-such-package-of-ours", Verdict.PROBLEM)
    unknown = doctor.packages_finding(tmp_path / "missing.txt")
    assert unknown.verdict is Verdict.NOTE
    assert_has_sentences([fine, other, missing, unknown])


def test_the_real_pins_are_all_understood() -> None:
    """No line of requirements.txt is skipped because it is written in another way."""
    lines = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    pins = [line for line in lines if not line.startswith("#")]
    assert all(machine._PIN.match(line.strip()) for line in pins), pins


def test_a_data_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    """It can be made, or it cannot; either way nothing is left behind."""
    (fine,) = doctor.data_folder_findings(tmp_path / "a" / "b")
    assert fine.verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    (blocked,) = doctor.data_folder_findings(tmp_path / "file" / "data")
    assert (blocked.about.code, blocked.verdict) == ("doctor.data_folder.not_writable", Verdict.PROBLEM)


def test_little_space_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history may soon not be kept."""
    usage = type("Usage", (), {"free": 5 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    (finding,) = doctor.data_folder_findings(tmp_path)
    assert (finding.about, finding.verdict) == (Reason("doctor.data_folder.little_space", free=5 * 2**20), Verdict.NOTE)


@pytest.fixture
def serving() -> Iterator[Callable[..., int]]:
    """Starts a small server with given headers and returns its port."""
    servers: list[http.server.HTTPServer] = []

    def start(**headers: str) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_free_port_our_own_app_and_a_stranger_are_told_apart(settings: Settings, serving: Callable[..., int]) -> None:
    """Only a stranger is told, and the sentence names another port; `run.py` takes the next one by itself."""
    free = doctor.port_finding(settings.port)
    assert (free.about.code, free.verdict) == ("doctor.port.free", Verdict.OK)
    ours = doctor.port_finding(serving(X_Qwen_VL_App="0.1.0"))
    assert (ours.about.code, ours.verdict) == ("doctor.port.ours", Verdict.OK)
    port = serving()
    stranger = doctor.port_finding(port)
    assert (stranger.about.code, stranger.verdict) == ("doctor.port.taken", Verdict.NOTE)
    assert str(port) in render(stranger.about)


def test_a_listener_that_never_answers_is_a_stranger() -> None:
    """Silence is not waited for long."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        finding = doctor.port_finding(silent.getsockname()[1])
    assert finding.about.code == "doctor.port.taken"


def test_the_guard_and_the_doctor_speak_of_the_same_header() -> None:
    """What the page's guard puts on every reply is what the doctor looks for."""
    from qwen_vl_app.api import guard

    assert doctor.APP_HEADER == guard.APP_HEADER


def test_being_offline_is_proved_by_trying() -> None:
    """In a process of its own, since the guard is for good."""
    process = subprocess.run(
        [sys.executable, "-c", "from qwen_vl_app.doctor import offline_finding as f; print(f().about.code)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=True,
    )
    assert process.stdout.strip() == "doctor.offline.fine"


def test_models_are_told_one_by_one_and_their_absence_as_a_problem() -> None:
    """A damaged folder beside a good one is a note; no good one at all is a problem."""
    broken = ModelFolder("broken", Path("broken"), problem=Reason("engine.folder.no_weights", model="broken"))
    good = ModelFolder("good", Path("good"), weight_bytes=10, dtype="bf16")
    assert told(doctor.model_findings((broken, good))) == [
        ("engine.folder.no_weights", "note"),
        ("doctor.model.fine", "ok"),
        ("doctor.model.no_manifest", "note"),
    ]
    assert told(doctor.model_findings((broken,)))[-1] == ("doctor.model.none", "problem")
    assert told(doctor.model_findings(())) == [("doctor.model.none", "problem")]
    assert told(doctor.model_findings((replace(good, is_demo=True),))) == [("doctor.model.demo", "ok")]


def test_a_model_that_cannot_be_chosen_is_a_problem_with_the_engine_s_reason(settings: Settings) -> None:
    """The same sentence that a question would get."""
    engine = FakeEngine(load_error=ModelFolderError("model.not_loaded"))
    choice = [finding for finding in examine(settings, engine=engine) if finding.check == "choice"]
    assert told(choice) == [("model.not_loaded", "problem")]


def test_a_container_s_limit_is_what_counts(tmp_path: Path) -> None:
    """Both versions of control groups, no limit, and a limit beyond the machine."""
    assert doctor.measure_memory(tmp_path / "nothing").limit_bytes is None
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert doctor.measure_memory(tmp_path).limit_bytes is None
    (tmp_path / "memory.max").write_text(f"{2**29}\n", encoding="ascii")
    limited = doctor.measure_memory(tmp_path)
    assert limited.limit_bytes == 2**29
    assert limited.available_bytes <= 2**29
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("9223372036854771712", encoding="ascii")
    assert doctor.measure_memory(tmp_path / "old").limit_bytes is None


def test_memory_is_judged() -> None:
    """Little is a note; a limit is told."""
    assert doctor.memory_finding(Memory(2**34, 2**33)).about.code == "doctor.memory.fine"
    assert doctor.memory_finding(Memory(2**34, 2**33, 2**33)).about.code == "doctor.memory.limited"
    little = doctor.memory_finding(Memory(2**34, 2**28))
    assert (little.about.code, little.verdict) == ("doctor.memory.little", Verdict.NOTE)


def test_the_demo_model_brings_a_question_with_a_known_answer(tmp_path: Path) -> None:
    """Its folder says which; a folder that says it wrong, or another model's, brings none."""
    folder = tmp_path / "demo"
    folder.mkdir()
    model = ModelFolder("demo", folder, is_demo=True)
    assert doctor.known_question((model,)) is None
    (folder / "sample.png").write_bytes(b"picture")
    check = {"picture": "sample.png", "question": "What?", "answer": "42"}
    (folder / DEMO_MARK).write_text(json.dumps({"check": check}), encoding="utf-8")
    known = doctor.known_question((replace(model, is_demo=False), model))
    assert known is not None
    assert (known.picture, known.question, known.answer) == (b"picture", "What?", "42")
    other = tmp_path / "other"
    other.mkdir()
    (other / "sample.png").write_bytes(b"another")
    (other / DEMO_MARK).write_text(json.dumps({"check": check | {"answer": "7"}}), encoding="utf-8")
    both = (model, ModelFolder("other", other, is_demo=True), ModelFolder("mute", tmp_path, is_demo=True))
    answers = {name: doctor.known_question(both, name) for name in ("", "demo", "other", "mute")}
    assert {name: each.answer for name, each in answers.items() if each} == {"": "42", "demo": "42", "other": "7", "mute": "42"}  # fmt: skip
    (folder / DEMO_MARK).write_text("[]", encoding="utf-8")
    assert doctor.known_question((model,)) is None


class DemoEngine(FakeEngine):
    """A fake engine that says it is the demo model."""

    def load(self) -> None:
        super().load()
        self._status = replace(self._status, is_demo=True, coordinates=CoordinateSpace.SEEN_PIXELS)


class TestCommand:
    """`python -m qwen_vl_app doctor`."""

    def parts(self, tmp_path: Path, port: int, engine: FakeEngine) -> Parts:
        return Parts(
            build_assistant=lambda settings: an_assistant(engine, settings.data_dir, settings=settings),
            probe=lambda settings: FakeProbe(settings, engine),
            settings_file=tmp_path / "config.toml",
            environment={
                "QWEN_VL_DATA_DIR": str(tmp_path / "data"),
                "QWEN_VL_MODELS_DIR": str(tmp_path / "models"),
                "QWEN_VL_PORT": str(port),
                "QWEN_VL_LANGUAGE": "en",
            },
        )

    def a_demo(self, tmp_path: Path) -> None:
        folder = tmp_path / "models" / "demo"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "sample.png").write_bytes(a_file())
        check = {"picture": "sample.png", "question": "What?", "answer": "42"}
        (folder / DEMO_MARK).write_text(json.dumps({"check": check}), encoding="utf-8")

    def test_a_line_a_finding_and_status_1_with_a_problem(
        self, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Each line begins with its verdict; without a model there is a problem."""
        status = main(["doctor"], parts=self.parts(tmp_path, settings.port, FakeEngine()))
        lines = capsys.readouterr().out.splitlines()
        assert status == 1
        assert all(line.split()[0] in ("ok", "note", "PROBLEM") for line in lines[:-1])
        assert any(line.startswith("PROBLEM model:") for line in lines)
        assert lines[-1].startswith("Problems found: ")

    def test_json_is_one_object(self, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        """The worst verdict first, then every finding with its code and sentence."""
        status = main(["doctor", "--json"], parts=self.parts(tmp_path, settings.port, FakeEngine()))
        told = json.loads(capsys.readouterr().out)
        assert (status, told["verdict"]) == (1, "problem")
        assert all({"check", "verdict", "code", "message", "facts"} == set(each) for each in told["findings"])

    def test_a_report_that_was_not_written_is_a_failure(
        self, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever asked for the file finds out from the status; stdout keeps what was found."""
        good = Finding("clock", Verdict.OK, Reason("doctor.settings.fine"))
        monkeypatch.setattr("qwen_vl_app.cli.checkup._findings", lambda *_, **__: iter([good]))
        parts = self.parts(tmp_path, settings.port, FakeEngine())
        for file, status in ((tmp_path / "none" / "x.txt", 1), (tmp_path / "x.txt", 0)):
            assert main(["doctor", "--json", "--report", str(file)], parts=parts) == status
            out, err = capsys.readouterr()
            assert json.loads(out)["verdict"] == "ok"
            assert "x.txt" in err

    @pytest.mark.parametrize(("reply", "code"), [("42", "doctor.loading.answered"), ("43", "doctor.loading.wrong")])
    def test_loading_asks_the_demo_model_what_is_known(
        self,
        tmp_path: Path,
        settings: Settings,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        reply: str,
        code: str,
    ) -> None:
        """The picture's own answer is right, every other one a problem."""
        self.a_demo(tmp_path)
        engine = DemoEngine([reply])
        good = ModelFolder("demo", tmp_path / "models" / "demo", is_demo=True, weight_bytes=1)
        monkeypatch.setattr(FakeProbe, "models", lambda self: (good,))
        status = main(["doctor", "--load", "--json"], parts=self.parts(tmp_path, settings.port, engine))
        told = json.loads(capsys.readouterr().out)
        codes = [each["code"] for each in told["findings"]]
        assert codes[-4:] == ["doctor.loading.fine", "doctor.choice.attention", code, "doctor.speed.unknown"]
        assert status == (0 if reply == "42" else 1), told
        assert [message.text for message in engine.requests[0].messages] == ["What?"]

    def test_it_speaks_chinese(self, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        """Verdicts and sentences."""
        main(["doctor", "--language", "zh"], parts=self.parts(tmp_path, settings.port, FakeEngine()))
        lines = capsys.readouterr().out.splitlines()
        assert all(line.split()[0] in ("正常", "提示", "问题") for line in lines[:-1])

    def test_without_torch_the_real_doctor_says_what_to_do(self, tmp_path: Path) -> None:
        """In a process whose torch cannot be imported, everything else is still examined."""
        hidden = (
            "import sys; sys.modules['torch'] = None; sys.argv = ['x', 'doctor', '--json', '--language', 'en'];"
            "import runpy; runpy.run_module('qwen_vl_app', run_name='__main__')"
        )
        process = subprocess.run(
            [sys.executable, "-c", hidden],
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env={**os.environ, "QWEN_VL_DATA_DIR": str(tmp_path), "PYTHONUTF8": "1"},
            timeout=120,
            check=False,
        )
        assert process.returncode == 1, process.stderr
        findings = {each["check"]: each for each in json.loads(process.stdout)["findings"]}
        assert findings["torch"]["verdict"] == "problem"
        assert {"memory", "python", "packages", "port"} <= set(findings)
