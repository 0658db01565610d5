"""Forgetting: a turn, a conversation, a period or everything goes from rows, index, files and the write-ahead log.

Each erasure leaves a receipt of numbers. What somebody else holds open goes later, and the receipt is complete only
then; a process killed in between goes on at its next start. Knows what of a turn lies where in the data folder; does
not know what a model or a page still has in memory: the hub lets go of that.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from sqlalchemy import Integer, Select, column, delete, exists, func, select, table, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from qwen_vl_app.chat import ErasedBeside, ErasureReceipt
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.audit import AuditLog, Number
from qwen_vl_app.history.conversations import newest_leaf, own_conversation, own_turn
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder, OpenFolder, give_up_reserve, refill_reserve
from qwen_vl_app.history.opening import COPIES_NAME, RESTORING_NAME
from qwen_vl_app.history.search_index import first_turn, index_turns, purge
from qwen_vl_app.history.tables import (
    CachedAnswerRow,
    ConversationRow,
    PictureRow,
    ReceiptRow,
    RenditionRow,
    TurnRow,
)

log = logging.getLogger(__name__)

Scope = Literal["turn", "conversation", "period", "everything", "expired"]
_SCOPES: tuple[Scope, ...] = ("turn", "conversation", "period", "everything", "expired")
TITLE_LENGTH = 60
_SITE = ""
"""Stands in receipts where an owner stands, for what the site itself erased."""
SET_ASIDE = ("damaged-", "replaced-")
_DOOMED = select(column("id", Integer)).select_from(table("doomed"))


class OtherRecords(Protocol):
    """Something else that is kept in the data folder. Any thread; neither call raises."""

    def erase(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedBeside:
        """Remove what an owner has, everybody for None, of a period; one without ends is all time.

        With an end alone, what is altogether older than that: it has been kept for long enough.
        """
        ...

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        ...


_Choice: TypeAlias = Callable[[Session], list[int]]


@dataclass(frozen=True, slots=True)
class _Removed:
    receipt_id: int
    files: tuple[str, ...]


class Eraser:
    """Erases from a folder that is open. One at a time; any thread."""

    def __init__(self, folder: DataFolder, audit: AuditLog) -> None:
        self._folder = folder
        self._audit = audit
        self._stubborn: set[str] = set()
        self._is_aside_doomed = False
        self.beside: dict[str, OtherRecords] = {}
        """What else is to be erased, by its name."""
        folder.settle = self._settle

    def erase_turn(self, owner: str, turn_id: int) -> ErasureReceipt:
        """Erase one turn; turns that continue it then continue the turn before it. Raises HistoryError."""

        def choose(session: Session) -> list[int]:
            return [own_turn(session, owner, turn_id).id]

        return self._erase(owner, "turn", choose)

    def erase_conversation(self, owner: str, conversation_id: int) -> ErasureReceipt:
        """Erase a conversation with all its branches. Raises HistoryError."""

        def choose(session: Session) -> list[int]:
            conversation = own_conversation(session, owner, conversation_id)
            return list(session.scalars(select(TurnRow.id).where(TurnRow.conversation_id == conversation.id)))

        return self._erase(owner, "conversation", choose, conversation_id=conversation_id)

    def erase_period(self, owner: str, *, since: datetime, until: datetime) -> ErasureReceipt:
        """Erase an owner's turns asked from `since` on and before `until`: a day, say. Raises HistoryError."""

        def choose(session: Session) -> list[int]:
            return list(session.scalars(_turns_of(owner).where(TurnRow.asked_at >= since, TurnRow.asked_at < until)))

        return self._erase(owner, "period", choose, beside=self._erase_beside(owner, since=since, until=until))

    def erase_everything(self, owner: str) -> ErasureReceipt:
        """Erase all that an owner has here; receipts stay. Raises HistoryError."""
        beside = self._erase_beside(owner, since=None, until=None)
        return self._erase(owner, "everything", lambda session: list(session.scalars(_turns_of(owner))), beside=beside)

    def erase_site(self) -> ErasureReceipt:
        """Erase what anybody has here, and the folders that were set aside, which nobody can read by owners."""
        self._is_aside_doomed = True
        beside = self._erase_beside(None, since=None, until=None)
        return self._erase(
            _SITE, "everything", lambda session: list(session.scalars(select(TurnRow.id))), beside=beside
        )

    def erase_older(self, *, than: datetime) -> ErasureReceipt | None:
        """Erase everybody's turns asked before a moment, for a site that keeps days; None where there are none."""

        def choose(session: Session) -> list[int]:
            return list(session.scalars(select(TurnRow.id).where(TurnRow.asked_at < than)))

        beside = self._erase_beside(None, since=None, until=than)
        with self._folder.ready().database.reading() as session:
            is_due = session.scalar(select(func.count()).select_from(TurnRow).where(TurnRow.asked_at < than))
        return self._erase(_SITE, "expired", choose, beside=beside) if is_due or beside.files else None

    def receipts(self, owner: str, *, limit: int = 50) -> tuple[ErasureReceipt, ...]:
        """Return an owner's receipts, the newest first. Raises HistoryError."""
        opened = self._folder.ready()
        with opened.database.reading() as session:
            rows = session.scalars(
                select(ReceiptRow).where(ReceiptRow.owner == owner).order_by(ReceiptRow.id.desc()).limit(limit)
            )
            return tuple(_to_receipt(row, opened.path) for row in rows)

    def settle(self) -> bool:
        """Try to finish what is pending, and return whether nothing is. Raises HistoryError."""
        with self._folder.writing():
            pass
        return self._folder.is_settled

    def finish_at_start(self, opened: OpenFolder) -> None:
        """Go on with erasures that the last run left unfinished."""
        with opened.database.reading() as session:
            pending = session.scalars(select(ReceiptRow).where(ReceiptRow.completed_at.is_(None))).all()
        self._is_aside_doomed = any((row.owner, row.scope) == (_SITE, "everything") for row in pending)
        # What lies beside is moved away before the receipt is written, so they may be left over without one.
        is_clean = self._settle_beside() and not pending
        self._folder.is_settled = is_clean or self._settle(opened)

    def _erase_beside(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedBeside:
        # Before the history is held: what is at work there is stopped first, and may have something to write.
        erased = [each.erase(owner, since=since, until=until) for each in tuple(self.beside.values())]
        return sum(erased, ErasedBeside())

    def _settle_beside(self) -> bool:
        are_settled = [each.settle() for each in tuple(self.beside.values())]  # each is tried
        return all(are_settled)

    def _erase(
        self,
        owner: str,
        scope: Scope,
        choose: _Choice,
        *,
        conversation_id: int | None = None,
        beside: ErasedBeside | None = None,
    ) -> ErasureReceipt:
        beside = beside or ErasedBeside()
        with self._folder.writing() as opened:
            self._folder.erasures += 1
            try:
                removed = self._remove_rows(
                    opened, owner, scope, choose, conversation_id=conversation_id, beside=beside
                )
            except HistoryError as error:
                if error.code != "history.disk_full" or not self._folder.is_on_disk:
                    raise
                # Even deleting needs room in the log; the reserve is kept for this.
                give_up_reserve(opened.path)
                removed = self._remove_rows(
                    opened, owner, scope, choose, conversation_id=conversation_id, beside=beside
                )
            self._stubborn |= set(removed.files)
            self._folder.is_settled = self._settle(opened, patiently=True)
            if self._folder.is_on_disk:
                refill_reserve(opened.path)
            with opened.database.reading() as session:
                return _to_receipt(session.get_one(ReceiptRow, removed.receipt_id), opened.path)

    def _remove_rows(
        self,
        opened: OpenFolder,
        owner: str,
        scope: Scope,
        choose: _Choice,
        *,
        conversation_id: int | None,
        beside: ErasedBeside,
    ) -> _Removed:
        with opened.database.writing() as session:
            turns = _doom(session, choose(session))
            conversations = set(
                session.scalars(select(TurnRow.conversation_id).where(TurnRow.id.in_(_DOOMED)).distinct())
            )
            if conversation_id is not None:
                conversations.add(conversation_id)
            firsts = {conversation: first_turn(session, conversation) for conversation in conversations}
            counts = {
                "pictures": _count(session, PictureRow.turn_id),
                "cached_answers": _count(session, CachedAnswerRow.turn_id),
            }
            files = session.scalars(_files_of_only_these()).all()
            nearest = _bridge(session)
            session.execute(delete(TurnRow).where(TurnRow.id.in_(_DOOMED)))
            session.expire_all()
            session.execute(text("DELETE FROM turn_search WHERE rowid IN (SELECT id FROM doomed)"))
            emptied = _mend(session, firsts, nearest)
            purge(session)
            receipt = ReceiptRow(
                owner=owner,
                scope=scope,
                asked_at=datetime.now(UTC),
                completed_at=None,
                conversations=emptied,
                turns=turns,
                files=len(files) + beside.files,
                file_bytes=opened.files.size_of(files) + beside.file_bytes,
                runs=beside.runs,
                forms=beside.forms,
                **counts,
            )
            session.add(receipt)
            session.flush()
            facts: dict[str, Number] = {"receipt": receipt.id, "scope": scope, "turns": turns, "files": len(files)}
            facts |= {"runs": beside.runs} if beside.runs else {}
            facts |= {"forms": beside.forms} if beside.forms else {}
            self._audit.note(session, "erased", owner=owner, facts=facts)
            return _Removed(receipt.id, tuple(files))

    def _settle(self, opened: OpenFolder, *, patiently: bool = False) -> bool:
        """Remove files, copies and the log's old pages; complete the receipts where nothing is left."""
        doomed = [opened.path / COPIES_NAME, opened.path / RESTORING_NAME]
        if self._is_aside_doomed:
            doomed += _set_aside_folders(opened.path)
        for folder in doomed:
            # Files that another program holds open stay for now: Windows lets nobody delete them.
            shutil.rmtree(folder, ignore_errors=True)
        if opened.files.remove(self._stubborn):
            self._stubborn.clear()
        with translated():
            is_empty = opened.database.checkpoint() if patiently else opened.database.checkpoint(patience_s=0)
        if not self._settle_beside() or not is_empty or self._stubborn or any(folder.exists() for folder in doomed):
            return False
        self._is_aside_doomed = False
        with opened.database.writing() as session:
            session.execute(
                update(ReceiptRow).where(ReceiptRow.completed_at.is_(None)).values(completed_at=datetime.now(UTC))
            )
        return True


def short_title(question: str) -> str:
    """Return a title made of a question's first words."""
    line = " ".join(question.split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def _turns_of(owner: str) -> Select[int]:
    return (
        select(TurnRow.id)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
        .where(ConversationRow.owner == owner)
    )


def _doom(session: Session, turns: Collection[int]) -> int:
    """Write down which turns go, in a table of this connection alone: there may be too many for one statement."""
    session.execute(text("CREATE TEMP TABLE IF NOT EXISTS doomed (id INTEGER PRIMARY KEY)"))
    session.execute(text("DELETE FROM doomed"))
    if turns:
        session.execute(text("INSERT INTO doomed (id) VALUES (:id)"), [{"id": turn} for turn in turns])
    return len(turns)


def _count(session: Session, column: InstrumentedAttribute[int]) -> int:
    return session.scalar(select(func.count()).where(column.in_(_DOOMED))) or 0


def _files_of_only_these() -> Select[str]:
    """The files that pictures of the doomed turns have, and no picture of any other turn."""
    picture, rendition = aliased(PictureRow), aliased(RenditionRow)
    is_shared = (
        exists()
        .where(rendition.file == RenditionRow.file)
        .where(picture.id == rendition.turn_picture_id)
        .where(picture.turn_id.not_in(_DOOMED))
    )
    return (
        select(RenditionRow.file)
        .join(PictureRow, PictureRow.id == RenditionRow.turn_picture_id)
        .where(PictureRow.turn_id.in_(_DOOMED), ~is_shared)
        .distinct()
    )


def _bridge(session: Session) -> dict[int, int | None]:
    """Let turns that continue a doomed one continue the nearest turn before it that stays.

    Return that turn for each conversation whose shown branch ends with a doomed one.
    """
    chosen = session.execute(select(TurnRow.id, TurnRow.parent_id).where(TurnRow.id.in_(_DOOMED)))
    parents = {turn: parent for turn, parent in chosen}  # noqa: C416 - rows are no pairs to the type checker
    theirs = select(TurnRow.conversation_id).where(TurnRow.id.in_(_DOOMED)).distinct()
    children = session.execute(
        select(TurnRow.id, TurnRow.parent_id).where(
            TurnRow.conversation_id.in_(theirs), TurnRow.parent_id.in_(_DOOMED), TurnRow.id.not_in(_DOOMED)
        )
    )

    def staying(turn: int | None) -> int | None:
        while turn in parents:
            turn = parents[turn]
        return turn

    for child, doomed in children.all():
        session.execute(update(TurnRow).where(TurnRow.id == child).values(parent_id=staying(doomed)))
    ends = session.execute(
        select(ConversationRow.id, ConversationRow.active_turn_id).where(ConversationRow.active_turn_id.in_(_DOOMED))
    )
    return {conversation: staying(end) for conversation, end in ends.all()}


def _mend(session: Session, firsts: Mapping[int, int | None], nearest: Mapping[int, int | None]) -> int:
    """Delete conversations that have no turns any more, mend titles and places of the others; return how many went.

    `firsts` tells for each conversation which turn was its first, `nearest` where its shown branch now ends.
    """
    emptied = 0
    for conversation_id, former_first in firsts.items():
        row = session.get_one(ConversationRow, conversation_id)
        first = first_turn(session, conversation_id)
        last = session.scalar(select(func.max(TurnRow.id)).where(TurnRow.conversation_id == conversation_id))
        if first is None or last is None:
            session.delete(row)
            emptied += 1
            continue
        row.last_turn_id = last
        if row.active_turn_id is None or session.get(TurnRow, row.active_turn_id) is None:
            # What one was reading stays; from there on, whatever was asked in the place of what went.
            end = session.get(TurnRow, nearest.get(conversation_id) or last) or session.get_one(TurnRow, last)
            row.active_turn_id = newest_leaf(session, end)
        if first != former_first:
            if not row.is_renamed:
                # The title is words of the first question, which went.
                row.title = short_title(session.get_one(TurnRow, first).question)
            index_turns(session, [first])
    session.flush()
    return emptied


def _to_receipt(row: ReceiptRow, folder: Path) -> ErasureReceipt:
    return ErasureReceipt(
        id=row.id,
        scope=next(scope for scope in _SCOPES if scope == row.scope),
        asked_at=row.asked_at,
        completed_at=row.completed_at,
        conversations=row.conversations,
        turns=row.turns,
        pictures=row.pictures,
        files=row.files,
        file_bytes=row.file_bytes,
        cached_answers=row.cached_answers,
        runs=row.runs,
        forms=row.forms,
        caveats=_caveats(folder),
    )


def _caveats(folder: Path) -> tuple[Reason, ...]:
    if not folder.is_dir():
        return ()
    caveats = [Reason("history.cannot_promise")]
    if aside := _set_aside_folders(folder):
        caveats.append(Reason("history.set_aside_stays", count=len(aside)))
    return tuple(caveats)


def _set_aside_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.name.startswith(SET_ASIDE) and entry.is_dir()]
