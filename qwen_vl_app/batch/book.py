"""What a run has written down: the journal, and what follows from it, in step with each other.

Knows rows, finished files and counts. Does not know pictures, or who makes the rows. Any thread may write and look.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from qwen_vl_app.batch.journal import Journal
from qwen_vl_app.batch.ledger import Ledger, file_record, row_record, state_record
from qwen_vl_app.batch.progress import RunState
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.source import FoundFile


class RunBook:
    """A run's journal between `open` and `close`. `on_file` is called for every file that needs nothing more."""

    def __init__(self, folder: Path, *, on_file: Callable[[], object] = lambda: None) -> None:
        self._folder = folder
        self._on_file = on_file
        self._journal = Journal(folder)
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0

    def open(self, *, retry_failed: bool = False) -> None:
        """Take the journal and read what it says. Raises BatchError."""
        self._journal.open()
        try:
            ledger = Ledger.read(self._folder)
            if retry_failed:
                ledger.forget_failures()
            with self._lock:
                self._ledger, self._total, self._done = ledger, ledger.total, len(ledger.finished)
            self.note_state(RunState.RUNNING)
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        """Let the journal go."""
        self._journal.close()

    # 1. Writing

    def write(self, row: BatchRow) -> None:
        """Write a row and return when it is on the disk. Raises BatchError."""
        record = row_record(row)
        self._journal.append(record)
        with self._lock:
            self._ledger.take(record)

    def finish_file(self, found: FoundFile, content_hash: str) -> None:
        """Write down that a file, as it was, needs nothing more. Raises BatchError."""
        record = file_record(found, content_hash)
        self._journal.append(record)
        with self._lock:
            self._ledger.take(record)
        self.count_file()

    def count_file(self) -> None:
        """Count a file that is over, for now."""
        with self._lock:
            self._done += 1
        self._on_file()

    def note_state(self, state: RunState) -> None:
        """Write down where the run stands. Raises BatchError."""
        self._journal.append(state_record(state.value, at=now().isoformat(), total=self._total))

    def count_all(self, *, done: int, total: int) -> None:
        """Set how many files are over, of how many."""
        with self._lock:
            self._done, self._total = done, total

    # 2. Looking

    @property
    def files(self) -> tuple[int, int]:
        """How many files are over, and of how many."""
        with self._lock:
            return self._done, self._total

    def counts(self) -> Counter[RowOutcome]:
        """Return how many rows have each outcome."""
        with self._lock:
            return self._ledger.counts()

    def needs(self, file: FoundFile) -> bool:
        """True where a file is new, unfinished, or no longer what it was."""
        with self._lock:
            return self._ledger.needs(file)

    def has_row(self, name: str) -> bool:
        """True where a file as a whole has a row already."""
        with self._lock:
            return (0, None) in self._ledger.standing(name)

    def has_rows(self, name: str) -> bool:
        """True where a file as a whole, or anything about it, has a row that stands."""
        with self._lock:
            return bool(self._ledger.standing(name))

    def reopen(self, files: Iterable[FoundFile]) -> None:
        """Have files that are waiting looked at as if for the first time, and with them what was taken for their copies."""
        names = {file.name for file in files}
        with self._lock:
            self._ledger.reopen(names)

    def is_done(self, name: str, content_hash: str, *, page: int, question_index: int) -> bool:
        """True where a question about a page of that file, with those bytes, has its row."""
        with self._lock:
            return self._ledger.is_done(name, content_hash, page=page, question_index=question_index)

    def owner_of(self, content_hash: str, name: str) -> str:
        """Return the file that is asked about for these bytes: the first that had them and still has, else `name` from now on."""
        with self._lock:
            owner = self._ledger.contents.get(content_hash, name)
            mark = self._ledger.finished.get(owner)
            if owner != name and mark is not None and mark[2] != content_hash:  # it has others by now
                owner = name
            self._ledger.contents[content_hash] = owner
            return owner


def now() -> datetime:
    """Return this moment, UTC."""
    return datetime.now(UTC)
