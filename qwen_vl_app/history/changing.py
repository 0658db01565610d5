"""Changing a conversation without losing anything of it: its title, its place, its shown branch, corrections.

Knows rows. Does not know how anything is erased.
"""

from __future__ import annotations

from datetime import UTC, datetime

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import search_index
from qwen_vl_app.history.audit import AuditLog
from qwen_vl_app.history.conversations import (
    newest_leaf,
    own_conversation,
    own_turn,
)
from qwen_vl_app.history.folder import DataFolder
from qwen_vl_app.history.tables import CorrectionRow


class Changing:
    """The part of a history that conversations are arranged with. Any thread; between `open` and `close`."""

    _folder: DataFolder
    _audit: AuditLog

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

    def correct(self, owner: str, turn_id: int, text: str) -> None:
        """Add a correction to a turn; what was said before it stays. A blank one is refused."""
        if not text.strip():
            raise HistoryError("history.empty_correction")
        with self._folder.writing() as opened, opened.database.writing() as session:
            own_turn(session, owner, turn_id)
            session.add(CorrectionRow(turn_id=turn_id, added_at=datetime.now(UTC), text=text.strip()))
            search_index.index_turns(session, [turn_id])
            self._audit.note(
                session, "corrected", owner=owner, facts={"turn": turn_id, "characters": len(text.strip())}
            )
