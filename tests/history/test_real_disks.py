"""A disk that is really full and one that is really read-only, in a mount of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def in_mount(folder: Path, script: str) -> list[str]:
    """Run a program in which `folder` is a disk of 30 MB of its own; return what it says, a line each."""
    folder.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets the tests mount nothing")
    command = 'mount -t tmpfs -o size=30m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", command, "sh", str(folder), sys.executable, script],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    if "mount" in done.stderr and done.returncode == 32:
        pytest.skip("this system lets the tests mount nothing")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


FULL = """
import dataclasses, os, sys
from pathlib import Path
from qwen_vl_app.chat import Answer, FinishReason, Question, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, erase
from tests.history.conftest import picture_of

disk = Path(sys.argv[1])
store = HistoryStore(disk / "data")
store.open()
kept = []
try:
    while True:
        text = f"secret-marker {len(kept)} " * 2000
        picture = dataclasses.replace(picture_of(text), upload=os.urandom(200_000))
        turn = store.begin_turn("o", Question(text, (picture,)), title="t")
        store.finish_turn(turn.id, Answer(text, FinishReason.STOP), state=TurnState.DONE)
        kept.append(turn.id)
except HistoryError as error:
    print(error.code)

filling = (disk / "filling").open("wb", buffering=0)

def fill():
    try:
        while True:
            filling.write(b"x" * 4096)
    except OSError:
        print("free", os.statvfs(disk).f_bavail)

fill()
print("read", all(store.turn("o", number).answer for number in kept))
store.close()
fill()
store.open()
fill()
given_up = []
real = erase.give_up_reserve
erase.give_up_reserve = lambda folder: (given_up.append(folder), real(folder))
receipt = store.erase_everything("o")
print("erased", receipt.is_complete, receipt.turns >= len(kept) > 5, len(given_up))
print("traces", HistoryStore.find_traces(disk, "secret-marker"))
store.close()
store.open()
print("notices", store.notices, store.verify_audit().is_sound)
"""

READ_ONLY = """
import subprocess, sys
from pathlib import Path
from qwen_vl_app.chat import Question
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

disk = Path(sys.argv[1])
store = HistoryStore(disk / "data")
store.open()
turn = store.begin_turn("o", Question("?"), title="t")
store.close()
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
for folder in (disk / "data", disk / "other"):
    try:
        HistoryStore(folder).open()
    except HistoryError as error:
        print(error.code)
subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
store.open()
print(store.turn("o", turn.id).question)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a disk of its own")
def test_a_full_disk_can_be_read_and_erased(tmp_path: Path) -> None:
    """With not a block left the history opens, shows everything that was acknowledged, and erases all of it."""
    assert in_mount(tmp_path / "disk", FULL) == [
        "history.disk_full",
        "free 0",
        "read True",
        "free 0",
        "free 0",
        "erased True True 1",
        "traces ()",
        "notices () True",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a disk of its own")
def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    """Neither an old nor a new history opens on it, with one sentence; writable again, everything is there."""
    assert in_mount(tmp_path / "disk", READ_ONLY) == ["history.read_only", "history.read_only", "?"]
