"""The full-text index of turns: what of a turn is indexed, and how its text is cut into words.

Chinese, Japanese and Korean are written without spaces, so each of their characters is a word of its own; a word of two
characters is then found as a phrase. Knows the index's table; does not know questions about it: `search` does.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from qwen_vl_app.history.tables import ConversationRow, CorrectionRow, FactRow, PictureRow, TurnRow, storable

INDEX_VERSION = "2"
"""Changes with everything that changes what stands in the index; an index of another version is made anew."""
Field = Literal["title", "question", "answer", "read", "names"]
FIELDS: tuple[Field, ...] = ("title", "question", "answer", "read", "names")
PREFIX_LENGTHS = (3, 5)
"""The shortest and the longest beginning of a word that the index finds at once."""
HAS_PICTURES = "haspictures"
CUT = "\x1f"
"""Stands between characters that are words of their own; no word character to SQLite, and in no text that is kept here."""
_VERSION_FACT = "search_index"
_MARKS = re.compile(f"[{CUT}\x00]")
_WORD_CHARACTERS = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_CUTS = re.compile(f"(?<=[{_WORD_CHARACTERS}])(?=.)|(?<=.)(?=[{_WORD_CHARACTERS}])", re.S)
_FULL_WIDTH = {
    code: code - 0xFEE0 for ends in ("０９", "ＡＺ", "ａｚ") for code in range(ord(ends[0]), ord(ends[1]) + 1)
}
_BLOCK = re.compile(r"^```json [^\n]*\n(.*?)\n```\s*\Z", re.S | re.M)
"""Where a correction that programs read as well has what a person wrote, after a sentence of the app's own."""
_MOST_CHARACTERS = 200_000
"""Of one field of one turn; what a person looks for in more than a book stands near its beginning."""


class _Folding(dict[int, str]):
    """Each character in lower case without its marks, one for one, so that places stay the same."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # Only European letters lose their marks; those of Japanese and Korean make other words.
        base = unicodedata.normalize("NFD", character)[0] if code < 0x2000 else character
        folded = base.lower()[0]
        self[code] = folded
        return folded


_FOLDING = _Folding()


@dataclass(frozen=True, slots=True)
class _Document:
    turn_id: int
    fields: dict[str, str]
    scope: str


def cut_into_words(words: str) -> str:
    """Return the text with full-width letters and digits made plain and a cut beside every character that is a word."""
    plain = unicodedata.normalize("NFC", _MARKS.sub(" ", words[:_MOST_CHARACTERS])).translate(_FULL_WIDTH)
    return _CUTS.sub(CUT, plain)


def folded(words: str) -> str:
    """Return the text as the index compares it: in lower case and without marks, every character in its place."""
    return words.lower() if words.isascii() else words.translate(_FOLDING)


def owner_word(owner: str) -> str:
    """Return the word that stands for an owner in the index."""
    return "o" + hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def index_turns(session: Session, turn_ids: Collection[int]) -> None:
    """Put turns into the index as they are now; those that are gone leave it."""
    session.flush()
    for turn_id in turn_ids:
        session.execute(text("DELETE FROM turn_search WHERE rowid = :id"), {"id": turn_id})
    for document in _documents(session, turn_ids):
        session.execute(
            text(
                "INSERT INTO turn_search (rowid, title, question, answer, read, names, scope)"
                " VALUES (:id, :title, :question, :answer, :read, :names, :scope)"
            ),
            {"id": document.turn_id, "scope": document.scope}
            | {name: storable(cut_into_words(document.fields[name])) for name in FIELDS},
        )


def first_turn(session: Session, conversation_id: int) -> int | None:
    """Return the turn that a conversation's title is found with."""
    return session.scalar(select(func.min(TurnRow.id)).where(TurnRow.conversation_id == conversation_id))


def purge(session: Session) -> None:
    """Leave no word in the index of turns that have left it: the index only marks them until its parts are merged."""
    session.execute(text("INSERT INTO turn_search (turn_search) VALUES ('optimize')"))


def is_current(session: Session) -> bool:
    """Tell whether the index was made by this version's rules."""
    fact = session.get(FactRow, _VERSION_FACT)
    return fact is not None and fact.value == INDEX_VERSION


def rebuild(session: Session) -> None:
    """Make the whole index anew."""
    session.execute(text("DELETE FROM turn_search"))
    ids = list(session.scalars(select(TurnRow.id)))
    for at in range(0, len(ids), 500):
        index_turns(session, ids[at : at + 500])
    purge(session)
    session.merge(FactRow(name=_VERSION_FACT, value=INDEX_VERSION))


def _documents(session: Session, turn_ids: Collection[int]) -> Iterator[_Document]:
    first = (
        select(func.min(TurnRow.id))
        .where(TurnRow.conversation_id == ConversationRow.id)
        .correlate(ConversationRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            TurnRow.id,
            TurnRow.question,
            TurnRow.answer_text,
            TurnRow.answer,
            ConversationRow.owner,
            ConversationRow.title,
            first,
        )
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
        .where(TurnRow.id.in_(turn_ids))
    ).all()
    names: dict[int, list[str]] = {}
    for turn_id, name in session.execute(
        select(PictureRow.turn_id, PictureRow.name).where(PictureRow.turn_id.in_(turn_ids)).order_by(PictureRow.id)
    ):
        names.setdefault(turn_id, []).append(name)
    corrections: dict[int, list[str]] = {}
    for turn_id, added in session.execute(
        select(CorrectionRow.turn_id, CorrectionRow.text)
        .where(CorrectionRow.turn_id.in_(turn_ids))
        .order_by(CorrectionRow.id)
    ):
        corrections.setdefault(turn_id, []).extend(_written(added))
    for row in rows:
        yield _document(row, names.get(row[0], []), corrections.get(row[0], []))


def _document(
    row: Row[int, str, str | None, str | None, str, str, int], names: list[str], corrections: list[str]
) -> _Document:
    turn_id, question, answer, structure, owner, title, first = row
    return _Document(
        turn_id,
        {
            "title": title if turn_id == first else "",
            "question": question,
            "answer": answer or "",
            "read": "\n".join((*corrections, *_read_out(structure))),
            "names": "\n".join(names),
        },
        f"{owner_word(owner)} {HAS_PICTURES if names else ''}",
    )


def _read_out(structure: str | None) -> Iterator[str]:
    """The texts of an answer's structure: labels of regions, cells of tables, strings of its data."""
    if structure is None:
        return
    try:
        parsed = json.loads(structure)["parsed"]
        yield from (region["label"] for region in parsed["regions"] if region["label"])
        for table in parsed["tables"]:
            yield from (" ".join(cells) for cells in (table["columns"], *table["rows"]))
        yield from _strings(parsed["data"])
    except (ValueError, KeyError, TypeError, RecursionError):
        # A damaged record can still be found by its question.
        return


def _written(correction: str) -> Iterator[str]:
    """What a person wrote in a correction: all of it, or the texts in its block."""
    block = _BLOCK.search(correction)
    if block is None:
        yield correction
        return
    try:
        yield from _strings(json.loads(block[1]))
    except (ValueError, RecursionError):
        yield correction


def _strings(data: object) -> Iterator[str]:
    waiting = [data]
    while waiting:
        match waiting.pop():
            case str(value) if value:
                yield value
            case list(values):
                waiting.extend(reversed(values))
            case dict(values):
                waiting.extend(reversed(values.values()))
            case _:
                pass
