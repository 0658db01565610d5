"""The history of one data folder: every question asked, what became of it, and the pictures that it was about.

A call opens and closes its own session, so any thread may make it. Every reading call names an owner and finds nothing
of anybody else's. Does not know models, pages or who an owner is.

The one front of its room: reading, keeping turns, changing, erasing and archives stand in the files beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import select, update

from qwen_vl_app.chat import (
    ErasureReceipt,
    TurnState,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import search_index
from qwen_vl_app.history.answer_cache import CACHE_BYTES, AnswerCache
from qwen_vl_app.history.archive import Check, believe, export_archive, import_archive
from qwen_vl_app.history.audit import AUDIT_NAME, AuditLog, AuditReport, verify
from qwen_vl_app.history.backup import back_up, back_up_in_use, restore
from qwen_vl_app.history.beside import FolderBeside
from qwen_vl_app.history.changing import Changing
from qwen_vl_app.history.erase import SET_ASIDE, Eraser, OtherRecords
from qwen_vl_app.history.folder import RESERVE_NAME, DataFolder, OpenFolder
from qwen_vl_app.history.integrity import check_storage
from qwen_vl_app.history.keeping import Keeping, KeepingMode, may_expire
from qwen_vl_app.history.lock import LOCK_NAME
from qwen_vl_app.history.memory import FIRST_ID, MemoryFolder
from qwen_vl_app.history.opening import COPIES_NAME, DATABASE_NAME, PICTURES_NAME, RESTORING_NAME
from qwen_vl_app.history.proof import find_traces
from qwen_vl_app.history.reading import Reading
from qwen_vl_app.history.tables import RenditionRow, TurnRow
from qwen_vl_app.history.turn_keeping import OPEN_STATES, TurnKeeping
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

LARGEST_UPLOAD_BYTES = 2**31
"""The most that any site may allow."""

_NAMES = frozenset({AUDIT_NAME, COPIES_NAME, LOCK_NAME, PICTURES_NAME, RESERVE_NAME, RESTORING_NAME})
_BEGINNINGS = (DATABASE_NAME, *SET_ASIDE)


class HistoryStore(Reading, TurnKeeping, Changing):
    """A data folder's history. Made without touching the disk; used between `open` and `close`.

    Every call raises HistoryError where the disk or the database fails, and `history.closed` outside of that life.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        cache_bytes: int = CACHE_BYTES,
        keeping: Keeping | None = None,
        first_id: int = FIRST_ID,
        is_beside: bool = False,
        largest_upload_bytes: int = LARGEST_UPLOAD_BYTES,
        neighbours: Collection[str] = (),
    ) -> None:
        """Prepare. `is_beside` is for reading only, while another process uses the folder: a copy of that moment.
        `neighbours` are the names of what else the app keeps in the folder.

        `largest_upload_bytes` is the most that a file may have which an archive brings in.

        Without a folder, and where a site keeps nothing, it lives in memory: nothing of it is ever on a disk, and
        nothing is left after `close`. Its ids then begin after `first_id`.
        """
        self._keeping = keeping or Keeping()
        is_kept = folder is not None and self._keeping.mode is not KeepingMode.NOTHING
        kind = FolderBeside if is_beside else DataFolder
        self._folder = kind(folder) if folder is not None and is_kept else MemoryFolder(first_id=first_id)
        self._largest_upload_bytes = largest_upload_bytes
        self._notices: tuple[Reason, ...] = ()
        self._audit = AuditLog()
        self._folder.is_ours = lambda name: name in neighbours or is_the_historys(name)
        if self._folder.is_on_disk:
            self._folder.after_write = self._audit.flush
            self._folder.before_close = self._audit.put_away
        self._eraser = Eraser(self._folder, self._audit)
        self.answer_cache = AnswerCache(self._folder, room_bytes=cache_bytes)

    # 1. Its life

    @property
    def notices(self) -> tuple[Reason, ...]:
        """What the last `open` had to do that a user should know: something set aside, lost or upgraded."""
        return self._notices

    @property
    def keeping(self) -> Keeping:
        """How long the site keeps what was asked."""
        return self._keeping

    def open(self, *, port: int = 0) -> None:
        """Take the folder, bring its database up to date, and mark turns that the last run left open as interrupted.

        `port` is told to a second instance that finds the folder taken. A damaged database is moved aside, never
        deleted, and `notices` says so. Raises HistoryError; the folder is then free again.
        """
        self._notices = self._folder.open(port=port, first=self._take_up)
        if isinstance(self._folder, FolderBeside):
            return
        try:
            self.expire()
        except HistoryError as error:
            # What is due goes another time; the history is open and works.
            log.warning("nothing was erased by age: %s", error.code)

    def close(self) -> None:
        """Wait for a write that is under way, and give the folder back. Does nothing where it is not open."""
        self._folder.close()

    def _take_up(self, opened: OpenFolder) -> tuple[Reason, ...]:
        notices: list[Reason] = []
        with opened.database.writing() as session:
            cut = session.scalars(
                update(TurnRow)
                .where(TurnRow.state.in_(OPEN_STATES))
                .values(state=TurnState.INTERRUPTED.value)
                .returning(TurnRow.id)
            ).all()
            if search_index.is_current(session):
                search_index.index_turns(session, cut)
            else:
                search_index.rebuild(session)
        if not opened.is_trusted:
            with opened.database.reading() as session:
                referenced = set(session.scalars(select(RenditionRow.file).distinct()))
            if lost := opened.files.sweep(referenced):
                notices.append(Reason("history.pictures_missing", count=lost))
        if self._folder.is_on_disk:
            self._audit.take_up(opened)
        self._eraser.finish_at_start(opened)
        return tuple(notices)

    # 2. Erasing

    def erase_also(self, name: str, records: OtherRecords) -> None:
        """Let every erasure reach something else that is kept, too: of the same owner, in the same period.

        Another of that name takes its place.
        """
        self._eraser.beside[name] = records

    def delete_conversation(self, owner: str, conversation_id: int) -> None:
        """Erase a conversation. Raises HistoryError `history.erase_pending` where traces of it stay for now."""
        if not self.erase_conversation(owner, conversation_id).is_complete:
            raise HistoryError("history.erase_pending")

    def erase_turn(self, owner: str, turn_id: int) -> ErasureReceipt:
        """Erase one turn; turns that continue it then continue the turn before it.

        As with everything that erases: no byte of it stays in the folder, in copies made before an upgrade neither,
        once the receipt is complete. It is pending while another program holds traces open; they go with a later
        write, with `settle`, or at the next start.
        """
        self._refuse_if_kept()
        return self._eraser.erase_turn(owner, turn_id)

    def erase_conversation(self, owner: str, conversation_id: int) -> ErasureReceipt:
        """Erase a conversation with all its branches."""
        self._refuse_if_kept()
        return self._eraser.erase_conversation(owner, conversation_id)

    def erase_period(self, owner: str, *, since: datetime, until: datetime) -> ErasureReceipt:
        """Erase an owner's turns asked from `since` on and before `until`: a day, say."""
        self._refuse_if_kept()
        return self._eraser.erase_period(owner, since=since, until=until)

    def erase_everything(self, owner: str) -> ErasureReceipt:
        """Erase every conversation of an owner; the receipts stay."""
        self._refuse_if_kept()
        return self._eraser.erase_everything(owner)

    def erase_site(self) -> ErasureReceipt:
        """Erase what everybody has here, and the folders that were set aside; for who runs the site.

        Its receipts are those of the owner "".
        """
        self._refuse_if_kept()
        return self._eraser.erase_site()

    def expire(self) -> ErasureReceipt | None:
        """Erase what a site that keeps days does not keep any longer; None where nothing is due.

        Called at the start, and now and then by an app that runs for weeks. After the clock jumped nothing is due until
        it has gone on for a day: a wrong date must not erase what is young.
        """
        if self._keeping.mode is not KeepingMode.DAYS:
            return None
        now = datetime.now(UTC)
        with self._folder.writing() as opened, opened.database.writing() as session:
            if not may_expire(session, now):
                return None
        return self._eraser.erase_older(than=now - timedelta(days=self._keeping.days))

    def receipts(self, owner: str, *, limit: int = 50) -> tuple[ErasureReceipt, ...]:
        """Return an owner's receipts of erasures, the newest first."""
        return self._eraser.receipts(owner, limit=limit)

    def settle(self) -> bool:
        """Try to finish pending erasures, and return whether none are left."""
        return self._eraser.settle()

    # 3. Taking away

    def export(
        self,
        target: IO[bytes],
        *,
        owner: str,
        conversation_ids: Sequence[int] | None = None,
        language: Language = Language.ENGLISH,
        clean: Callable[[str], str] = str,
    ) -> int:
        """Write a ZIP of an owner's conversations, all where none are named, and return how many it holds.

        Each is Markdown of the shown branch with its pictures, and JSON of everything. `clean` makes Markdown from a
        model harmless to whatever shows it. Raises what the target raises as well.
        """
        count = export_archive(
            self._folder, target, owner=owner, conversation_ids=conversation_ids, language=language, clean=clean
        )
        self._note("exported", owner=owner, conversations=count)
        return count

    def import_archive(self, source: IO[bytes], *, owner: str, check: Check = believe) -> tuple[int, ...]:
        """Keep an exported ZIP's conversations as this owner's, and return their ids; nothing there is replaced.

        `check` looks at every rendition of a picture and raises PictureError where it is none of this app's.
        Raises HistoryError `history.not_an_archive`, `history.archive_newer`, `history.archive_too_large` or
        `history.archive_no_room`.
        """
        ids = import_archive(
            self._folder, source, owner=owner, largest_upload_bytes=self._largest_upload_bytes, check=check
        )
        self._note("imported", owner=owner, conversations=len(ids))
        return ids

    def backup(self, target: Path) -> int:
        """Write everybody's history into one file while the app goes on, and return its size in bytes."""
        if not self._folder.is_on_disk:
            raise HistoryError("history.nothing_kept")
        size_bytes = back_up(self._folder, target)
        self._note("backed_up", size_bytes=size_bytes)
        return size_bytes

    @staticmethod
    def backup_in_use(folder: Path, target: Path) -> int:
        """Write the history of a folder that another process is using into one file; return its size in bytes."""
        return back_up_in_use(folder, target)

    @staticmethod
    def restore(folder: Path, source: Path) -> Reason | None:
        """Put a backup in the place of a data folder's history, which no app may be using at the time.

        What was there is set aside, and the reason says where; None where nothing was. Raises HistoryError.
        """
        return restore(folder, source)

    @staticmethod
    def find_traces(
        folder: Path, marker: str | bytes, *, on_unread: Callable[[Path], None] | None = None
    ) -> tuple[str, ...]:
        """Return the files of any folder that hold the marker in their bytes or names: none, after it was erased."""
        return find_traces(folder, marker, on_unread=on_unread)

    def verify_audit(self) -> AuditReport:
        """Read the audit file through, and tell whether a line was changed, added, taken out or cut off."""
        if not self._folder.is_on_disk:
            raise HistoryError("history.nothing_kept")
        with self._folder.writing() as opened:
            if not self._audit.flush(opened):
                raise HistoryError("history.storage_failed")
            return verify(opened)

    def verify_storage(self) -> tuple[Reason, ...]:
        """Read the database and every picture file through, and return what is wrong with them."""
        return check_storage(self._folder.ready())

    def _refuse_if_kept(self) -> None:
        if self._keeping.mode is KeepingMode.RECORDS:
            raise HistoryError("history.records_are_kept")

    def _note(self, kind: str, *, owner: str = "", **facts: int) -> None:
        if isinstance(self._folder, FolderBeside):
            self._folder.note(kind, owner=owner, **facts)
            return
        with self._folder.writing() as opened, opened.database.writing() as session:
            self._audit.note(session, kind, owner=owner, facts=dict(facts))


def is_the_historys(name: str) -> bool:
    """Tell what a history keeps in its folder by its name."""
    return name in _NAMES or name.startswith(_BEGINNINGS)
