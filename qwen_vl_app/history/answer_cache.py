"""Answers that are given again to the very same question: same pixels, same words, same weights, same way of choosing.

An entry has no words of its own, it points at the turn that was answered; so what is erased is never said again. An
owner's entries are found by that owner alone. Knows keys, age and room; does not know when asking again is wanted.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, selectinload

from qwen_vl_app.chat import CacheFigures, FinishReason, Message, SamplingParams, StoredAnswer, TurnState
from qwen_vl_app.history.conversations import own_turn
from qwen_vl_app.history.folder import DataFolder
from qwen_vl_app.history.rows_to_words import to_turn
from qwen_vl_app.history.tables import CachedAnswerRow, ConversationRow, TurnRow

CACHE_BYTES = 64 * 2**20
_KEY_VERSION = 1


def answer_key(
    owner: str, messages: Sequence[Message], *, sampling: SamplingParams, fingerprint: str, schema: str | None = None
) -> str | None:
    """Return the hash of everything that decides an answer, or None where the answer is left to chance.

    `messages` is the whole prompt; a picture stands in it by its `picture_id`, which is the hash of the pixels that the
    model sees and of their size. `fingerprint` names weights and precision, `schema` is what the answer was held to.
    """
    if sampling.temperature > 0 or not fingerprint:
        return None
    chosen = asdict(sampling) | {"seed": None, "top_p": None, "top_k": None}
    del chosen["top_logprobs"]  # it tells more of an answer, and changes none
    document = {
        "version": _KEY_VERSION,
        "owner": owner,
        "fingerprint": fingerprint,
        "sampling": chosen,
        **({} if schema is None else {"schema": schema}),
        "messages": [
            [message.role, message.text, [image.picture_id for image in message.images]] for message in messages
        ],
    }
    written = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode("ascii")).hexdigest()


class AnswerCache:
    """The store of repeated answers, within a folder that is open. Any thread."""

    def __init__(self, folder: DataFolder, *, room_bytes: int = CACHE_BYTES) -> None:
        self._folder = folder
        self._room_bytes = room_bytes
        self._counting = threading.Lock()
        self._hits = self._misses = 0
        self._saved_s = 0.0
        # Uses are written down with the next entry: a hit must not wait for the disk.
        self._used: dict[str, None] = {}

    def find(self, owner: str, key: str | None, *, max_age: timedelta | None = None) -> StoredAnswer | None:
        """Return the answer that was given to this question, unless it is older than `max_age`. Raises HistoryError.

        An entry from the future, made before the clock was set back, has no age and is not found.
        """
        found = None if key is None else self._look(owner, key, max_age)
        with self._counting:
            if found is None:
                self._misses += key is not None
            else:
                self._hits += 1
                self._saved_s += found.answer.timing.total_s
                if key is not None:
                    self._used.pop(key, None)
                    self._used[key] = None
        return found

    def keep(self, owner: str, key: str | None, turn_id: int) -> bool:
        """Let a turn's answer be given again, where it is finished; what was used longest ago makes room for it.

        Returns whether it was kept. Raises HistoryError, `history.not_found` where it is not this owner's turn.
        """
        with self._folder.writing() as opened, opened.database.writing() as session:
            row = own_turn(session, owner, turn_id)
            if key is None or row.state != TurnState.DONE or row.answer is None or not row.answer_text:
                return False
            row_with_pictures = session.scalars(
                select(TurnRow).where(TurnRow.id == turn_id).options(selectinload(TurnRow.pictures))
            ).one()
            answer = to_turn(row_with_pictures, branch_ids=()).answer
            answer_bytes = len(row.answer_text.encode("utf-8")) + len(row.answer.encode("utf-8"))
            if answer is None or answer.finish_reason is not FinishReason.STOP or answer_bytes > self._room_bytes:
                return False
            number = self._write_uses(session)
            session.merge(
                CachedAnswerRow(
                    key=key, turn_id=turn_id, kept_at=datetime.now(UTC), answer_bytes=answer_bytes, used_no=number
                )
            )
            session.flush()
            self._make_room(session)
            return True

    def forget(self, owner: str) -> int:
        """Give none of an owner's answers again, and return how many that were. The turns stay. Raises HistoryError."""
        with self._folder.writing() as opened, opened.database.writing() as session:
            theirs = (
                select(TurnRow.id)
                .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
                .where(ConversationRow.owner == owner)
            )
            gone = session.scalars(
                delete(CachedAnswerRow).where(CachedAnswerRow.turn_id.in_(theirs)).returning(CachedAnswerRow.key)
            ).all()
            return len(gone)

    def figures(self) -> CacheFigures:
        """Return how much there is, and how often it helped since the app started. Raises HistoryError."""
        with self._folder.ready().database.reading() as session:
            entries, answer_bytes = session.execute(
                select(func.count(), func.coalesce(func.sum(CachedAnswerRow.answer_bytes), 0)).select_from(
                    CachedAnswerRow
                )
            ).one()
        with self._counting:
            return CacheFigures(entries, answer_bytes, self._hits, self._misses, self._saved_s)

    def _look(self, owner: str, key: str, max_age: timedelta | None) -> StoredAnswer | None:
        with self._folder.ready().database.reading() as session:
            # The key holds the owner already; the join makes sure that a mistake there could not tell somebody else.
            found = session.execute(
                select(CachedAnswerRow.kept_at, TurnRow)
                .join(TurnRow, TurnRow.id == CachedAnswerRow.turn_id)
                .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
                .where(CachedAnswerRow.key == key, ConversationRow.owner == owner)
                .options(selectinload(TurnRow.pictures))
            ).first()
            if found is None:
                return None
            kept_at, row = found
            age = datetime.now(UTC) - kept_at
            if age < timedelta(0) or (max_age is not None and age > max_age):
                return None
            answer = to_turn(row, branch_ids=()).answer
            return None if answer is None else StoredAnswer(answer, row.id, kept_at)

    def _write_uses(self, session: Session) -> int:
        """Write down what was used since the last time, in its order, and return the next number of use."""
        number = session.scalar(select(func.coalesce(func.max(CachedAnswerRow.used_no), 0))) or 0
        with self._counting:
            used, self._used = list(self._used), {}
        for key in used:
            row = session.get(CachedAnswerRow, key)
            if row is not None:
                number += 1
                row.used_no = number
        return number + 1

    def _make_room(self, session: Session) -> None:
        held = session.scalar(select(func.coalesce(func.sum(CachedAnswerRow.answer_bytes), 0))) or 0
        if held <= self._room_bytes:
            return
        for row in session.scalars(select(CachedAnswerRow).order_by(CachedAnswerRow.used_no)):
            if held <= self._room_bytes:
                return
            held -= row.answer_bytes
            session.delete(row)
