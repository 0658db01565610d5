"""A data folder in use: taken by one process, its database up to date, one writer at a time.

Knows when a folder may be trusted without being read through, and that it may vanish while the app runs. Does not know
conversations; what is done with the database is its users' affair.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.lock import FolderLock
from qwen_vl_app.history.opening import DATABASE_NAME, PICTURES_NAME, prepare
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.own_files import FILE_MODE, close_to_others, make_folder

log = logging.getLogger(__name__)

RESERVE_NAME = "reserve"
LEAST_RESERVE_BYTES = 16 * 2**20
"""Of the file that is given up on a full disk, where even deleting needs room."""
_LEFT_FREE_BYTES = 2**18
"""What the reserve does not take of the last free room."""


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """What a call works with. `is_trusted` is True where the last run ended well and nobody touched the files since."""

    path: Path
    lock: FolderLock
    database: Database
    files: PictureFiles
    inode: int
    is_trusted: bool


class DataFolder:
    """A data folder between `open` and `close`. Made without touching the disk."""

    is_on_disk = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / DATABASE_NAME
        self._opened: OpenFolder | None = None
        # One writer at a time: a turn must not come to share a picture file that a deletion is about to remove.
        self._writing = threading.RLock()
        self.is_settled = True
        """False while an erasure has left traces that somebody else holds open."""
        self.erasures = 0
        """How many erasures there were since the folder was opened."""
        self.is_ours: Callable[[str], bool] = lambda _name: False
        """Tells which names in the folder are the app's own; what of before has them is closed to other accounts."""
        self.after_write: Callable[[OpenFolder], object] = lambda _opened: None
        """Called after every writing call that went well."""
        self.before_close: Callable[[OpenFolder], object] = lambda _opened: None
        self.settle: Callable[[OpenFolder], bool] = lambda _opened: True
        """Tries to remove such traces, without waiting; returns whether none are left."""

    def open(self, *, port: int = 0, first: Callable[[OpenFolder], tuple[Reason, ...]]) -> tuple[Reason, ...]:
        """Take the folder, bring its database up to date, do what comes `first`, and return what a user should know.

        Raises HistoryError; the folder is then free again.
        """
        if self._opened is not None:
            raise HistoryError("history.already_open")
        try:
            return self._open(port=port, first=first)
        except HistoryError as error:
            if error.code == "history.disk_full" and (self.path / RESERVE_NAME).exists():
                # On a full disk a history must still be read, and erased to make room.
                give_up_reserve(self.path)
            elif error.code != "history.damaged":
                raise
            # A file that was trusted shows damage: that opening left no mark, and this one reads it through.
        return self._open(port=port, first=first)

    def _open(self, *, port: int, first: Callable[[OpenFolder], tuple[Reason, ...]]) -> tuple[Reason, ...]:
        with translated(), ExitStack() as undo:
            make_folder(self.path)
            if not close_to_others(self.path, is_ours=self.is_ours):
                log.warning("not all of the data folder could be closed to other accounts")
            lock = FolderLock(self.path)
            lock.acquire(port=port)
            undo.callback(lock.release)
            is_trusted = bool(lock.former_mark) and lock.former_mark == _mark(self.path)
            notices = prepare(self.path, is_trusted=is_trusted)
            database = Database(self._file)
            undo.callback(database.close)
            files = PictureFiles(self.path / PICTURES_NAME)
            opened = OpenFolder(self.path, lock, database, files, self._file.stat().st_ino, is_trusted)
            notices += first(opened)
            refill_reserve(self.path)
            undo.pop_all()
        self._opened = opened
        return notices

    def close(self) -> None:
        """Wait for a write that is under way, and give the folder back. Does nothing where it is not open."""
        with self._writing:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            try:
                if self._is_in_place(opened):
                    self.before_close(opened)
            except HistoryError as error:
                log.warning("the history was closed with something left to do: %s", error.code)
            with translated(), ExitStack() as both:
                both.callback(self._release, opened)
                both.callback(opened.database.close)

    def ready(self) -> OpenFolder:
        """Return what a reading call works with. Raises HistoryError `history.closed` or `history.vanished`."""
        opened = self._opened
        if opened is None:
            raise HistoryError("history.closed")
        # SQLite goes on writing into a file whose name is gone, and everything it then acknowledges is lost.
        with translated():
            if not self._is_in_place(opened):
                raise HistoryError("history.vanished")
        return opened

    def free_bytes(self) -> int:
        """Return how many bytes there is room for. Raises HistoryError."""
        with translated():
            return shutil.disk_usage(self.path).free

    @contextmanager
    def writing(self) -> Iterator[OpenFolder]:
        """Yield what a writing call works with, to it alone."""
        with self._writing:
            opened = self.ready()
            yield opened
            self.after_write(opened)
            if not self.is_settled:
                self.is_settled = self.settle(opened)

    def _is_in_place(self, opened: OpenFolder) -> bool:
        return self._file.exists() and self._file.stat().st_ino == opened.inode

    def _release(self, opened: OpenFolder) -> None:
        mark = ""
        # Without a mark the next start reads the database through, and sets it aside where it is damaged.
        if self.is_settled and not opened.database.is_doubtful:
            try:
                mark = _mark(self.path)
            except OSError as error:
                log.warning("the end of the history could not be marked (errno %s)", error.errno)
        opened.lock.release(mark=mark)


def give_up_reserve(folder: Path) -> None:
    """Make the room free that was kept for a full disk."""
    (folder / RESERVE_NAME).unlink(missing_ok=True)


def refill_reserve(folder: Path) -> None:
    """Keep room for erasing on a full disk, as far as there is any: merging the search index rewrites much of a database."""
    file, database = folder / RESERVE_NAME, folder / DATABASE_NAME
    try:
        held = file.stat().st_size if file.exists() else 0
        wanted = LEAST_RESERVE_BYTES + database.stat().st_size
        wanted = min(wanted, held + shutil.disk_usage(folder).free - _LEFT_FREE_BYTES)
        if wanted <= held:
            return
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            if sys.platform != "win32" and sys.platform != "darwin":
                os.posix_fallocate(descriptor, 0, wanted)
            else:
                os.ftruncate(descriptor, wanted)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("no room could be kept for a full disk (errno %s)", error.errno)
        file.unlink(missing_ok=True)


def _mark(folder: Path) -> str:
    """Return what tells whether the database or a folder of pictures was touched since: sizes, times and names."""
    database = folder / DATABASE_NAME
    if not database.is_file() or (folder / f"{DATABASE_NAME}-wal").exists():
        return ""
    state = database.stat()
    digest = hashlib.sha256(f"{state.st_size} {state.st_mtime_ns} {state.st_ino}".encode())
    pictures = folder / PICTURES_NAME
    if pictures.is_dir():
        with os.scandir(pictures) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                digest.update(f" {entry.name} {entry.stat().st_mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
