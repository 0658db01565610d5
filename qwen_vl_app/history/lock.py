"""One instance per data folder: a locked file that the operating system lets go of when its holder dies.

The file's text says who holds it, so that a second instance can name the first. Does not know what the folder holds.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from qwen_vl_app.errors import HistoryError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "history.lock"
_TRIES = 5
_PAUSE_S = 0.05
# Windows forbids others to read a locked byte, so the locked one lies far behind the text.
_LOCKED_BYTE = 1 << 30


class FolderLock:
    """The right to write in a folder. Held until `release` or the end of the process; the file itself stays."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None
        self.former_mark = ""
        """What the last holder left behind when it let go; empty where it was killed."""

    def acquire(self, *, port: int = 0) -> None:
        """Take the lock and write down who holds it.

        Raises HistoryError `history.in_use` with the holder's `pid` and `port` (0 where it did not say), and OSError
        where the file cannot be written.
        """
        with ExitStack() as undo:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            # Whatever fails from here on, an open descriptor would keep the folder taken.
            undo.callback(os.close, descriptor)
            if not _lock_patiently(descriptor):
                holder = _read(descriptor)
                raise HistoryError("history.in_use", pid=_number(holder, "pid"), port=_number(holder, "port"))
            mark = _read(descriptor).get("mark", "")
            self.former_mark = mark if isinstance(mark, str) else ""
            _write(descriptor, json.dumps({"pid": os.getpid(), "port": port}))
            undo.pop_all()
        self._descriptor = descriptor

    def release(self, *, mark: str = "") -> None:
        """Let go, leaving a mark for the next holder; does nothing where the lock is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            _write(descriptor, json.dumps({"mark": mark}) if mark else "")
        finally:
            # Closing is what unlocks, and it must happen also when the disk is full.
            os.close(descriptor)


def holder_port(folder: Path) -> int | None:
    """Return the port that whoever works in a folder wrote down; None where nobody does. Raises OSError."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor) else _number(_read(descriptor), "port")
    finally:
        os.close(descriptor)


def _lock_patiently(descriptor: int) -> bool:
    # A process that has just been killed may need a moment to be gone.
    for _ in range(_TRIES - 1):
        if _try_lock(descriptor):
            return True
        time.sleep(_PAUSE_S)
    return _try_lock(descriptor)


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode("ascii"))


def _read(descriptor: int) -> dict[str, object]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        told = json.loads(os.read(descriptor, 1024))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _number(told: dict[str, object], name: str) -> int:
    value = told.get(name, 0)
    return value if isinstance(value, int) else 0


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            # Somebody else's lock is EACCES on Windows; under Wine it is whatever the call before has left.
            if error.errno in (errno.EBADF, errno.EINVAL):
                raise
            return False
        return True
else:

    def _try_lock(descriptor: int) -> bool:
        # flock and not lockf: it also keeps out a second store of the same process.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
