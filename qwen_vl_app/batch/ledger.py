"""What a journal says has been done: which files are finished, which questions answered, which bytes were seen.

Knows the kinds of lines. Holds names and hashes alone, so that a run of many thousand pictures stays small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_vl_app.batch.journal import read_journal, read_lines
from qwen_vl_app.batch.rows import BatchRow, RowOutcome, dump_row, load_row
from qwen_vl_app.batch.source import FoundFile, reading_order
from qwen_vl_app.errors import BatchError

_Asked = tuple[str, str, int, int]
"""Name, content hash, page, question."""


def row_record(row: BatchRow) -> dict[str, Any]:
    """Return the journal's line for a row."""
    return {"kind": "row", **dump_row(row)}


def file_record(file: FoundFile, content_hash: str) -> dict[str, Any]:
    """Return the line that says: this file, as it was, needs nothing more."""
    return {
        "kind": "file",
        "name": file.name,
        "size_bytes": file.size_bytes,
        "modified_ns": file.modified_ns,
        "content_hash": content_hash,
    }


def state_record(state: str, *, at: str, total: int = 0) -> dict[str, Any]:
    """Return the line that says where the run stands. `at` is a time in ISO form, UTC."""
    return {"kind": "state", "state": state, "at": at, "total": total}


@dataclass(slots=True)
class Ledger:
    """What was done. Counts are of what stands now: a row that was asked again counts once."""

    finished: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """By name: size, time and content hash of files that need nothing more."""
    contents: dict[str, str] = field(default_factory=dict)
    """By content hash: the name of the file that is asked about."""
    copies: dict[str, str] = field(default_factory=dict)
    """By name of a file that is not asked about: the file whose copy it is."""
    outcomes: dict[tuple[str, str], dict[tuple[int, int | None], RowOutcome]] = field(default_factory=dict)
    """By name and content hash, then by page and question, as the latest row has it. A file may be again what it was."""
    latest: dict[str, str] = field(default_factory=dict)
    """By name: the content hash that it was last seen with, in a row or as a file that needs nothing more."""
    answered: set[_Asked] = field(default_factory=set)
    failed: set[_Asked] = field(default_factory=set)
    last_state: str = ""
    total: int = 0

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Return what the journal in a run's folder says."""
        ledger = cls()
        for line in read_journal(folder):
            ledger.take(line.record)
        return ledger

    def take(self, record: dict[str, Any]) -> None:
        """Take one line into account; lines of a kind that is not known are passed over."""
        match record.get("kind"):
            case "row":
                try:
                    self._take_row(record)
                except (KeyError, TypeError, ValueError):
                    return
            case "file":
                name, content = str(record.get("name", "")), str(record.get("content_hash", ""))
                self.finished[name] = record.get("size_bytes", 0), record.get("modified_ns", 0), content
                self.latest[name] = content
                if RowOutcome.DUPLICATE not in self.standing(name).values():
                    self.copies.pop(name, None)  # it was one in between
            case "state":
                self.last_state = str(record.get("state", ""))
                self.total = max(self.total, int(record.get("total") or 0))

    def _take_row(self, record: dict[str, Any]) -> None:
        outcome, name, content = RowOutcome(record["outcome"]), record["name"], record["content_hash"]
        page, question = int(record["page"]), record["question_index"]
        self.latest[name] = content
        outcomes = self.outcomes.setdefault((name, content), {})
        outcomes[(page, question)] = outcome
        if outcome is RowOutcome.DUPLICATE:
            self.copies[name] = str(record.get("duplicate_of", ""))
        if question is None:
            return
        self.copies.pop(name, None)
        outcomes.pop((page, None), None)  # what kept the page from being asked is over
        self.contents.setdefault(content, name)
        key = (name, content, page, int(question))
        (self.failed if outcome is RowOutcome.FAILED else self.answered).add(key)
        if outcome is RowOutcome.ANSWERED:
            self.failed.discard(key)

    def standing(self, name: str) -> dict[tuple[int, int | None], RowOutcome]:
        """Return the outcomes of a file that stand, by page and question: those about the bytes that it was last seen with."""
        return self.outcomes.get((name, self.latest.get(name, "")), {})

    def needs(self, file: FoundFile) -> bool:
        """True where a file is new, unfinished, no longer what it was when it was finished, or a copy of one that is not."""
        done = self.finished.get(file.name)
        if done is None or done[:2] != (file.size_bytes, file.modified_ns):
            return True
        original = self.finished.get(self.copies.get(file.name, ""))
        return original is not None and original[2] != done[2]

    def reopen(self, names: set[str]) -> None:
        """Believe nothing of the bytes of these files, and have those looked at again that were taken for copies of them."""
        over = set(names)
        while more := {copy for copy, original in self.copies.items() if original in over} - over:
            over |= more
        for name in over:
            self.finished.pop(name, None)
        self.contents = {content: name for content, name in self.contents.items() if name not in over}

    def is_done(self, name: str, content_hash: str, *, page: int, question_index: int) -> bool:
        """True where a question about a page of that file, with those bytes, has its row."""
        key = (name, content_hash, page, question_index)
        return key in self.answered or key in self.failed

    def forget_failures(self) -> None:
        """Have everything that failed tried once more."""
        names = {name for name in self.latest if RowOutcome.FAILED in self.standing(name).values()}
        self.failed.clear()
        self.finished = {name: mark for name, mark in self.finished.items() if name not in names}

    def counts(self) -> Counter[RowOutcome]:
        """Return how many rows have each outcome."""
        return Counter(outcome for name in self.latest for outcome in self.standing(name).values())


def current_rows(folder: Path, *, as_they_came: bool = False) -> Iterator[BatchRow]:
    """Yield the rows that stand: each question's latest, about each file's latest bytes.

    In the order in which people read names, page by page, whatever came first; or in the journal's order.
    """
    latest: dict[str, str] = {}
    last: dict[tuple[str, int, int | None, str], int] = {}
    last_of_page: dict[tuple[str, int, str], int] = {}
    for line in read_journal(folder):
        record = line.record
        if record.get("kind") == "row":
            name, content = str(record.get("name", "")), str(record.get("content_hash", ""))
            latest[name] = content
            page = int(record.get("page") or 0)
            last[(name, page, record.get("question_index"), content)] = line.start
            last_of_page[(name, page, content)] = line.start
        elif record.get("kind") == "file":
            # Also where nothing was asked: it is again what it was, and has the answers that it had then.
            latest[str(record.get("name", ""))] = str(record.get("content_hash", ""))
    stands = {
        (name, page, question): start
        for (name, page, question, content), start in last.items()
        # A file's own row is over where it could be asked about after all.
        if content == latest[name] and (question is not None or last_of_page[name, page, content] == start)
    }
    order = sorted(stands, key=stands.__getitem__ if as_they_came else _reading_order)
    for line in read_lines(folder, [stands[key] for key in order]):
        try:
            yield load_row(line.record)
        except BatchError:
            continue


def _reading_order(key: tuple[str, int, int | None]) -> tuple[object, ...]:
    name, page, question = key
    return (reading_order(name), page, -1 if question is None else question)
