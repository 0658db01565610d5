"""What is kept, as the doors see it: finding, branches, taking away and bringing in, erasing with receipts, checking.

Knows whose records are whose, and that what is erased must first stop being made and then be let go of by the model.
Does not know rows, pages, or how an answer is made: whoever runs questions says how they are stopped.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import IO, TypeAlias

from qwen_vl_app.answers import without_remote_links
from qwen_vl_app.chat import (
    CacheFigures,
    Conversation,
    Correction,
    ErasureReceipt,
    Question,
    Rendition,
    SearchPage,
    StagedPicture,
    Turn,
    TurnPicture,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import AuditReport, HistoryStore, Keeping, KeepingMode, OtherRecords, PictureBytes
from qwen_vl_app.imaging import check_own_form
from qwen_vl_app.private import PrivateConversations, is_private
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

EXPIRE_EVERY_S = 3600.0
"""How often a site that keeps days looks at the clock; often, because the time between two looks tells of a jump."""
_PAGE = 200
_IN_PARTS = ("tiles.asked", "tiles.several")
"""One of these notes stands with an answer that was asked for in parts."""

Halt: TypeAlias = Callable[[str, Collection[int] | None], None]
"""Stops an owner's questions in these conversations, all of them for None, and waits for their end."""
LetGo: TypeAlias = Callable[[str], tuple[Reason, ...]]
"""Lets the model drop what it holds of pictures and conversations; returns what could not be promised."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the records found: the audit file, and what is wrong with the database or the picture files."""

    audit: AuditReport
    storage: tuple[Reason, ...] = ()

    @property
    def is_sound(self) -> bool:
        """True where nothing is wrong."""
        return self.audit.is_sound and not self.storage


@dataclass(frozen=True, slots=True)
class Traces:
    """Where a marker was found; `unread` counts the files and folders that this account may not read."""

    files: tuple[Path, ...] = ()
    unread: int = 0


class Records:
    """The kept records of every owner. Each call names one and touches nothing of anybody else's; any thread.

    Every call raises HistoryError where the disk or the database fails, and `history.not_found` for what is not the
    owner's. Within an assistant its life is the assistant's; alone, as a context manager, it opens the history itself.
    """

    def __init__(
        self,
        history: HistoryStore,
        *,
        halt: Halt = lambda _owner, _conversations: None,
        let_go: LetGo = lambda _owner: (),
        drop_waiting: Callable[[str], None] = lambda _owner: None,
        drop_waiting_of: Callable[[str, datetime, datetime], None] = lambda _owner, _since, _until: None,
        private: PrivateConversations | None = None,
    ) -> None:
        """Prepare. `drop_waiting` drops an owner's pictures that wait for their question, `drop_waiting_of` a period's."""
        self._history = history
        self._private = private
        self._halt = halt
        self._let_go = let_go
        self._drop_waiting, self._drop_waiting_of = drop_waiting, drop_waiting_of
        self._ended = threading.Event()
        self._expiring: threading.Thread | None = None

    # 1. Its life

    def __enter__(self) -> Records:
        self._history.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._history.close()

    @property
    def notices(self) -> tuple[Reason, ...]:
        """What opening had to do that a person should know."""
        return self._history.notices

    @property
    def keeping(self) -> Keeping:
        """What the site keeps."""
        return self._history.keeping

    @property
    def can_erase(self) -> bool:
        """False where the site keeps everything as records: then corrections are added instead."""
        return self.keeping.mode is not KeepingMode.RECORDS

    def start_expiring(self) -> None:
        """Look now and then, on a thread of its own, whether something has been kept for long enough."""
        if self.keeping.mode is KeepingMode.DAYS and self._expiring is None:
            self._expiring = threading.Thread(target=self._expire_now_and_then, name="expiry", daemon=True)
            self._expiring.start()

    def stop_expiring(self) -> None:
        """End that thread, after what it is doing."""
        self._ended.set()
        if self._expiring is not None:
            self._expiring.join(10.0)

    def _expire_now_and_then(self) -> None:
        while not self._ended.wait(EXPIRE_EVERY_S):
            try:
                self.expire()
            except HistoryError as error:  # the next look may find the disk well again
                log.warning("nothing could expire: %s", error.code)

    def expire(self) -> ErasureReceipt | None:
        """Erase what the site does not keep any longer; None where nothing is due or the clock cannot be believed."""
        receipt = self._history.expire()
        return None if receipt is None else self._with_promises("", receipt)

    # 2. Reading and finding

    def owners(self) -> tuple[str, ...]:
        """Return everybody who has something here. For the person who runs the site; a page never asks."""
        return self._history.owners()

    def is_only_owner(self, owner: str) -> bool:
        """True where nobody else has anything here: then a copy of everything is theirs to take."""
        return set(self._history.owners()) <= {owner}

    def conversations(self, owner: str, *, limit: int = 50, before: int | None = None) -> tuple[Conversation, ...]:
        """Return an owner's conversations, pinned ones first, then the latest."""
        return self._history.conversations(owner, limit=limit, before_id=before)

    def conversation(self, owner: str, conversation_id: int) -> Conversation:
        """Return the head of one conversation."""
        return self._of(conversation_id).conversation(owner, conversation_id)

    def turns(self, owner: str, conversation_id: int) -> tuple[Turn, ...]:
        """Return the turns of the shown branch, oldest first."""
        return self._of(conversation_id).turns(owner, conversation_id)

    def turn(self, owner: str, turn_id: int) -> Turn:
        """Return one turn."""
        return self._of(turn_id).turn(owner, turn_id)

    def picture(self, owner: str, turn_picture_id: int, rendition: Rendition) -> PictureBytes:
        """Return a kept picture's bytes and media type."""
        return self._of(turn_picture_id).picture_bytes(owner, turn_picture_id, rendition)

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
        """Return an owner's turns that have all the words, best first; without words all that fit, newest first."""
        return self._history.search(
            owner, words, since=since, until=until, has_pictures=has_pictures, limit=limit, offset=offset
        )

    def pin(self, owner: str, conversation_id: int, *, is_pinned: bool = True) -> None:
        """Keep a conversation at the top of the list, or let it go from there."""
        self._of(conversation_id).pin(owner, conversation_id, is_pinned=is_pinned)

    # 3. Asking again

    def branches(self, owner: str, turn_id: int) -> tuple[Turn, ...]:
        """Return the turns that stand in one place of a conversation, oldest first, that one among them."""
        return self._of(turn_id).branches(owner, turn_id)

    def switch(self, owner: str, turn_id: int) -> None:
        """Show the branch of a turn from now on; the next question continues it."""
        self._of(turn_id).switch_branch(owner, turn_id)

    def question_of(self, owner: str, turn_id: int, *, text: str | None = None) -> Question:
        """Return a kept turn's question to be asked again, with exactly the pictures that the model saw then.

        `text` takes the place of its words. Ask it with `beside=turn_id`, so that it stands in the turn's place.
        """
        turn = self._of(turn_id).turn(owner, turn_id)
        return Question(
            turn.question if text is None else text,
            pictures=tuple(self._staged(owner, picture) for picture in turn.pictures),
            conversation_id=turn.conversation_id,
            sampling=turn.sampling,
            schema=turn.schema,
            is_schema_exact=turn.is_schema_exact,
            in_parts=turn.answer is not None and any(note.code in _IN_PARTS for note in turn.answer.notes),
        )

    def _staged(self, owner: str, picture: TurnPicture) -> StagedPicture:
        forms = {form: self._of(picture.id).picture_bytes(owner, picture.id, form).data for form in Rendition}
        return StagedPicture(
            staged_id=uuid.uuid4().hex,
            picture_id=picture.picture_id,
            name=picture.name,
            format=picture.format,
            size=picture.size,
            seen=picture.seen,
            upload=forms[Rendition.UPLOAD],
            view=forms[Rendition.VIEW],
            view_mime=picture.view_mime,
            thumbnail=forms[Rendition.THUMBNAIL],
            seen_png=forms[Rendition.SEEN],
            page=picture.page,
            page_count=picture.page_count,
            notes=picture.notes,
            clip=picture.clip,
        )

    # 4. Taking away and bringing in

    def export(
        self,
        target: IO[bytes],
        *,
        owner: str,
        conversation_id: int | None = None,
        language: Language = Language.ENGLISH,
    ) -> int:
        """Write a ZIP of one conversation, or of everything an owner has; return how many conversations it holds.

        Links to other machines that a model wrote are shown as text and lead nowhere. Raises what `target` raises too.
        """
        ids = None if conversation_id is None else (conversation_id,)
        return self._of(conversation_id).export(
            target, owner=owner, conversation_ids=ids, language=language, clean=without_remote_links
        )

    def import_archive(self, source: IO[bytes], *, owner: str) -> tuple[int, ...]:
        """Keep an exported ZIP's conversations as this owner's, beside those there are; return their ids.

        Pictures of a form that this app does not make are refused: theirs are decoded in this process.
        """
        return self._history.import_archive(source, owner=owner, check=check_own_form)

    def backup(self, target: Path) -> int:
        """Write everybody's history into one file while the app goes on; return its size in bytes."""
        return self._history.backup(target)

    # 5. Forgetting

    def erase_also(self, name: str, records: OtherRecords) -> None:
        """Let every erasure reach something else that is kept, too: of the same owner, in the same period.

        Another of that name takes its place.
        """
        self._history.erase_also(name, records)

    def erase_turn(self, owner: str, turn_id: int) -> ErasureReceipt:
        """Erase one turn; turns that continue it then continue the one before it.

        As with everything that erases: what still runs in the conversation is stopped first, and at last the model lets
        go of the pictures and words that it holds. Raises HistoryError `history.records_are_kept`.
        """
        conversation_id = self._of(turn_id).turn(owner, turn_id).conversation_id
        return self._erase(owner, {conversation_id}, lambda: self._of(turn_id).erase_turn(owner, turn_id))

    def erase_conversation(self, owner: str, conversation_id: int) -> ErasureReceipt:
        """Erase a conversation with all its branches."""
        if self._private is not None and is_private(conversation_id):
            return self._private.end(owner, conversation_id)
        self._history.conversation(owner, conversation_id)
        return self._erase(owner, {conversation_id}, lambda: self._history.erase_conversation(owner, conversation_id))

    def erase_day(self, owner: str, day: date, *, zone: tzinfo | None = None) -> ErasureReceipt:
        """Erase everything an owner asked on one day, from midnight to midnight in `zone`, by default this machine's."""
        since, until = day_of(day, zone=zone)
        return self.erase_period(owner, since=since, until=until)

    def erase_period(self, owner: str, *, since: datetime, until: datetime) -> ErasureReceipt:
        """Erase everything an owner asked from `since` on and before `until`; the receipt counts what was kept."""
        if self._private is not None:
            self._private.erase_period(owner, since=since, until=until)
        touched = self._conversations_of(owner, since, until)
        receipt = self._erase(owner, touched, lambda: self._history.erase_period(owner, since=since, until=until))
        # Other days take nothing from the question that is being written now, and neither does one conversation's end.
        self._drop_waiting_of(owner, since, until)
        return receipt

    def erase_everything(self, owner: str) -> ErasureReceipt:
        """Erase all that an owner has, private conversations too; the receipt counts what was kept, and stays."""
        if self._private is not None:
            self._private.end_all(owner)
        receipt = self._erase(owner, None, lambda: self._history.erase_everything(owner))
        self._drop_waiting(owner)
        return receipt

    def erase_site(self) -> ErasureReceipt:
        """Erase what everybody has here, and the folders that were set aside. For the person who runs the site."""
        if not self.can_erase:
            raise HistoryError("history.records_are_kept")
        for owner in self._history.owners():
            self._halt(owner, None)
        return self._with_promises("", self._history.erase_site())

    def receipts(self, owner: str, *, limit: int = 50) -> tuple[ErasureReceipt, ...]:
        """Return an owner's receipts of erasures, the newest first."""
        return self._history.receipts(owner, limit=limit)

    def settle(self) -> bool:
        """Try to finish pending erasures; return whether none are left."""
        return self._history.settle()

    def _of(self, number: int | None) -> HistoryStore:
        """Return where a conversation, a turn or a picture of that id is."""
        return self._private.history if self._private is not None and is_private(number) else self._history

    def _conversations_of(self, owner: str, since: datetime, until: datetime) -> frozenset[int]:
        found: set[int] = set()
        offset = 0
        while True:
            page = self._history.search(owner, since=since, until=until, limit=_PAGE, offset=offset)
            found |= {hit.conversation.id for hit in page.hits}
            if not page.has_more or not page.hits:
                return frozenset(found)
            offset += len(page.hits)

    def _erase(
        self, owner: str, conversations: Collection[int] | None, erase: Callable[[], ErasureReceipt]
    ) -> ErasureReceipt:
        if not self.can_erase:
            raise HistoryError("history.records_are_kept")
        self._halt(owner, conversations)
        receipt = erase()
        self._halt(owner, conversations)  # what was asked in between holds the erased words in its prompt
        return self._with_promises(owner, receipt)

    def _with_promises(self, owner: str, receipt: ErasureReceipt) -> ErasureReceipt:
        return replace(receipt, caveats=(*receipt.caveats, *self._let_go(owner)))

    # 6. Records that stay, and checks

    def correct(self, owner: str, turn_id: int, text: str) -> None:
        """Add a correction to a turn that stays as it is; a blank one is refused."""
        self._of(turn_id).correct(owner, turn_id, text)

    def corrections(self, owner: str, turn_id: int) -> tuple[Correction, ...]:
        """Return what was added to a turn, oldest first."""
        return self._of(turn_id).corrections(owner, turn_id)

    def corrected_turns(self, owner: str, conversation_id: int) -> frozenset[int]:
        """Return the turns of a conversation to which something was added."""
        return self._of(conversation_id).corrected_turns(owner, conversation_id)

    def verify(self) -> Verification:
        """Read the audit file, the database and the picture files through. Takes seconds where there is much."""
        return Verification(self._history.verify_audit(), self._history.verify_storage())

    def cache_figures(self) -> CacheFigures:
        """Return what the store of repeated answers holds and has saved since the app started."""
        return self._history.answer_cache.figures()

    def forget_answers(self, owner: str) -> int:
        """Give none of an owner's answers again from storage; the turns stay. Returns how many that were."""
        return self._history.answer_cache.forget(owner)


def restore_backup(data_dir: Path, source: Path) -> Reason | None:
    """Put a backup in the place of a data folder's history, which no app may be using at the time.

    What was there is set aside, and the reason says where; None where nothing was. Raises HistoryError.
    """
    return HistoryStore.restore(data_dir, source)


def backup_in_use(data_dir: Path, target: Path) -> int:
    """Write everybody's history into one file beside an app that is using the data folder; return its size in bytes.

    Raises HistoryError.
    """
    return HistoryStore.backup_in_use(data_dir, target)


def find_traces(folders: Iterable[Path], marker: str | bytes) -> Traces:
    """Look for a text or for bytes in every file below these folders, also while an app runs.

    Raises HistoryError `history.marker_too_short`.
    """
    found: dict[Path, None] = {}
    unread: set[Path] = set()
    for folder in folders:
        if folder.is_dir():
            inside = HistoryStore.find_traces(folder, marker, on_unread=unread.add)
            found.update(dict.fromkeys(folder / name for name in inside))
    return Traces(tuple(found), len(unread))


def day_of(day: date, *, zone: tzinfo | None = None) -> tuple[datetime, datetime]:
    """Return the two ends of a day in UTC; a day has 23 or 25 hours where clocks are changed."""
    ends = (datetime.combine(each, time.min, tzinfo=zone) for each in (day, day + timedelta(days=1)))
    # Without a zone the time is this machine's own.
    since, until = (end.astimezone(UTC) for end in ends)
    return since, until
