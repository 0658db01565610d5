"""Where forms are kept: a folder for each, written whole or not at all; decisions are lines on the disk before they count.

Knows files. Chosen over rows of the history's database: a form is mostly pictures, which are files in any case; the one thing
that grows is its decisions, and an appended line that is synced cannot damage those before it; and a folder that is removed
leaves nothing in a table. Does not know what the documents mean.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qwen_vl_app.errors import FormError
from qwen_vl_app.own_files import FILE_MODE, FOLDER_MODE, make_folder, new_file

log = logging.getLogger(__name__)

_DOOMED, _PARTIAL = ".erasing-", ".part"
WRITTEN_WITHIN_S = 60.0
"""A drawer that has not grown for so long was left by a kill."""
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Cabinet:
    """A folder of drawers, each a folder of files. Any thread; names lead nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._adding: set[Path] = set()

    @property
    def folder(self) -> Path:
        """Where it stands."""
        return self._folder

    def drawers(self) -> tuple[str, ...]:
        """Return the names of the drawers there are, in order. Raises FormError `forms.unreadable`."""
        try:
            return tuple(
                sorted(entry.name for entry in self._folder.iterdir() if entry.is_dir() and _is_safe(entry.name))
            )
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise FormError("forms.unreadable") from error

    def add(self, drawer: str, files: Mapping[str, bytes]) -> None:
        """Put a new drawer there with all its files, or nothing. Raises FormError `forms.unwritable`."""
        target = self._drawer(drawer)
        partial = target.with_name(f".{drawer}{_PARTIAL}")
        with self._lock:
            self._adding.add(partial)
        try:
            _clear(partial)  # a run that is resumed after a kill fills the same form again
            make_folder(self._folder)
            partial.mkdir(mode=FOLDER_MODE)
            for name, data in files.items():
                _write(partial / _checked(name), data)
            partial.rename(target)
            _sync(self._folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise FormError("forms.unwritable") from error
        finally:
            with self._lock:
                self._adding.discard(partial)

    def put(self, drawer: str, name: str, data: bytes) -> None:
        """Write one file of a drawer, which may be new, over what was there. Raises FormError `forms.unwritable`."""
        folder = self._drawer(drawer)
        partial = folder / f".{_checked(name)}.{threading.get_ident()}.part"
        try:
            make_folder(folder)
            _write(partial, data)
            partial.replace(folder / name)
            _sync(folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise FormError("forms.unwritable") from error

    def get(self, drawer: str, name: str) -> bytes | None:
        """Return one file, None where there is none. Raises FormError `forms.unreadable`."""
        try:
            return (self._drawer(drawer) / _checked(name)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FormError("forms.unreadable") from error

    def names(self, drawer: str) -> tuple[str, ...]:
        """Return the names of a drawer's files."""
        try:
            found = (entry.name for entry in self._drawer(drawer).iterdir() if entry.is_file())
            return tuple(sorted(name for name in found if not name.startswith(".")))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise FormError("forms.unreadable") from error

    def append(self, drawer: str, name: str, record: Mapping[str, Any]) -> None:
        """Write one line and return when it is on the disk. Raises FormError `forms.unwritable`, `forms.unknown`."""
        folder = self._drawer(drawer)
        if not folder.is_dir():
            raise FormError("forms.unknown", form=drawer)
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        with self._lock:
            try:
                descriptor = os.open(folder / _checked(name), flags, FILE_MODE)
                try:
                    end = os.lseek(descriptor, 0, os.SEEK_END)
                    if end and not _ends_a_line(descriptor, end):
                        line = b"\n" + line  # a kill left a line torn: it stays one damaged line
                    left = memoryview(line)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                _sync(folder)
            except OSError as error:
                raise FormError("forms.unwritable") from error

    def lines(self, drawer: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the whole lines of a file; what is damaged is passed over."""
        for line in (self.get(drawer, name) or b"").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                log.warning("a line of a form's decisions is damaged")
                continue
            if isinstance(record, dict):
                yield record

    def remove(self, drawer: str) -> bool:
        """Remove a drawer with all its files; False where there was none. Raises FormError `forms.unwritable`.

        It is renamed first: what a kill leaves of it is no drawer any more, and `sweep` removes it.
        """
        folder = self._drawer(drawer)
        try:
            if not folder.is_dir():
                return False
            doomed = folder.with_name(f"{_DOOMED}{drawer}")
            _clear(doomed)  # a drawer of that name may have been removed before
            folder.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise FormError("forms.unwritable") from error
        return True

    def size_of(self, drawer: str) -> tuple[int, int]:
        """Return how many files a drawer has, and their bytes."""
        contents = [self.get(drawer, name) or b"" for name in self.names(drawer)]
        return len(contents), sum(map(len, contents))

    def sweep(self) -> bool:
        """Remove what a kill left of drawers, half written or half removed; return whether nothing of it is left."""
        with self._lock:
            adding = set(self._adding)
        try:
            left = [entry for entry in self._folder.iterdir() if _is_left(entry.name) and entry not in adding]
        except OSError:
            return True
        for entry in left:
            if not _may_grow(entry):
                shutil.rmtree(entry, ignore_errors=True)
        return not any(entry.exists() for entry in left)

    def has(self, drawer: str) -> bool:
        """True where there is such a drawer."""
        return _is_safe(drawer) and self._drawer(drawer).is_dir()

    def _drawer(self, name: str) -> Path:
        if not _is_safe(name):
            raise FormError("forms.unknown", form=name[:60])
        return self._folder / name


def _is_left(name: str) -> bool:
    return name.startswith(_DOOMED) or (name.startswith(".") and name.endswith(_PARTIAL))


def _may_grow(folder: Path) -> bool:
    """True for a drawer that a command beside this process may be writing."""
    try:
        return folder.name.endswith(_PARTIAL) and time.time() - folder.stat().st_mtime < WRITTEN_WITHIN_S
    except OSError:
        return False


def _clear(folder: Path) -> None:
    """Remove what a kill left at a place that is wanted now."""
    if folder.exists():
        shutil.rmtree(folder)


def _is_safe(name: str) -> bool:
    return bool(name) and len(name) <= 120 and not name.startswith(".") and _SAFE.issuperset(name)


def _checked(name: str) -> str:
    if not _is_safe(name):
        raise FormError("forms.unknown", form=name[:60])
    return name


def _write(path: Path, data: bytes) -> None:
    with new_file(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be synced there; the file system's own journal keeps the name
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ends_a_line(descriptor: int, end: int) -> bool:
    os.lseek(descriptor, end - 1, os.SEEK_SET)
    return os.read(descriptor, 1) == b"\n"
