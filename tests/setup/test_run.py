"""The start script: which port, which model, and whether a taken port is this app."""

from __future__ import annotations

import ast
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_vl_app.api import guard
from qwen_vl_app.config import ROOT
from qwen_vl_app.history import lock
from qwen_vl_app.history.lock import FolderLock
from scripts import environment, packages, run
from tests.serving import free_port

STARTERS = ("run.py", "test.py", "check.py", "build_kit.py", "record_model.py", "shortcuts.py", "uninstall.py")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without a config.toml."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    return tmp_path


def test_the_port_comes_from_the_environment_then_the_file_then_the_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order as the app's own settings; a file with a byte-order mark is read too."""
    assert run.configured_port() == 8501
    (root / "config.toml").write_text("port = 9001\n", encoding="utf-8-sig")
    assert run.configured_port() == 9001
    monkeypatch.setenv("QWEN_VL_PORT", "9002")
    assert run.configured_port() == 9002


@pytest.mark.parametrize("value", ["many", "0", "65536", "-1", ""])
def test_an_impossible_port_is_said_to_be_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the variable; nothing is set up for a port that cannot be."""
    monkeypatch.setenv("QWEN_VL_PORT", value)
    with pytest.raises(packages.SetupError, match="QWEN_VL_PORT"):
        run.configured_port()
    with pytest.raises(SystemExit):
        run.main(["--port", value])


def test_a_broken_config_is_left_for_the_app_to_complain_about(root: Path) -> None:
    """The app says what is wrong with its file, in a sentence; the start script does not fall over it."""
    (root / "config.toml").write_text("port = = 1", encoding="utf-8")
    assert run.configured_port() == 8501


def test_the_app_listens_to_loopback_alone_and_gets_further_arguments(root: Path) -> None:
    """The address stands on the command line, where it wins over any file."""
    command = run.app_command(Path("python"), port=9003, further=["--theme.base", "dark"])
    assert command[1:5] == ["-m", "streamlit", "run", str(root / "app.py")]
    assert command[command.index("--server.address") + 1] == "127.0.0.1"
    assert command[command.index("--server.port") + 1] == "9003"
    assert command[-2:] == ["--theme.base", "dark"]


def test_a_model_folder_is_made_absolute_and_a_name_stays_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app runs from another folder than the one the user stands in."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run.app_environment({}, port=1, model="mine")["QWEN_VL_MODEL"] == str(tmp_path / "mine")
    assert run.app_environment({}, port=1, model="demo")["QWEN_VL_MODEL"] == "demo"
    assert "QWEN_VL_MODEL" not in run.app_environment({}, port=1, model=None)
    assert run.app_environment({}, port=1, model="~nobody-here/m")["QWEN_VL_MODEL"] == "~nobody-here/m", (
        "told by the app"
    )


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers everything, with or without the app's mark."""

    mark = ""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.mark:
            self.send_header(self.mark, "1")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that a web server answers at."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(timeout=60)


@contextlib.contextmanager
def worked_in(folder: Path, *, port: int) -> Iterator[None]:
    """An app at this port has the data folder, as far as its lock tells."""
    held = FolderLock(folder)
    held.acquire(port=port)
    yield
    held.release()


def test_a_taken_port_is_told_from_a_running_app(
    busy_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stranger on the port is an error that names the way out; the app itself is opened."""
    opened: list[str] = []
    monkeypatch.setattr(environment, "ensure", lambda: Path("python"))
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run.main(["--port", str(busy_port)]) == 1
    assert "--port" in capsys.readouterr().err
    monkeypatch.setattr(Stranger, "mark", guard.APP_HEADER)
    monkeypatch.setenv("QWEN_VL_DATA_DIR", str(tmp_path))
    with worked_in(tmp_path, port=busy_port):
        assert run.main(["--port", str(busy_port)]) == 0
        assert opened == [f"http://127.0.0.1:{busy_port}"]
        assert run.main(["--port", str(busy_port), "--no-browser"]) == 0
    assert len(opened) == 1


def test_another_account_s_app_is_not_taken_for_one_s_own(
    busy_port: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that of an older copy: whoever is led there would put pictures into somebody else's history."""
    monkeypatch.setattr(Stranger, "mark", guard.APP_HEADER)
    monkeypatch.setattr(environment, "SETUP", root / ".setup")
    monkeypatch.setenv("QWEN_VL_DATA_DIR", str(tmp_path))
    assert not run.find_place(busy_port, is_fixed=False).is_running, "nobody works in this data folder"
    with pytest.raises(packages.SetupError, match="another copy"):
        run.find_place(busy_port, is_fixed=True)
    with worked_in(tmp_path, port=busy_port + 1):
        assert not run.find_place(busy_port, is_fixed=False).is_running, "that one is at another port"
    with worked_in(tmp_path, port=busy_port):
        assert run.find_place(busy_port, is_fixed=False).is_running
        own = run.Place(busy_port, is_running=True)
        assert run.find_place(free_port(), is_fixed=False) == own, "started in another way, at another port"
    (root / ".setup").mkdir()
    note = root / ".setup" / "running.json"
    for data, is_own in ((tmp_path, True), (tmp_path / "other", False)):
        note.write_text(json.dumps({"port": busy_port, "data": str(data)}), encoding="utf-8")
        assert run.find_place(busy_port, is_fixed=False, is_alone=lambda: False).is_running == is_own, (
            "of one program folder with data of its own for each account"
        )


def test_a_data_folder_of_another_account_is_worked_in_by_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one account has set the app up for all, its page is the one to open."""

    def refused(path: Path, *_: object) -> int:
        raise PermissionError(13, "not yours", str(path))

    monkeypatch.setattr(os, "open", refused)
    assert run.holder_port() == 0


def test_the_data_folder_s_lock_is_the_history_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts the app can import nothing of it: its file and its byte are written down twice."""
    assert (run.DATA_MARK, run.DATA_LOCKED_BYTE) == (lock.LOCK_NAME, lock._LOCKED_BYTE)
    monkeypatch.setenv("QWEN_VL_DATA_DIR", str(tmp_path))
    assert run.holder_port() is None
    with worked_in(tmp_path, port=8765):
        assert run.holder_port() == 8765
    assert run.holder_port() is None


def test_a_failed_set_up_is_a_sentence_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, also where a person stopped it."""

    def fails() -> Path:
        raise packages.SetupError("The disk is full.")

    def is_stopped() -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "ensure", fails)
    assert run.main([]) == 1
    assert capsys.readouterr().err == "[setup] The disk is full.\n"
    monkeypatch.setattr(environment, "ensure", is_stopped)
    assert run.main([]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


PRESSING = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started to ignore
script, moment = sys.argv[1:]
class Finder:
    def find_spec(name, path=None, target=None):
        if name == moment:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
sys.modules.pop("argparse", None)
if moment == "ready":
    sys.path.insert(0, ".")
    import scripts.packages
    scripts.packages.speak_anywhere = lambda: signal.raise_signal(signal.SIGINT)
sys.argv = [script, "--help"]
runpy.run_path("scripts/" + script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "moment"),
    [
        ("run.py", "argparse"),
        ("run.py", "scripts.environment"),
        *((script, "ready") for script in ("run.py", "shortcuts.py", "uninstall.py", "record_model.py")),
    ],
)
def test_ctrl_c_in_the_first_moments_leaves_no_traceback(script: str, moment: str) -> None:
    """Pressed while a module is read, in whose midst it can become any error, or before there is anything to be stopped."""
    command = [sys.executable, "-c", PRESSING, script, moment]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_the_mark_on_the_replies_is_the_one_that_is_looked_for() -> None:
    """The start script cannot import the package, so the two spell the header each for themselves."""
    assert guard.APP_HEADER.lower() == run.APP_HEADER


@pytest.mark.parametrize("name", STARTERS)
def test_an_old_python_can_read_far_enough_to_say_so(name: str) -> None:
    """The scripts parse as Python 3.7, and look at the version before they import anything that is newer."""
    tree = ast.parse((ROOT / "scripts" / name).read_text(encoding="utf-8"), feature_version=(3, 7))
    after_docstring = tree.body[1:]
    assert isinstance(after_docstring[0], ast.Import)
    assert [alias.name for alias in after_docstring[0].names] == ["sys"]
    assert "version_info" in ast.unparse(after_docstring[1])
    assert "sys.exit" in ast.unparse(after_docstring[1])


@pytest.mark.parametrize(
    "name", ["run.py", "test.py", "check.py", "build_kit.py", "environment.py", "packages.py", "kit/resolving.py"]
)
def test_a_script_that_downloads_says_so_in_its_first_line(name: str) -> None:
    """Nobody is surprised by the network."""
    first = (ROOT / "scripts" / name).read_text(encoding="utf-8").splitlines()[0]
    assert "ownload" in first


def test_a_taken_port_gives_way_to_the_next_free_one(
    busy_port: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody asked for that very port; a running app is found at whatever port it noted down."""
    monkeypatch.setattr(environment, "SETUP", root / ".setup")
    place = run.find_place(busy_port, is_fixed=False)
    assert not place.is_running
    assert busy_port < place.port < busy_port + run.PORTS_TRIED
    (root / ".setup").mkdir()
    (root / ".setup" / "running.json").write_text(f'{{"port": {busy_port}}}', encoding="utf-8")
    assert run.find_place(8501, is_fixed=False).port != busy_port, "a stranger took its port meanwhile"
    monkeypatch.setattr(Stranger, "mark", guard.APP_HEADER)
    assert run.find_place(8501, is_fixed=False) == run.Place(busy_port, is_running=True)


def test_a_second_click_waits_for_the_app_that_the_first_one_starts(
    busy_port: int, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while nothing answers yet. Where the first start came to nothing, the second one starts the app itself."""
    monkeypatch.setattr(environment, "SETUP", root / ".setup")
    first, second = run._hold_the_start(), run._hold_the_start()
    assert first()
    assert first()
    assert not second()
    (root / ".setup" / "running.json").write_text(f'{{"port": {busy_port}}}', encoding="utf-8")
    asked: list[bool] = []

    def is_alone() -> bool:
        asked.append(second())
        if len(asked) == 3:
            monkeypatch.setattr(Stranger, "mark", guard.APP_HEADER)  # the app is ready now
        return asked[-1]

    assert run.find_place(8501, is_fixed=False, is_alone=is_alone) == run.Place(busy_port, is_running=True)
    assert asked == [False] * 3
    assert capsys.readouterr().out.count("waiting for it") == 1
    monkeypatch.setattr(Stranger, "mark", "X-Other")
    answers = iter((False, True))
    assert not run.find_place(8501, is_fixed=False, is_alone=lambda: next(answers)).is_running


def test_an_app_that_falls_over_is_started_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fallen driver and a torn process are; an ordinary end and a person's wish to end are not."""
    ends: list[int] = []

    def ended(*_: object, **__: object) -> int:
        return ends.pop(0)

    monkeypatch.setattr(run, "_run", ended)
    torn = 0xC0000005 if sys.platform == "win32" else -11
    ends[:] = [run.RESTART_STATUS, torn, 0, 99]
    assert run._keep_running(["python"], {}, port=1, opens_browser=False) == 0
    assert ends == [99]
    ends[:] = [run.RESTART_STATUS] * 10
    assert run._keep_running(["python"], {}, port=1, opens_browser=False) == run.RESTART_STATUS
    assert len(ends) == 10 - 1 - run.RESTARTS
    wished = (run.CONSOLE_CLOSED,) if sys.platform == "win32" else (-2, -15)
    assert not any(map(run.is_crash, (0, 1, 2, 130, *wished)))
