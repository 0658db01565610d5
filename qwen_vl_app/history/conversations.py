"""Reading conversations and their turns: lists, pages, and the one branch of turns that is shown.

Turns form a tree, since a question may be asked again or differently: each continues an earlier one, and a conversation
remembers the last turn of the branch that is shown. Knows rows and queries; does not write, and does not know files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Boolean, ScalarSelect, Select, and_, bindparam, func, inspect, or_, select
from sqlalchemy.orm import Session, aliased

from qwen_vl_app.chat import Conversation, Turn
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.rows_to_words import to_conversation, to_turn
from qwen_vl_app.history.tables import ConversationRow, PictureRow, TurnRow

_RowT = TypeVar("_RowT", TurnRow, PictureRow)


def own_conversation(session: Session, owner: str, conversation_id: int) -> ConversationRow:
    """Return the row of an owner's conversation. Raises HistoryError `history.not_found`."""
    row = session.get(ConversationRow, conversation_id)
    if row is None or row.owner != owner:
        raise HistoryError("history.not_found")
    return row


def own_branch(session: Session, owner: str, conversation_id: int) -> int | None:
    """Return the last turn of the shown branch of an owner's conversation. Raises HistoryError `history.not_found`."""
    found = session.execute(_own(), {"conversation": conversation_id, "owner": owner}).first()
    if found is None:
        raise HistoryError("history.not_found")
    last: int | None = found.active_turn_id
    return last


def own_turn(session: Session, owner: str, turn_id: int) -> TurnRow:
    """Return the row of an owner's turn, without its pictures. Raises HistoryError `history.not_found`."""
    row = session.scalar(
        select(TurnRow)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
        .where(TurnRow.id == turn_id, ConversationRow.owner == owner)
    )
    if row is None:
        raise HistoryError("history.not_found")
    return row


def any_turn(session: Session, turn_id: int) -> TurnRow:
    """Return the row of anybody's turn: for the hub, which made it. Raises HistoryError `history.not_found`."""
    row = session.get(TurnRow, turn_id)
    if row is None:
        raise HistoryError("history.not_found")
    return row


def owner_of(session: Session, turn_id: int) -> str:
    """Return whose a turn is. Raises HistoryError `history.not_found`."""
    owner = session.scalar(
        select(ConversationRow.owner)
        .join(TurnRow, TurnRow.conversation_id == ConversationRow.id)
        .where(TurnRow.id == turn_id)
    )
    if owner is None:
        raise HistoryError("history.not_found")
    return owner


def list_conversations(
    session: Session, owner: str, *, limit: int, before_id: int | None = None
) -> tuple[Conversation, ...]:
    """Return a page of an owner's conversations: pinned ones first, then the one with the newest turn."""
    query = (
        _heads()
        .where(ConversationRow.owner == owner)
        .order_by(ConversationRow.is_pinned.desc(), ConversationRow.last_turn_id.desc())
        .limit(limit)
    )
    if before_id is not None:
        last = own_conversation(session, owner, before_id)
        is_later = ConversationRow.last_turn_id < last.last_turn_id
        if last.is_pinned:
            query = query.where(or_(ConversationRow.is_pinned.is_(False), is_later))
        else:
            query = query.where(ConversationRow.is_pinned.is_(False), is_later)
    return _to_conversations(session, query)


def conversations_by_id(session: Session, ids: Collection[int]) -> dict[int, Conversation]:
    """Return the heads of conversations, whoever's they are."""
    return {head.id: head for head in _to_conversations(session, _these_heads(), {"ids": list(ids)})}


def list_turns(
    session: Session, owner: str, conversation_id: int, *, limit: int | None = None, before: int | None = None
) -> tuple[Turn, ...]:
    """Return turns of the shown branch, oldest first: all, or the `limit` last ones.

    With `before` the branch of that turn is meant, up to the turn that it continues. Raises HistoryError `history.not_found`.
    """
    last = own_branch(session, owner, conversation_id)
    if before is not None:
        row = session.get(TurnRow, before)
        if row is None or row.conversation_id != conversation_id:
            return ()
        last = row.parent_id
    return load_turns(session, path_to(session, conversation_id, last, limit=limit))


def path_to(session: Session, conversation_id: int, turn_id: int | None, *, limit: int | None = None) -> list[int]:
    """Return the ids of a turn and of the turns before it in its branch, oldest first; at most the `limit` last ones."""
    asked = {"conversation": conversation_id, "turn": turn_id, "most": -1 if limit is None else limit}
    return sorted(session.scalars(_path(), asked))


def load_turns(session: Session, ids: Sequence[int]) -> tuple[Turn, ...]:
    """Return the turns with these ids, oldest first, each knowing its branches."""
    rows, pictures = _rows(session, _turns(), TurnRow, ids), defaultdict[int, list[PictureRow]](list)
    for picture in _rows(session, _pictures(), PictureRow, ids):
        pictures[picture.turn_id].append(picture)
    branches = _branches(session, rows)
    return tuple(
        to_turn(row, pictures=pictures[row.id], branch_ids=branches[row.conversation_id, row.parent_id]) for row in rows
    )


def _rows(session: Session, query: Select[*tuple[Any, ...]], kind: type[_RowT], ids: Sequence[int]) -> Sequence[_RowT]:
    """Return bare rows: they have the columns of their `kind`, and none of the bookkeeping that makes reading it thrice as long."""
    return cast(Sequence[_RowT], session.execute(query, {"ids": ids}).all())


# Every opening of a conversation asks these. Building such a statement takes as long as running it, so each is built once.


@cache
def _path() -> Select[int]:
    path = select(TurnRow.id, TurnRow.parent_id).where(TurnRow.id == bindparam("turn")).cte("path", recursive=True)
    earlier = aliased(TurnRow)
    path = path.union_all(
        select(earlier.id, earlier.parent_id)
        .join(path, earlier.id == path.c.parent_id)
        # A damaged row that continues itself must not make an endless path.
        .where(earlier.id < path.c.id, earlier.conversation_id == bindparam("conversation"))
    )
    # Without an order the database stops walking at the limit, none where it is below 0; a parent's id is always smaller than its child's.
    return select(path.c.id).limit(bindparam("most"))


@cache
def _own() -> Select[int | None]:
    return select(ConversationRow.active_turn_id).where(
        ConversationRow.id == bindparam("conversation"), ConversationRow.owner == bindparam("owner")
    )


@cache
def _turns() -> Select[*tuple[Any, ...]]:
    turns = inspect(TurnRow).local_table
    return select(*turns.c).where(turns.c.id.in_(bindparam("ids", expanding=True))).order_by(turns.c.id)


@cache
def _pictures() -> Select[*tuple[Any, ...]]:
    pictures = inspect(PictureRow).local_table
    return (
        select(*pictures.c)
        .where(pictures.c.turn_id.in_(bindparam("ids", expanding=True)))
        .order_by(pictures.c.turn_id, pictures.c.position)
    )


@cache
def _beside() -> Select[int, int | None, int]:
    return (
        select(TurnRow.conversation_id, TurnRow.parent_id, TurnRow.id)
        .where(
            TurnRow.conversation_id.in_(bindparam("conversations", expanding=True)),
            or_(
                TurnRow.parent_id.in_(bindparam("parents", expanding=True)),
                and_(TurnRow.parent_id.is_(None), bindparam("with_first", type_=Boolean)),
            ),
        )
        .order_by(TurnRow.id)
    )


def newest_leaf(session: Session, turn: TurnRow) -> int:
    """Return the last turn of the newest branch through a turn."""
    leaf = turn.id
    while True:
        child = session.scalar(
            select(func.max(TurnRow.id)).where(
                TurnRow.conversation_id == turn.conversation_id, TurnRow.parent_id == leaf, TurnRow.id > leaf
            )
        )
        if child is None:
            return leaf
        leaf = child


def _branches(session: Session, rows: Sequence[TurnRow]) -> dict[tuple[int, int | None], tuple[int, ...]]:
    parents = {row.parent_id for row in rows}
    asked = {
        "conversations": list({row.conversation_id for row in rows}),
        "parents": [parent for parent in parents if parent is not None],
        "with_first": None in parents,
    }
    found: defaultdict[tuple[int, int | None], list[int]] = defaultdict(list)
    for conversation, parent, turn in session.execute(_beside(), asked):
        found[conversation, parent].append(turn)
    return {key: tuple(ids) for key, ids in found.items()}


def _to_conversations(
    session: Session, query: Select[ConversationRow, int, int | None], asked: Mapping[str, Any] | None = None
) -> tuple[Conversation, ...]:
    return tuple(
        to_conversation(row, turn_count=count, thumbnail_picture_id=picture)
        for row, count, picture in session.execute(query, asked)
    )


@cache
def _heads() -> Select[ConversationRow, int, int | None]:
    count: ScalarSelect[int] = (
        select(func.count(TurnRow.id))
        .where(TurnRow.conversation_id == ConversationRow.id)
        .correlate(ConversationRow)
        .scalar_subquery()
    )
    picture: ScalarSelect[int | None] = (
        select(PictureRow.id)
        .join(TurnRow, TurnRow.id == PictureRow.turn_id)
        .where(TurnRow.conversation_id == ConversationRow.id)
        .order_by(TurnRow.id, PictureRow.id)
        .limit(1)
        .correlate(ConversationRow)
        .scalar_subquery()
    )
    return select(ConversationRow, count, picture)


@cache
def _these_heads() -> Select[ConversationRow, int, int | None]:
    return _heads().where(ConversationRow.id.in_(bindparam("ids", expanding=True)))
