"""The journal of a run: lines of JSON that are on the disk before anything else is done.

Knows files, torn lines and who may write. Does not know what the lines mean.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vl_app.errors import BatchError, HistoryError
from qwen_vl_app.history.lock import FolderLock

log = logging.getLogger(__name__)

JOURNAL_NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One whole line: what it holds, and where it and the next one begin, in bytes."""

    record: dict[str, Any]
    start: int
    end: int


class Journal:
    """The one writer of a run's journal, from `open` to `close`; it keeps every other process out meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / JOURNAL_NAME
        self._lock = FolderLock(folder)
        self._writing = threading.Lock()
        self._descriptor: int | None = None
        self._length = 0

    def open(self) -> None:
        """Take the journal and cut off a line that a kill left torn. Raises BatchError `batch.in_use` or `.unwritable`."""
        try:
            self._lock.acquire()
        except HistoryError as error:
            raise BatchError("batch.in_use", pid=error.facts.get("pid")) from error
        except OSError as error:
            raise BatchError("batch.journal.unwritable") from error
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self._path, flags, 0o600)
            self._length = _whole_length(self._path)
            os.ftruncate(self._descriptor, self._length)
            os.fsync(self._descriptor)
            _sync_folder(self._folder)
        except OSError as error:
            self.close()
            raise BatchError("batch.journal.unwritable") from error

    def append(self, record: dict[str, Any]) -> None:
        """Write one line and return when it is on the disk. Raises BatchError `batch.journal.unwritable`."""
        # ASCII also carries names that are no valid Unicode, which UTF-8 could not.
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        with self._writing:
            if self._descriptor is None:
                raise BatchError("batch.journal.unwritable")
            try:
                os.lseek(self._descriptor, self._length, os.SEEK_SET)
                left = memoryview(line)
                while left:
                    left = left[os.write(self._descriptor, left) :]
                os.fsync(self._descriptor)
            except OSError as error:
                raise BatchError("batch.journal.unwritable") from error  # the next line is written over what is torn
            self._length += len(line)

    def close(self) -> None:
        """Let the journal go. Does nothing where it is not open."""
        with self._writing:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
        try:
            self._lock.release()
        except OSError as error:  # closing has unlocked it; only the mark of an orderly end is missing
            log.warning("the journal's lock could not be written (errno %s)", error.errno)


def read_journal(folder: Path, *, start: int = 0) -> Iterator[JournalLine]:
    """Yield the whole lines from a byte on, at any time, also while somebody writes. Lines that are no JSON are passed over."""
    try:
        with (folder / JOURNAL_NAME).open("rb") as file:
            file.seek(start)
            end = start
            for line in file:
                if not line.endswith(b"\n"):
                    return
                begin, end = end, end + len(line)
                try:
                    record = json.loads(line)
                except ValueError:
                    log.warning("a line of a journal is damaged; what it told is asked again")
                    continue
                if isinstance(record, dict):
                    yield JournalLine(record, begin, end)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BatchError("batch.journal.unreadable") from error


def read_lines(folder: Path, starts: Iterable[int]) -> Iterator[JournalLine]:
    """Yield the lines that begin at these bytes, in the order they are given. Raises BatchError."""
    try:
        with (folder / JOURNAL_NAME).open("rb") as file:
            for start in starts:
                file.seek(start)
                line = file.readline()
                yield JournalLine(json.loads(line), start, start + len(line))
    except (OSError, ValueError) as error:
        raise BatchError("batch.journal.unreadable") from error


def _whole_length(path: Path) -> int:
    """Return the bytes up to the end of the last whole line, reading backwards in pieces."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at > 0:
            begin = max(0, at - 65536)
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
    return 0


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be synced there; the file system's own journal keeps the name
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
