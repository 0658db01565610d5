"""The command line in a process of its own: its streams, its first moments, a Python without its libraries, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_vl_app.cli import serve
from qwen_vl_app.config import ROOT
from qwen_vl_app.texts import t
from tests.hub_parts import a_file

_LOOK_ON_FAKES = """
import sys
from pathlib import Path
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.engine.fake import FakeEngine
from tests.hub_parts import an_assistant
parts = Parts(build_assistant=lambda s: an_assistant(FakeEngine(), Path(sys.argv[2]), settings=s), environment={})
sys.exit(main(["look", sys.argv[1], "--language", "en"], parts=parts))
"""

_FIRST_MOMENTS = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            class Within:
                def __set_name__(self, owner, name):
                    signal.raise_signal(signal.SIGINT)
            type("Anything", (), {"member": Within()})

if sys.argv[1] == "ready":
    import qwen_vl_app.cli.program as program
    program.speak_utf8 = lambda: signal.raise_signal(signal.SIGINT)
else:
    sys.meta_path.insert(0, Interrupting())
runpy.run_module("qwen_vl_app", run_name="__main__")
"""


def ended(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments from the project's folder; what it says is UTF-8, whatever else it is told."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def ended_in_a_shell(words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words, and what they do to its streams, in a shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" {words}', sys.executable],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
        timeout=120,
        check=False,
    )


def test_names_that_are_no_utf_8_are_shown_escaped(tmp_path: Path) -> None:
    """A name from another century neither crashes nor hides."""
    if sys.platform in ("win32", "darwin"):
        pytest.skip("this system allows no such names")
    file = tmp_path / os.fsdecode(b"photo\xff.png")
    file.write_bytes(a_file())
    process = ended("-c", _LOOK_ON_FAKES, str(file), str(tmp_path / "data"))
    assert process.returncode == 0, process.stderr
    assert "photo\\udcff.png" in process.stdout


def test_output_is_utf_8_whatever_the_console_says() -> None:
    """A code page that cannot write Chinese is not asked to."""
    looked = ("-m", "qwen_vl_app", "look", "no such file", "--language", "zh", "--device", "nonsense")
    process = ended(*looked, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert process.returncode == 2
    assert "设置" in process.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there, the console tells both")
def test_an_app_that_is_served_ends_with_the_command() -> None:
    """A command that is told to end passes it on, and nothing of it stays afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(endless) as app, serve._passing_on(app):
        signal.raise_signal(signal.SIGTERM)
        assert app.wait(60) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_python_without_the_libraries_gets_a_sentence() -> None:
    """Started by the wrong Python, the program says which one to take."""
    hidden = (
        "import sys; sys.modules['typer'] = None; import runpy; runpy.run_module('qwen_vl_app', run_name='__main__')"
    )
    process = ended("-c", hidden)
    assert process.returncode == 1
    assert "scripts/run.py" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("moment", ["qwen_vl_app.texts", "typer", "ready"])
def test_ctrl_c_in_the_first_moments_is_an_end_without_a_traceback(moment: str) -> None:
    """Whether a library is being read, where it may become any error, or the command is about to begin."""
    process = ended("-c", _FIRST_MOMENTS, moment)
    assert (process.returncode, process.stderr) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("words", ["models list --json", "--help"])
def test_output_that_finds_no_room_is_told_in_a_sentence(words: str) -> None:
    """The sentence goes to the other stream, also where JSON was asked for; it was a traceback, or no cause."""
    process = ended_in_a_shell(f"-m qwen_vl_app {words} --language en >/dev/full")
    assert (process.returncode, process.stderr) == (1, t("cli.output_lost", "en") + "\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell there closes no streams")
def test_streams_that_are_closed_lead_nowhere() -> None:
    """A closed output's number went to the pipe of the process that reads pictures, and the command stood still."""
    process = ended_in_a_shell("-m qwen_vl_app --version <&- >&-")
    assert (process.returncode, process.stderr) == (0, "")
    process = ended_in_a_shell(
        '-c "import os; from qwen_vl_app.__main__ import _open_streams as o; o(); assert min(os.pipe()) > 2" <&- >&-'
    )
    assert (process.returncode, process.stderr) == (0, "")
