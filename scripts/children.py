"""Runs the programs that set things up, and lets none of them go on unseen when this one ends.

Knows processes, and how each system tells one to end. Does not know what is run. Standard library only.

Where this process is told to end, it ends what it started first. Where it is killed outright, it cannot: Windows then ends its
children by itself, because they are in a job; elsewhere they go on to their end, and hold the lock of the set-up until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""What a process is told to end with, beside Ctrl-C. SIGBREAK is Windows' own, for Ctrl+Break and a console that is closed."""
PATIENCE_S = 10.0

_held: list[int] = []


class ToldToEnd(KeyboardInterrupt):
    """This process was told to end by a signal. Whatever tidies up after Ctrl-C does so after this as well."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status that says by what a process was interrupted."""
    return 128 + (interrupt.number if isinstance(interrupt, ToldToEnd) else signal.SIGINT)


def calmly(main: Callable[[], int]) -> int:
    """Run a script that has nothing to put in order; return its exit status, also where it was interrupted."""
    try:
        return main()
    except KeyboardInterrupt as told:
        return status_of(told)


@contextmanager
def heard() -> Iterator[None]:
    """Let being told to end raise ToldToEnd in the block, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other one listen
        yield
        return

    def tell(number: int, _frame: object) -> None:
        raise ToldToEnd(number)

    # What this process was started to ignore, as under nohup, it goes on ignoring.
    before = {number: signal.getsignal(number) for number in ENDINGS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def holding(descriptor: int) -> Iterator[None]:
    """Let whatever is started in the block hold an open file, and so the lock on it, for as long as it lives itself."""
    _held.append(descriptor)
    try:
        yield
    finally:
        _held.remove(descriptor)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a program, both its streams in one, and wait for its end after the block. Where the block fails, it is ended.

    With it ends everything that it has started itself.
    """
    is_posix = sys.platform != "win32"
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        pass_fds=tuple(_held) if is_posix else (),
        # A group can be ended as a whole, and Ctrl-C reaches it through this process alone.
        process_group=0 if is_posix else None,
    ) as process:
        job = None
        try:
            job = _Job(process)
            yield process
            process.wait()
        except BaseException:  # a person's Ctrl-C, too, must not leave pip running
            if job is not None:
                job.end()
            process.kill()
            raise


if sys.platform == "win32":

    class _Job:
        """A job of Windows: what is started within it belongs to it, and ends when the last handle of the job is closed."""

        def __init__(self, process: subprocess.Popen[str]) -> None:
            kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            kernel.CreateJobObjectW.restype = ctypes.c_void_p
            kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p)
            kernel.SetInformationJobObject.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
            kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            kernel.TerminateJobObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
            self._kernel = kernel
            self._handle = kernel.CreateJobObjectW(None, None)
            limits = (ctypes.c_uint32 * 36)()  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which only the flags are set
            limits[4] = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            kernel.SetInformationJobObject(self._handle, 9, limits, ctypes.sizeof(limits))
            kernel.AssignProcessToJobObject(self._handle, int(process._handle))  # type: ignore[attr-defined]

        def end(self) -> None:
            """End what is in the job."""
            self._kernel.TerminateJobObject(self._handle, 1)

else:

    class _Job:
        """A process group, as far as it does here what a job does on Windows."""

        def __init__(self, process: subprocess.Popen[str]) -> None:
            self._process = process

        def end(self) -> None:
            """End what is in the group, whatever of it is left after a while by force."""
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):  # all of it is gone already
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                    self._process.wait(PATIENCE_S)
