"""The start script is told to end: the app puts its things in order, and one that does not is ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from scripts import run
from tests.setup.keys import OWN_CONSOLE, press
from tests.setup.test_children import is_running, wait_for

ROOT = Path(run.__file__).resolve().parent.parent
START = """
import os
import sys
from scripts import run
run.END_TIMEOUT_S = float(sys.argv[1])
sys.exit(run._run([sys.executable, "-c", sys.argv[2]], dict(os.environ), port=1, opens_browser=False))
"""
APP = """
import os, signal, sys, time
def hear(number, frame):
    print("heard", flush=True)
    if "{kind}" == "polite":
        time.sleep(0.2)  # its things are put in order
        print("in order", flush=True)
        os._exit(0)
for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), hear)
print(os.getpid(), flush=True)
while True:
    time.sleep(0.05)
"""
KEYS = ("SIGINT", "SIGTERM", "SIGBREAK")


class Started:
    """An app that the start script runs in a process of its own."""

    def __init__(self, kind: str, patience_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(patience_s), APP.replace("{kind}", kind)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            creationflags=OWN_CONSOLE,
        )
        assert self.process.stdout is not None
        self.app = psutil.Process(int(self.process.stdout.readline()))


@contextmanager
def started(kind: str, *, patience_s: float) -> Iterator[Started]:
    """Start the script with an app of that kind, and let nothing of it be left."""
    found = Started(kind, patience_s)
    try:
        yield found
    finally:
        found.process.kill()
        if is_running(found.app):
            found.app.kill()
        found.process.communicate()


@pytest.mark.parametrize("name", KEYS)
def test_an_app_puts_its_things_in_order(name: str) -> None:
    """It is waited for, and it hears of its end once."""
    with started("polite", patience_s=600) as here:
        press(here.process, name)
        said, _ = here.process.communicate(timeout=60)
        assert said.split("\n") == ["heard", "in order", ""]
        assert here.process.returncode == 0
        wait_for(lambda: not is_running(here.app))


@pytest.mark.parametrize("name", KEYS)
def test_an_app_that_does_not_end_is_ended_after_a_while(name: str) -> None:
    """The script hears the key while the app goes on, also on Windows, where a wait is not interrupted."""
    with started("deaf", patience_s=1) as here:
        press(here.process, name)
        here.process.communicate(timeout=60)
        assert here.process.returncode == 0
        wait_for(lambda: not is_running(here.app))


def test_whoever_presses_again_does_not_have_to_wait() -> None:
    """A second Ctrl-C ends an app that does not end by itself, long before its time is over."""
    with started("deaf", patience_s=600) as here:

        def has_ended() -> bool:
            press(here.process, "SIGINT")  # two in quick succession count as one, so a person goes on pressing
            try:
                here.process.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                return False
            return True

        wait_for(has_ended)
        assert here.process.returncode == 0
        wait_for(lambda: not is_running(here.app))
