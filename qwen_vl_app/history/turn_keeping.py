"""Keeping a turn, from its question to its answer: what each call has returned of, no power cut takes away.

Knows rows, picture files and their order. Does not know how a folder is opened, or how anything is erased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session, selectinload

from qwen_vl_app.chat import (
    Answer,
    Question,
    Rendition,
    StagedPicture,
    Turn,
    TurnState,
)
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import search_index
from qwen_vl_app.history.answer_json import dump_answer, dump_sampling
from qwen_vl_app.history.audit import AuditLog, Number
from qwen_vl_app.history.conversations import (
    any_turn,
    load_turns,
    own_conversation,
    own_turn,
    owner_of,
)
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder, OpenFolder
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.rows_to_words import renditions_of, see_anew, to_picture_row
from qwen_vl_app.history.tables import ConversationRow, PictureRow, RenditionRow, TurnRow

OPEN_STATES = (TurnState.QUEUED, TurnState.RUNNING)


class TurnKeeping:
    """The part of a history that questions and answers are written with. Any thread; between `open` and `close`."""

    _folder: DataFolder
    _audit: AuditLog

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
