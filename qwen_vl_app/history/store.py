"""The history of one data folder: every question asked, what became of it, and the pictures that it was about.

A call opens and closes its own session, so any thread may make it. Every reading call names an owner and finds nothing
of anybody else's. Does not know models, pages or who an owner is.

The file is long because it is the one front: what it does itself is keeping turns, the rest stands in the rooms beside it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import select, update
from sqlalchemy.orm import Session, selectinload

from qwen_vl_app.chat import (
    Answer,
    Conversation,
    Correction,
    ErasureReceipt,
    Question,
    Rendition,
    SearchPage,
    StagedPicture,
    Turn,
    TurnState,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import search_index
from qwen_vl_app.history.answer_cache import CACHE_BYTES, AnswerCache
from qwen_vl_app.history.answer_json import dump_answer, dump_sampling
from qwen_vl_app.history.archive import export_archive, import_archive
from qwen_vl_app.history.audit import AuditLog, AuditReport, Number, verify
from qwen_vl_app.history.backup import back_up, restore
from qwen_vl_app.history.conversations import (
    any_turn,
    conversations_by_id,
    list_conversations,
    list_turns,
    load_turns,
    newest_leaf,
    own_conversation,
    own_turn,
    owner_of,
)
from qwen_vl_app.history.erase import Eraser
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder, OpenFolder
from qwen_vl_app.history.integrity import check_storage
from qwen_vl_app.history.keeping import Keeping, KeepingMode, may_expire
from qwen_vl_app.history.memory import MemoryFolder
from qwen_vl_app.history.picture_files import PictureBytes, PictureFiles
from qwen_vl_app.history.proof import find_traces
from qwen_vl_app.history.rows_to_words import renditions_of, see_anew, to_picture_row
from qwen_vl_app.history.search import Wanted, search
from qwen_vl_app.history.tables import ConversationRow, CorrectionRow, PictureRow, RenditionRow, TurnRow
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

OPEN_STATES = (TurnState.QUEUED, TurnState.RUNNING)


class HistoryStore:
    """A data folder's history. Made without touching the disk; used between `open` and `close`.

    Every call raises HistoryError where the disk or the database fails, and `history.closed` outside of that life.
    """

    def __init__(self, folder: Path | None, *, cache_bytes: int = CACHE_BYTES, keeping: Keeping | None = None) -> None:
        """Prepare.

        Without a folder, and where a site keeps nothing, it lives in memory: nothing of it is ever on a disk, and
        nothing is left after `close`.
        """
        self._keeping = keeping or Keeping()
        is_kept = folder is not None and self._keeping.mode is not KeepingMode.NOTHING
        self._folder = DataFolder(folder) if folder is not None and is_kept else MemoryFolder()
        self._notices: tuple[Reason, ...] = ()
        self._audit = AuditLog()
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

    # 2. A turn, from its question to its answer

    def begin_turn(self, owner: str, question: Question, *, title: str, beside: int | None = None) -> Turn:
        """Keep a question and its pictures as queued, in a new conversation of that title or in the one it continues.

        It continues the last turn of the shown branch. With `beside` it stands beside that turn instead, as the same
        question asked again or another one in its place, and begins a branch that is shown from now on. When this
        returns, a power cut loses nothing of it.
        """
        renditions = [renditions_of(picture) for picture in question.pictures]
        keys = [{name: PictureFiles.key_for(owner, data) for name, data in forms.items()} for forms in renditions]
        contents = {key[name]: forms[name] for key, forms in zip(keys, renditions, strict=True) for name in forms}
        now = datetime.now(UTC)
        with self._folder.writing() as opened, ExitStack() as undo:
            with translated():
                fresh = opened.files.keep(contents)
            undo.callback(opened.files.remove, fresh)
            with opened.database.writing() as session:
                head, parent_id = _place(session, owner, question.conversation_id, beside=beside)
                if head is None:
                    head = ConversationRow(owner=owner, title=title, created_at=now, updated_at=now, last_turn_id=0)
                    session.add(head)
                    session.flush()
                row = TurnRow(
                    conversation_id=head.id,
                    parent_id=parent_id,
                    state=TurnState.QUEUED.value,
                    asked_at=now,
                    question=question.text,
                    sampling=dump_sampling(
                        question.sampling, schema=question.schema, is_schema_exact=question.is_schema_exact
                    ),
                    pictures=[
                        to_picture_row(picture, position, keys=keys[position])
                        for position, picture in enumerate(question.pictures)
                    ],
                )
                session.add(row)
                session.flush()
                head.last_turn_id = head.active_turn_id = row.id
                head.updated_at = now
                search_index.index_turns(session, [row.id])
                self._audit.note(session, "asked", owner=owner, facts=_about_question(row.id, question))
            undo.pop_all()
            return self._load(opened, row.id)

    def mark_running(self, turn_id: int) -> None:
        """Say that the model has begun to work on a queued turn; no more than that where it is already finished."""
        with self._folder.writing() as opened, opened.database.writing() as session:
            row = any_turn(session, turn_id)
            if row.state == TurnState.QUEUED:
                row.state = TurnState.RUNNING.value

    def keep_partial(self, turn_id: int, text: str) -> None:
        """Keep the whole text said so far. A late call, after the turn was finished, changes nothing."""
        with self._folder.writing() as opened, opened.database.writing() as session:
            row = any_turn(session, turn_id)
            if row.state in OPEN_STATES:
                row.answer_text = text

    def replace_seen(self, turn_id: int, pictures: Sequence[StagedPicture]) -> None:
        """Give the pictures of an open turn, in their order, the seen sizes and seen pixels of other stagings of them.

        For a model that had no memory for them as they were. Their ids and other renditions stay. Raises HistoryError
        `history.turn_finished`, and ValueError where there are more or fewer pictures than the turn has.
        """
        with self._folder.writing() as opened, ExitStack() as undo:
            with opened.database.reading() as session:
                owner = owner_of(session, turn_id)
            keys = [PictureFiles.key_for(owner, picture.seen_png) for picture in pictures]
            with translated():
                fresh = opened.files.keep(dict(zip(keys, (picture.seen_png for picture in pictures), strict=True)))
            undo.callback(opened.files.remove, fresh)
            with opened.database.writing() as session:
                row = any_turn(session, turn_id)
                if row.state not in OPEN_STATES:
                    raise HistoryError("history.turn_finished")
                rows = session.scalars(
                    select(PictureRow)
                    .where(PictureRow.turn_id == turn_id)
                    .order_by(PictureRow.position)
                    .options(selectinload(PictureRow.renditions))
                ).all()
                before = _seen_files(rows)
                for picture_row, picture, key in zip(rows, pictures, keys, strict=True):
                    see_anew(picture_row, picture, key=key)
                session.flush()
                unneeded = before - set(session.scalars(select(RenditionRow.file).where(RenditionRow.file.in_(before))))
            undo.pop_all()
            opened.files.remove(unneeded)

    def finish_turn(
        self, turn_id: int, answer: Answer, *, state: TurnState, fingerprint: str = "", precision: str = ""
    ) -> Turn:
        """Keep the answer of an open turn, whole or cut short, and return the turn as kept.

        `fingerprint` and `precision` say which weights answered, so that the turn can be played again.
        Raises HistoryError `history.turn_finished` where it was finished before, and ValueError for an open `state`.
        """
        if state in OPEN_STATES:
            raise ValueError(f"a turn does not finish as {state}")
        now = datetime.now(UTC)
        document = dump_answer(answer)
        with self._folder.writing() as opened:
            with opened.database.writing() as session:
                row = any_turn(session, turn_id)
                if row.state not in OPEN_STATES:
                    raise HistoryError("history.turn_finished")
                row.state, row.finished_at = state.value, now
                row.answer_text, row.answer = answer.text, document
                row.fingerprint, row.precision = fingerprint, precision
                session.execute(
                    update(ConversationRow).where(ConversationRow.id == row.conversation_id).values(updated_at=now)
                )
                search_index.index_turns(session, [turn_id])
                owner = owner_of(session, turn_id)
                self._audit.note(session, "answered", owner=owner, facts=_about_answer(turn_id, answer, fingerprint))
            return self._load(opened, turn_id)

    # 3. Reading

    def owners(self) -> tuple[str, ...]:
        """Return everybody who has a conversation here: for the person who runs the site alone."""
        with self._folder.ready().database.reading() as session:
            return tuple(session.scalars(select(ConversationRow.owner).distinct().order_by(ConversationRow.owner)))

    def conversations(self, owner: str, *, limit: int = 50, before_id: int | None = None) -> tuple[Conversation, ...]:
        """Return an owner's conversations: pinned ones first, then the one with the newest turn.

        `before_id` is the id of the last conversation of the page before.
        """
        with self._folder.ready().database.reading() as session:
            return list_conversations(session, owner, limit=limit, before_id=before_id)

    def conversation(self, owner: str, conversation_id: int) -> Conversation:
        """Return the head of one conversation. Raises HistoryError `history.not_found`."""
        with self._folder.ready().database.reading() as session:
            own_conversation(session, owner, conversation_id)
            return conversations_by_id(session, [conversation_id])[conversation_id]

    def turns(
        self, owner: str, conversation_id: int, *, limit: int | None = None, before: int | None = None
    ) -> tuple[Turn, ...]:
        """Return turns of the shown branch, oldest first: all, or the `limit` last ones.

        With `before`, those that turn `before` continues, whether its branch is the shown one or not.
        """
        with self._folder.ready().database.reading() as session:
            conversation = own_conversation(session, owner, conversation_id)
            return list_turns(session, conversation, limit=limit, before=before)

    def turn(self, owner: str, turn_id: int) -> Turn:
        """Return one turn. Raises HistoryError `history.not_found`."""
        with self._folder.ready().database.reading() as session:
            return load_turns(session, [own_turn(session, owner, turn_id).id])[0]

    def branches(self, owner: str, turn_id: int) -> tuple[Turn, ...]:
        """Return the turns that stand in one place of a conversation, that turn among them, oldest first."""
        with self._folder.ready().database.reading() as session:
            (turn,) = load_turns(session, [own_turn(session, owner, turn_id).id])
            return load_turns(session, turn.branch_ids)

    def search(
        self,
        owner: str,
        words: str = "",
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        has_pictures: bool | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> SearchPage:
        """Return an owner's turns that have all the words in title, question, answer, read-out text or file names.

        Best first, with the places marked; words between quotation marks are found as they stand. `since` and `until`
        are a day's two ends, say. Without words, every turn that fits, the newest first.
        """
        wanted = Wanted(words, since=since, until=until, has_pictures=has_pictures)
        with self._folder.ready().database.reading() as session:
            return search(session, owner, wanted, limit=limit, offset=offset)

    def picture_bytes(self, owner: str, turn_picture_id: int, rendition: Rendition) -> PictureBytes:
        """Return one rendition of a kept picture, checked against its hash.

        Raises HistoryError `history.not_found`, `history.picture_missing` or `history.picture_damaged`.
        """
        opened = self._folder.ready()
        with opened.database.reading() as session:
            row = session.scalar(
                select(RenditionRow)
                .join(PictureRow, PictureRow.id == RenditionRow.turn_picture_id)
                .join(TurnRow, TurnRow.id == PictureRow.turn_id)
                .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
                .where(
                    RenditionRow.turn_picture_id == turn_picture_id,
                    RenditionRow.rendition == rendition.value,
                    ConversationRow.owner == owner,
                )
            )
            if row is None:
                raise HistoryError("history.not_found")
        with translated():
            return PictureBytes(opened.files.read(row.file, owner=owner), row.mime)

    # 4. Changing and erasing

    def rename(self, owner: str, conversation_id: int, title: str) -> None:
        """Give a conversation another title; it keeps its place in the list. A blank one is refused."""
        if not title.strip():
            raise HistoryError("history.empty_title")
        with self._folder.writing() as opened, opened.database.writing() as session:
            row = own_conversation(session, owner, conversation_id)
            row.title, row.is_renamed = title.strip(), True
            if (first := search_index.first_turn(session, conversation_id)) is not None:
                search_index.index_turns(session, [first])
            self._audit.note(session, "renamed", owner=owner, facts={"conversation": conversation_id})

    def pin(self, owner: str, conversation_id: int, *, is_pinned: bool = True) -> None:
        """Keep a conversation at the top of the list, or let it go from there."""
        with self._folder.writing() as opened, opened.database.writing() as session:
            own_conversation(session, owner, conversation_id).is_pinned = is_pinned

    def switch_branch(self, owner: str, turn_id: int) -> None:
        """Show the branch of a turn from now on, down to its newest turn; the next question continues it."""
        with self._folder.writing() as opened, opened.database.writing() as session:
            turn = own_turn(session, owner, turn_id)
            own_conversation(session, owner, turn.conversation_id).active_turn_id = newest_leaf(session, turn)

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

    def correct(self, owner: str, turn_id: int, text: str) -> None:
        """Add a correction to a turn; what was said before it stays. A blank one is refused."""
        if not text.strip():
            raise HistoryError("history.empty_correction")
        with self._folder.writing() as opened, opened.database.writing() as session:
            own_turn(session, owner, turn_id)
            session.add(CorrectionRow(turn_id=turn_id, added_at=datetime.now(UTC), text=text.strip()))
            self._audit.note(
                session, "corrected", owner=owner, facts={"turn": turn_id, "characters": len(text.strip())}
            )

    def corrections(self, owner: str, turn_id: int) -> tuple[Correction, ...]:
        """Return what was added to a turn, oldest first."""
        with self._folder.ready().database.reading() as session:
            own_turn(session, owner, turn_id)
            rows = session.scalars(
                select(CorrectionRow).where(CorrectionRow.turn_id == turn_id).order_by(CorrectionRow.id)
            )
            return tuple(Correction(row.text, row.added_at) for row in rows)

    def receipts(self, owner: str, *, limit: int = 50) -> tuple[ErasureReceipt, ...]:
        """Return an owner's receipts of erasures, the newest first."""
        return self._eraser.receipts(owner, limit=limit)

    def settle(self) -> bool:
        """Try to finish pending erasures, and return whether none are left."""
        return self._eraser.settle()

    # 5. Taking away

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

    def import_archive(self, source: IO[bytes], *, owner: str) -> tuple[int, ...]:
        """Keep an exported ZIP's conversations as this owner's, and return their ids; nothing there is replaced.

        Raises HistoryError `history.not_an_archive` or `history.archive_newer`.
        """
        ids = import_archive(self._folder, source, owner=owner)
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
        with self._folder.writing() as opened, opened.database.writing() as session:
            self._audit.note(session, kind, owner=owner, facts=dict(facts))

    @staticmethod
    def _load(opened: OpenFolder, turn_id: int) -> Turn:
        with opened.database.reading() as session:
            return load_turns(session, [turn_id])[0]


def _place(
    session: Session, owner: str, conversation_id: int | None, *, beside: int | None
) -> tuple[ConversationRow | None, int | None]:
    """Return the conversation that a new turn belongs to, if there is one, and the turn that it continues."""
    if beside is not None:
        turn = own_turn(session, owner, beside)
        if conversation_id not in (None, turn.conversation_id):
            raise HistoryError("history.not_found")
        return own_conversation(session, owner, turn.conversation_id), turn.parent_id
    if conversation_id is None:
        return None, None
    head = own_conversation(session, owner, conversation_id)
    return head, head.active_turn_id


def _seen_files(rows: Sequence[PictureRow]) -> set[str]:
    return {form.file for row in rows for form in row.renditions if form.rendition == Rendition.SEEN}


def _about_question(turn_id: int, question: Question) -> dict[str, Number]:
    """What the audit file says of a question: numbers, and which bytes were given."""
    facts: dict[str, Number] = {"turn": turn_id, "characters": len(question.text), "pictures": len(question.pictures)}
    for number, picture in enumerate(question.pictures, 1):
        facts[f"bytes_{number}"] = len(picture.upload)
        facts[f"sha256_{number}"] = hashlib.sha256(picture.upload).hexdigest()
    return facts


def _about_answer(turn_id: int, answer: Answer, fingerprint: str) -> dict[str, Number]:
    return {
        "turn": turn_id,
        "ended": answer.finish_reason.value,
        "characters": len(answer.text),
        "tokens": answer.usage.completion_tokens,
        "seconds": round(answer.timing.total_s, 3),
        "fingerprint": fingerprint,
    }
