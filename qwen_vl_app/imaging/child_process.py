"""The decoder child seen from its parent: starting it, talking to it, killing it on time. Knows nothing of pictures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.imaging.confinement import Confinement
from qwen_vl_app.imaging.frames import BrokenFrameError, Frame, read_frame, write_frame
from qwen_vl_app.imaging.work_clock import PATIENCE, WorkClock

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP = """
import json, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:0] = [entry for entry in json.loads(sys.argv.pop(1)) if entry not in sys.path]
from qwen_vl_app.imaging.child import main
main()
"""
"""Ctrl-C in a terminal and a service's stop reach the children as well, and the parent wants its picture read to the end:
one that is not would be called damaged. The child ends with the pipe."""
_CREATE_NO_WINDOW = 0x08000000
"""subprocess.CREATE_NO_WINDOW, which exists on Windows alone."""
ORPHAN_GRACE_S = 10.0
"""How much longer than the parent the child itself waits before it gives up a step."""


@dataclass(slots=True)
class Deadline:
    """Whether the time of one exchange ran out, and the child was killed for it."""

    has_passed: bool = False


class ChildProcess:
    """One child. Not thread-safe: its owner holds a lock."""

    def __init__(self, *, memory_bytes: int, timeout_s: float, is_bare: bool = True) -> None:
        """Begin to start the child; `await_ready` waits for it. Raises OSError.

        `timeout_s` is the limit of its work clock. Without `is_bare` it inherits this process's environment, and keeps its
        rights: it is what is tried where a child did not start.
        """
        import psutil  # noqa: PLC0415 - the child imports this module as well, and needs no such thing

        self.messages = 0
        self.confinement = Confinement()
        """What the system holds the child to, once it is ready."""
        self._is_ready = False
        # The child sees what this process sees, the project first; its own isolated start would leave out the rest.
        path = json.dumps([_ROOT, *(entry for entry in sys.path if Path(entry).is_absolute())])
        own_limit_s = PATIENCE * timeout_s + ORPHAN_GRACE_S
        self._process = subprocess.Popen(
            [
                _interpreter(),
                "-I",
                "-c",
                _BOOTSTRAP,
                path,
                str(memory_bytes),
                str(own_limit_s),
                *([] if is_bare else ["keep"]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            env=_environment() if is_bare else None,
            start_new_session=True,  # in a group of its own already while it starts
            creationflags=_CREATE_NO_WINDOW if sys.platform == "win32" else 0,
        )
        try:
            self._usage = psutil.Process(self._process.pid)
        except psutil.Error as error:
            self.kill()
            raise OSError("the child is gone") from error

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def await_ready(self, timeout_s: float) -> None:
        """Wait until the child has imported what it needs. Raises BrokenFrameError where it does not come up."""
        if self._is_ready:
            return
        with self.deadline(timeout_s, is_work=False):
            head = self.receive().head
            if head.get("kind") != "ready":
                raise BrokenFrameError("not ready")
        self.confinement = Confinement.from_json(head.get("confinement"))
        self._is_ready = True

    def send(self, head: Mapping[str, JsonValue], *parts: bytes) -> None:
        """Send a message. Raises OSError where the child is gone."""
        self.messages += 1
        write_frame(self._stdin, head, parts=parts)

    def receive(self) -> Frame:
        """Wait for a message. Raises BrokenFrameError where the child is gone."""
        return read_frame(self._stdout)

    @contextmanager
    def deadline(self, limit_s: float, *, is_work: bool = True) -> Iterator[Deadline]:
        """Kill the child where the block takes longer; reads and writes then fail, on every system.

        The limit is the child's own processor time, see `WorkClock`; or wall time where `is_work` is false.
        """
        deadline = Deadline()
        is_done = threading.Event()
        started, used_s = time.monotonic(), self._used_s()
        clock = WorkClock(limit_s)

        def watch() -> None:
            left_s = limit_s
            while not is_done.wait(left_s):
                wall_s, now_s = time.monotonic() - started, self._used_s()
                cpu_s = wall_s if now_s is None or used_s is None else now_s - used_s
                left_s = clock.left_s(wall_s=wall_s, cpu_s=cpu_s if is_work else wall_s)
                if left_s <= 0:
                    deadline.has_passed = True
                    self._process.kill()
                    return

        watcher = threading.Thread(target=watch, name="decoder-clock", daemon=True)
        watcher.start()
        try:
            yield deadline
        finally:
            is_done.set()
            watcher.join()

    def _used_s(self) -> float | None:
        """Return the processor time that the child has used, or None where the system does not tell."""
        import psutil  # noqa: PLC0415 - as above

        try:
            used = self._usage.cpu_times()
        except psutil.Error:
            return None
        return float(used.user + used.system)

    def strike(self) -> None:
        """End the child from any thread; whoever waits for it gets a BrokenFrameError."""
        self._process.kill()

    def kill(self) -> None:
        """End the child at once and let its pipes go."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # what was not yet flushed has nobody to go to
                pass
        self._process.wait()

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        return self._process.stdout  # type: ignore[return-value]


def _interpreter() -> str:
    """Return the Python to start.

    On Windows a virtual environment's own is a launcher, and the process to limit, to measure and to end would be its child.
    """
    base = getattr(sys, "_base_executable", "") if sys.platform == "win32" else ""
    return base or sys.executable


def _environment() -> dict[str, str]:
    """Return the least that an interpreter needs: no secrets, no proxies, no search paths of this process."""
    least = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    least["MALLOC_ARENA_MAX"] = "2"  # glibc reserves 64 MB of address space a thread otherwise, and that is limited
    if sys.platform == "win32":  # Python does not start without it; asked of the system, not of the environment
        import ctypes  # noqa: PLC0415 - Windows alone

        buffer = ctypes.create_unicode_buffer(260)
        ctypes.windll.kernel32.GetWindowsDirectoryW(buffer, 260)
        least["SYSTEMROOT"] = buffer.value
    return least
