"""Reading what is kept: conversations, turns, branches, pictures, and finding them again.

Every call names an owner and finds nothing of anybody else's. Knows rows and files. Changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

from sqlalchemy import Select, bindparam, select

from qwen_vl_app.chat import (
    Conversation,
    Correction,
    Rendition,
    SearchPage,
    Turn,
)
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.conversations import (
    conversations_by_id,
    list_conversations,
    list_turns,
    load_turns,
    own_branch,
    own_turn,
)
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder
from qwen_vl_app.history.picture_files import PictureBytes
from qwen_vl_app.history.search import Wanted, search
from qwen_vl_app.history.tables import ConversationRow, CorrectionRow, PictureRow, RenditionRow, TurnRow


class Reading:
    """The part of a history that is read with. Any thread; between `open` and `close`."""

    _folder: DataFolder

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
            own_branch(session, owner, conversation_id)
            return conversations_by_id(session, [conversation_id])[conversation_id]

    def turns(
        self, owner: str, conversation_id: int, *, limit: int | None = None, before: int | None = None
    ) -> tuple[Turn, ...]:
        """Return turns of the shown branch, oldest first: all, or the `limit` last ones.

        With `before`, those that turn `before` continues, whether its branch is the shown one or not.
        """
        with self._folder.ready().database.reading() as session:
            return list_turns(session, owner, conversation_id, limit=limit, before=before)

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

    def corrections(self, owner: str, turn_id: int) -> tuple[Correction, ...]:
        """Return what was added to a turn, oldest first."""
        with self._folder.ready().database.reading() as session:
            own_turn(session, owner, turn_id)
            rows = session.scalars(
                select(CorrectionRow).where(CorrectionRow.turn_id == turn_id).order_by(CorrectionRow.id)
            )
            return tuple(Correction(row.text, row.added_at) for row in rows)

    def corrected_turns(self, owner: str, conversation_id: int) -> frozenset[int]:
        """Return the turns of a conversation to which something was added: mostly none, told in one look."""
        with self._folder.ready().database.reading() as session:
            own_branch(session, owner, conversation_id)
            return frozenset(session.scalars(_corrected(), {"conversation": conversation_id}))


@cache
def _corrected() -> Select[int]:
    return (
        select(CorrectionRow.turn_id)
        .join(TurnRow, TurnRow.id == CorrectionRow.turn_id)
        .where(TurnRow.conversation_id == bindparam("conversation"))
    )
