"""The audit file: who did what when, in lines that are only ever appended and that each vouch for the one before.

It holds times, numbers and hashes, never a word or a pixel of anybody's, and so it survives every erasure. A line is
decided within the transaction that it tells of and reaches the file after it; what a crash holds back comes with the
next start. The database remembers the last line, so that a file cut short is noticed as well. Does not know what the
kinds of lines mean.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import OpenFolder
from qwen_vl_app.history.tables import AuditRow, FactRow
from qwen_vl_app.own_files import begin_file

log = logging.getLogger(__name__)

AUDIT_NAME = "audit.jsonl"
_HEAD_FACT = "audit_head"
_NOTHING = "0" * 64
_LONGEST_LINE_BYTES = 64 * 1024
Number = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a check of the audit file found. `problem` names the first line that does not fit, if there is one."""

    lines: int
    problem: Reason | None = None

    @property
    def is_sound(self) -> bool:
        """True where every line vouches for the one before and none is missing."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class _Head:
    number: int = 0
    hash: str = _NOTHING


class AuditLog:
    """Writes the audit file of a folder that is open. Any thread; the folder's writers come one at a time."""

    def __init__(self) -> None:
        self._appending = threading.Lock()
        self._appended = 0

    def note(self, session: Session, kind: str, *, owner: str = "", facts: dict[str, Number] | None = None) -> None:
        """Decide a line within a transaction. It is in the file after the next `flush`, unless the transaction fails."""
        head = _read_head(session)
        entry: dict[str, Any] = {
            "n": head.number + 1,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": kind,
            "profile": profile_of(owner) if owner else "",
            "facts": facts or {},
            "prev": head.hash,
        }
        digest = _hash_of(entry)
        session.execute(delete(AuditRow).where(AuditRow.number <= self._appended))
        session.add(AuditRow(number=head.number + 1, line=_line_of({**entry, "hash": digest})))
        _write_head(session, _Head(head.number + 1, digest))

    def flush(self, opened: OpenFolder) -> bool:
        """Append the lines that are decided. Where the disk refuses, they wait: what they tell of is done already."""
        with self._appending:
            try:
                with opened.database.reading() as session:
                    rows = {row.number: row.line for row in session.scalars(select(AuditRow).order_by(AuditRow.number))}
                # Lines are forgotten with the next transaction, so the first of these may be in the file already.
                written = _last_number_of(opened.path / AUDIT_NAME, rows)
                _append(opened.path / AUDIT_NAME, [line for number, line in rows.items() if number > written])
            except (HistoryError, OSError) as error:
                log.warning("the audit file could not be written: %s", type(error).__name__)
                return False
            self._appended = max(rows, default=self._appended)
            return True

    def put_away(self, opened: OpenFolder) -> None:
        """At the end: append what waits, and keep no second copy of what is in the file."""
        self.flush(opened)
        with opened.database.writing() as session:
            session.execute(delete(AuditRow).where(AuditRow.number <= self._appended))

    def take_up(self, opened: OpenFolder) -> None:
        """Go on with the file of an earlier run; one that has more lines than this database knows is continued."""
        with opened.database.writing() as session:
            head = _read_head(session)
            with translated():
                last = _last_line(opened.path / AUDIT_NAME)
            if last is not None and head.number < _number(last):
                session.execute(delete(AuditRow))
                _write_head(session, _Head(_number(last), str(last["hash"])))
                self.note(session, "database_replaced", facts={"lines_known": head.number})
        self.flush(opened)


def profile_of(owner: str) -> str:
    """Return what stands for an owner in the file: it can be compared and not turned back."""
    return hashlib.sha256(b"audit " + owner.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def verify(opened: OpenFolder) -> AuditReport:
    """Read the audit file through and tell whether a line was changed, removed, added or cut off. Raises HistoryError."""
    with opened.database.reading() as session:
        head = _read_head(session)
    expected = _Head()
    with translated():
        for number, line in enumerate(_lines(opened.path / AUDIT_NAME), 1):
            entry = _parsed(line)
            if (
                entry is None
                or line.decode("ascii", "replace") != _line_of(entry)
                or entry.get("hash") != _hash_of({key: entry[key] for key in entry if key != "hash"})
            ):
                return AuditReport(number - 1, Reason("history.audit_changed", line=number))
            if entry.get("n") != expected.number + 1 or entry.get("prev") != expected.hash:
                return AuditReport(number - 1, Reason("history.audit_gap", line=number))
            expected = _Head(_number(entry), str(entry["hash"]))
    if expected.number < head.number:
        return AuditReport(expected.number, Reason("history.audit_cut", count=head.number - expected.number))
    if expected != head:
        return AuditReport(expected.number, Reason("history.audit_changed", line=expected.number))
    return AuditReport(expected.number)


def _line_of(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":"))


def _hash_of(entry: dict[str, Any]) -> str:
    written = json.dumps(entry, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode("ascii")).hexdigest()


def _read_head(session: Session) -> _Head:
    fact = session.get(FactRow, _HEAD_FACT)
    if fact is None:
        return _Head()
    number, _, digest = fact.value.partition(" ")
    return _Head(int(number), digest)


def _write_head(session: Session, head: _Head) -> None:
    fact = session.get(FactRow, _HEAD_FACT)
    if fact is None:
        session.add(FactRow(name=_HEAD_FACT, value=f"{head.number} {head.hash}"))
    else:
        fact.value = f"{head.number} {head.hash}"
    session.flush()


def _last_number_of(file: Path, rows: dict[int, str]) -> int:
    """Return the number of the file's last line, where it is one of these; 0 where none of them is in the file."""
    last = _last_line(file)
    if last is None or rows.get(_number(last), "") != _line_of(last):
        return 0
    return _number(last)


def _append(file: Path, lines: list[str]) -> None:
    if not lines:
        return
    begin_file(file)
    with file.open("ab") as stream:
        stream.truncate(_whole_lines_bytes(file))
        stream.write("".join(f"{line}\n" for line in lines).encode("ascii"))
        stream.flush()
        os.fsync(stream.fileno())


def _whole_lines_bytes(file: Path) -> int:
    """Return where the last whole line ends: what a crash left of another comes again."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        tail = min(size, _LONGEST_LINE_BYTES)
        stream.seek(size - tail)
        return size - tail + stream.read(tail).rfind(b"\n") + 1


def _last_line(file: Path) -> dict[str, Any] | None:
    """Return the last whole line of the file, or None where there is none."""
    if not file.exists():
        return None
    with file.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(-min(stream.tell(), _LONGEST_LINE_BYTES), os.SEEK_CUR)
        for line in reversed(stream.read().split(b"\n")):
            entry = _parsed(line)
            if entry is not None and isinstance(entry.get("n"), int) and isinstance(entry.get("hash"), str):
                return entry
    return None


def _lines(file: Path) -> Iterator[bytes]:
    if file.exists():
        with file.open("rb") as stream:
            for line in stream:
                yield line.rstrip(b"\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _number(entry: dict[str, Any]) -> int:
    number = entry.get("n")
    return number if isinstance(number, int) else 0
