"""Nothing that setting up has started goes on unseen when the set-up is ended, by whichever way."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scripts import children, environment, packages
from tests.setup.keys import OWN_CONSOLE, press

ROOT = Path(packages.__file__).resolve().parent.parent
PIP = """
import os, subprocess, sys, time
from pathlib import Path
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
note = Path(sys.argv[1])
note.with_suffix(".draft").write_text(f"{os.getpid()} {below.pid}")
note.with_suffix(".draft").replace(note)
time.sleep(600)
"""
SET_UP = """
import signal
import sys
from pathlib import Path
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, rightly so
from scripts import environment, packages, run
place, pip = Path(sys.argv[1]), sys.argv[2]
environment.SETUP = place
environment.is_ready = lambda **_: False
def set_up(**_):
    installer = packages.Installer(python=Path(sys.executable), log=place / "setup.log", kit=place)
    installer.run(["-c", pip, str(place / "pids")], failure="it should have gone on")
environment._set_up = set_up
sys.exit(run.main(["--no-browser", "--port", "8501"]))
"""


class SlowSetUp:
    """A set-up in a process of its own, whose pip does not come to an end and has started something itself."""

    def __init__(self, place: Path) -> None:
        self.lock = place / "lock"
        self.process = subprocess.Popen(
            [sys.executable, "-c", SET_UP, str(place), PIP],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            creationflags=OWN_CONSOLE,
        )
        note = place / "pids"
        wait_for(lambda: note.exists() or self.process.poll() is not None)
        self.below = [psutil.Process(int(word)) for word in note.read_text(encoding="ascii").split()]

    @property
    def is_locked(self) -> bool:
        """Whether another set-up would have to wait."""
        with self.lock.open("a+b") as file:
            return not environment.try_lock(file.fileno())

    @property
    def is_alone(self) -> bool:
        """Whether nothing that it started runs any more."""
        return not any(is_running(process) for process in self.below)


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait for what has to come true."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowSetUp]:
    """A set-up at work; whatever is left of it goes at the end."""
    found = SlowSetUp(tmp_path)
    yield found
    found.process.kill()
    for process in found.below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    found.process.wait(timeout=60)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGBREAK"])
def test_a_set_up_that_is_told_to_end_ends_what_it_started(slow: SlowSetUp, name: str) -> None:
    """pip and what pip started are gone, the next set-up need not wait, and a sentence says how to go on."""
    press(slow.process, name)
    said, _ = slow.process.communicate(timeout=60)
    assert slow.process.returncode == 128 + getattr(signal, name)
    assert "goes on where it stopped" in said
    assert "Traceback" not in said
    wait_for(lambda: slow.is_alone)
    assert not slow.is_locked


def test_a_set_up_that_is_killed_leaves_nobody_at_work_without_the_lock(slow: SlowSetUp) -> None:
    """On Windows its children go with it. Elsewhere pip goes on to its end, and the next set-up waits for that."""
    slow.process.kill()
    slow.process.wait(timeout=60)
    if sys.platform == "win32":
        wait_for(lambda: slow.is_alone)
    else:
        assert is_running(slow.below[0])
        assert slow.is_locked
        slow.below[0].kill()
    wait_for(lambda: not slow.is_locked)


def test_what_is_ignored_goes_on_being_ignored() -> None:
    """A set-up under nohup lives on when its terminal is closed; and afterwards every signal is as it was."""
    number = children.ENDINGS[-1]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with children.heard():
            assert signal.getsignal(number) is signal.SIG_IGN
            assert signal.getsignal(children.ENDINGS[0]) is not signal.SIG_DFL
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
