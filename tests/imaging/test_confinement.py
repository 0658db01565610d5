"""The decoder child gives up what it does not need, as far as the system goes along, and says what holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.imaging import Confinement, PictureDecoder, linux_rights
from qwen_vl_app.imaging import decoder as decoder_module
from qwen_vl_app.imaging.child_process import ChildProcess
from qwen_vl_app.imaging.frames import BrokenFrameError

from .conftest import MAX_PIXELS, encode

ROOT = str(Path(__file__).resolve().parents[2])
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux takes rights away")
ROOMY = {"max_bytes": 2**20, "max_pixels": MAX_PIXELS, "timeout_s": 30}

TRIALS = """
import ctypes, json, os, socket, subprocess, sys
sys.path[:0] = [sys.argv[1]]
from qwen_vl_app.imaging.confinement import confine_this_process

folder = sys.argv[2]
held = open(folder + "/held", "rb")
library = ctypes.CDLL(None, use_errno=True)
confinement = confine_this_process(4 * 2**30, keeps_rights=sys.argv[3] == "keep")

def fails(what):
    try:
        return what() == -1
    except OSError:
        return True

told = {
    "write": fails(lambda: open(folder + "/file", "r+b")),
    "cut": fails(lambda: os.truncate(folder + "/file", 1)),
    "make": fails(lambda: open(folder + "/new", "x")),
    "rename": fails(lambda: os.rename(folder + "/file", folder + "/other")),
    "remove": fails(lambda: os.unlink(folder + "/file")),
    "udp": fails(lambda: library.socket(2, 2, 0)),
    "tcp": fails(lambda: socket.socket()),
    "local": fails(lambda: socket.socket(socket.AF_UNIX)),
    "program": fails(lambda: subprocess.run(["/bin/true"])),
    "parent": fails(lambda: os.kill(os.getppid(), 0)),
    "privileges": "NoNewPrivs:\\t1" in open("/proc/self/status").read(),
    "read": fails(lambda: open(folder + "/read")),
    "held": held.read() != b"held",
}
print(json.dumps([told, confinement.to_json()]))
"""


def tried(folder: Path, *, keeps: bool = False) -> tuple[dict[str, bool], dict[str, bool]]:
    """What a confined process could not do, and what it says of itself."""
    for name in ("held", "file", "read"):
        (folder / name).write_bytes(name.encode())
    command = [sys.executable, "-I", "-c", TRIALS, ROOT, str(folder), "keep" if keeps else ""]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    told, confinement = json.loads(out)
    return told, confinement


@ON_LINUX
def test_a_confined_process_reads_and_does_nothing_else(tmp_path: Path) -> None:
    """No file is written, cut, made or removed, no socket opened, no program started; what it reads it still reads."""
    told, confinement = tried(tmp_path)
    assert confinement["has_memory_limit"] and told["privileges"]
    assert not (told["read"] or told["held"])
    if not confinement["is_without_files"] or not confinement["is_without_network"]:
        pytest.skip(f"this kernel takes less away: {confinement}")
    assert [name for name, is_refused in told.items() if not is_refused] == ["read", "held"]
    assert {file.name for file in tmp_path.iterdir()} == {"held", "file", "read"}
    assert (tmp_path / "file").read_bytes() == b"file"


@ON_LINUX
def test_rights_that_are_kept_are_told_as_kept(tmp_path: Path) -> None:
    """What a child is held to is what it says; a second attempt at starting one takes nothing but memory away."""
    told, confinement = tried(tmp_path, keeps=True)
    assert confinement == {"has_memory_limit": True, "is_without_files": False, "is_without_network": False}
    assert not (told["udp"] or told["program"] or told["rename"])


class _OldKernel:
    """A C library whose kernel knows none of it, or refuses it."""

    def __init__(self, *, version: int = -1) -> None:
        self.version = version
        self.calls: list[int] = []

    def syscall(self, number: Any, *_: object) -> int:
        self.calls.append(number.value)
        return self.version if len(self.calls) == 1 else -1

    def socket(self, *_: object) -> int:
        return -1

    def execve(self, *_: object) -> int:
        return -1

    def prctl(self, *_: object) -> int:
        return -1


@ON_LINUX
@pytest.mark.parametrize("version", [-1, 1, 7])
def test_a_kernel_that_refuses_leaves_things_as_they_are(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """Nothing is raised, and nothing is called held that is not."""
    kernel = _OldKernel(version=version)
    monkeypatch.setattr(linux_rights, "_library", lambda: kernel)
    assert not linux_rights.give_up_files()
    assert len(kernel.calls) == (1 if version < 1 else 2)
    assert not linux_rights.give_up_calls()
    assert not linux_rights.give_up_privileges()


@ON_LINUX
@pytest.mark.parametrize("machine", ["riscv64", "i686"])
def test_a_processor_whose_calls_are_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    kernel = _OldKernel()
    monkeypatch.setattr(linux_rights, "_library", lambda: kernel)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert not linux_rights.give_up_calls()
    assert kernel.calls == []


def test_the_child_says_what_it_is_held_to() -> None:
    """In its first words; what is not plainly said is not believed."""
    decoder = PictureDecoder(**ROOMY)
    try:
        told = decoder.confinement()
        assert decoder.inspect(encode(Image.new("RGB", (8, 8)), "PNG")).size.pixels == 64
    finally:
        decoder.close()
    if sys.platform.startswith("linux"):
        assert told.has_memory_limit
    assert Confinement.from_json(told.to_json()) == told
    odd: tuple[JsonValue, ...] = (None, [], "yes", {"has_memory_limit": 1, "is_without_files": "true", "more": True})
    assert {Confinement.from_json(each) for each in odd} == {Confinement()}


def test_the_child_is_offline_as_the_app_is() -> None:
    """Where the system takes no sockets away, the guard refuses what Python code would connect to."""
    code = f"""
import sys
sys.path[:0] = [{ROOT!r}]
from qwen_vl_app.imaging.child import main
from qwen_vl_app.offline import is_guarding
main()
sys.exit(0 if is_guarding() else 3)
"""
    command = [sys.executable, "-I", "-c", code, str(4 * 2**30), "30", "keep"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b'"ready"' in ended.stdout


def test_a_child_that_does_not_start_confined_starts_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving up rights is never a reason for reading no pictures."""

    def await_ready(child: ChildProcess, timeout_s: float) -> None:
        if child._process.args[-1] != "keep":  # type: ignore[index]
            raise BrokenFrameError("refused")
        original(child, timeout_s)

    original = ChildProcess.await_ready
    monkeypatch.setattr(ChildProcess, "await_ready", await_ready)
    decoder = PictureDecoder(**ROOMY)
    try:
        assert decoder.inspect(encode(Image.new("RGB", (8, 8)), "PNG")).size.pixels == 64
        assert not decoder.confinement().is_without_files
    finally:
        decoder.close()


def test_a_child_without_a_memory_limit_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log knows that a file can fill the memory."""
    monkeypatch.setattr(Confinement, "from_json", lambda _: Confinement())
    decoder = PictureDecoder(**ROOMY)
    try:
        for _ in range(2):
            decoder.confinement()
    finally:
        decoder.close()
    told = [record for record in caplog.records if record.name == decoder_module.__name__]
    assert len(told) == 1 and "memory" in told[0].getMessage()
