"""Finding turns by their words, by when they were asked, and by whether they have pictures.

Every word must be found; the newest matches are taken in blocks, and within a block those rank first that have the
words in the title or the question, and more often. So a search costs the same however much there is to find. Knows the
index and the rows; does not know how text gets into the index: `search_index` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import ColumnElement, bindparam, func, select, text
from sqlalchemy.orm import Session

from qwen_vl_app.chat import Fragment, SearchHit, SearchPage, TextPiece
from qwen_vl_app.history.conversations import conversations_by_id
from qwen_vl_app.history.search_index import (
    CUT,
    FIELDS,
    HAS_PICTURES,
    PREFIX_LENGTHS,
    Field,
    cut_into_words,
    folded,
    owner_word,
)
from qwen_vl_app.history.tables import TurnRow, UtcTime

BLOCK = 200
"""How many of the newest matches are ranked against each other."""
_WEIGHTS: dict[Field, int] = {"title": 8, "question": 4, "answer": 1, "read": 1, "names": 3}
_MOST_COUNTED = 5
_WANTED = re.compile(r'"([^"]*)"|([^\s"]+)')
_WORD = re.compile(r"[^\W_]+")
_BEFORE, _AFTER = 60, 200
"""Characters of a fragment before and after its best place, cuts included."""
_BEGINNING, _END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_NEWEST = "SELECT rowid FROM turn_search WHERE turn_search MATCH :match"
_ASKED_WITHIN = (
    "AND rowid BETWEEN :first AND :last AND EXISTS (SELECT 1 FROM turns WHERE turns.id = turn_search.rowid"
    " AND turns.asked_at >= :since AND turns.asked_at < :until)"
)
_PAGE = "ORDER BY rowid DESC LIMIT :limit OFFSET :offset"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. Times are those of asking; `since` is within, `until` is not."""

    words: str = ""
    since: datetime | None = None
    until: datetime | None = None
    has_pictures: bool | None = None


@dataclass(frozen=True, slots=True)
class Needle:
    """Words that must stand side by side; of a single one, where `is_beginning`, only its beginning."""

    words: tuple[str, ...]
    is_beginning: bool = False

    @property
    def query(self) -> str:
        """The needle in the index's language. Of a long beginning the index knows only the first characters."""
        if self.is_beginning:
            return f'"{self.words[0][: PREFIX_LENGTHS[1]]}" *'
        return f'"{" ".join(self.words)}"'

    def places(self, comparable: str) -> list[tuple[int, int]]:
        """Return where it begins and ends in a folded text."""
        return [match.span() for match in self._pattern().finditer(comparable)]

    def count(self, comparable: str) -> int:
        """Return how often it stands in a folded text, as far as that matters."""
        return sum(1 for _ in islice(self._pattern().finditer(comparable), _MOST_COUNTED))

    def _pattern(self) -> re.Pattern[str]:
        end = r"[^\W_]*" if self.is_beginning else r"(?![^\W_])"
        # Compiled once: the module remembers its patterns.
        words = r"[\W_]+".join(re.escape(folded(word)) for word in self.words)
        return re.compile(r"(?<![^\W_])" + words + end)


@dataclass(frozen=True, slots=True)
class _Text:
    """What the index holds of a turn; a field without words is not there."""

    turn_id: int
    fields: dict[Field, str]


def search(session: Session, owner: str, wanted: Wanted, *, limit: int, offset: int) -> SearchPage:
    """Return a page of an owner's turns that fit, best first; without words, newest first and without fragments."""
    needles = needles_of(wanted.words)
    if wanted.words.strip() and not needles:
        return SearchPage()
    match = _match(owner, wanted, needles)
    found: list[_Text] = []
    number = 0
    while len(found) <= offset + limit:
        ids = _block(session, match, wanted, number=number)
        found += _ranked(session, ids, needles)
        number += 1
        if len(ids) < BLOCK:
            break
    return SearchPage(_hits(session, found[offset : offset + limit], needles), has_more=len(found) > offset + limit)


def needles_of(words: str) -> list[Needle]:
    """Return what must be found: what stands between quotation marks, side by side, and every other word."""
    plain = words.replace("”", '"').replace("“", '"')
    needles = []
    for quoted, single in _WANTED.findall(plain):
        parts = _WORD.findall(cut_into_words(quoted or single))
        if parts:
            # Whoever types `temp` means `temperature` too; a Chinese phrase is found inside longer ones anyway.
            is_beginning = not quoted and len(parts) == 1 and len(parts[0]) >= PREFIX_LENGTHS[0]
            needles.append(Needle(tuple(parts), is_beginning))
    return needles


def _match(owner: str, wanted: Wanted, needles: Sequence[Needle]) -> str:
    """Return the query in the index's own language."""
    scope = owner_word(owner) + (f" AND {HAS_PICTURES}" if wanted.has_pictures else "")
    query = f"scope : ({scope})"
    if needles:
        query += f" AND {{{' '.join(FIELDS)}}} : ({' AND '.join(needle.query for needle in needles)})"
    return f"({query}) NOT scope : {HAS_PICTURES}" if wanted.has_pictures is False else query


def _block(session: Session, match: str, wanted: Wanted, *, number: int) -> list[int]:
    found: dict[str, object] = {"match": match, "limit": BLOCK, "offset": number * BLOCK}
    if wanted.since is None and wanted.until is None:
        return list(session.scalars(text(f"{_NEWEST} {_PAGE}"), found))
    # The index knows no times, but ids: those of the time asked for lie between two of them.
    first, last = session.execute(select(func.min(TurnRow.id), func.max(TurnRow.id)).where(*_within(wanted))).one()
    if first is None:
        return []
    times = {"since": wanted.since or _BEGINNING, "until": wanted.until or _END}
    query = text(f"{_NEWEST} {_ASKED_WITHIN} {_PAGE}").bindparams(
        bindparam("since", type_=UtcTime), bindparam("until", type_=UtcTime)
    )
    return list(session.scalars(query, {**found, **times, "first": first, "last": last}))


def _ranked(session: Session, ids: Sequence[int], needles: Sequence[Needle]) -> list[_Text]:
    """Return those that hold every needle, first those with them in weightier places and more often, then the newer."""
    if not needles:
        return [_Text(turn, {}) for turn in ids]
    scored = []
    for found in _texts(session, ids):
        comparable = {field: folded(words) for field, words in found.fields.items()}
        counts = [
            sum(_WEIGHTS[field] * needle.count(words) for field, words in comparable.items()) for needle in needles
        ]
        if all(counts):
            scored.append((sum(counts), found))
    return [found for _, found in sorted(scored, key=lambda one: (-one[0], -one[1].turn_id))]


def _texts(session: Session, ids: Sequence[int]) -> list[_Text]:
    # Numbers of our own: as parameters they would be a statement of its own for every length of the list.
    numbers = ", ".join(str(int(number)) for number in ids)
    rows = session.execute(text(f"SELECT rowid, {', '.join(FIELDS)} FROM turn_search WHERE rowid IN ({numbers})"))  # noqa: S608
    return [_Text(row[0], {field: row[at] for at, field in enumerate(FIELDS, 1) if row[at]}) for row in rows]


def _hits(session: Session, found: Sequence[_Text], needles: Sequence[Needle]) -> tuple[SearchHit, ...]:
    turns = {
        turn_id: (conversation_id, asked_at)
        for turn_id, conversation_id, asked_at in session.execute(
            select(TurnRow.id, TurnRow.conversation_id, TurnRow.asked_at).where(
                TurnRow.id.in_([one.turn_id for one in found])
            )
        )
    }
    heads = conversations_by_id(session, {conversation for conversation, _ in turns.values()})
    hits = []
    for one in (each for each in found if each.turn_id in turns):
        conversation, asked_at = turns[one.turn_id]
        fragments = (_fragment(field, one.fields[field], needles) for field in FIELDS if field in one.fields)
        hits.append(
            SearchHit(heads[conversation], one.turn_id, asked_at, tuple(each for each in fragments if each is not None))
        )
    return tuple(hits)


def _fragment(field: Field, words: str, needles: Sequence[Needle]) -> Fragment | None:
    """Return the text around the first place where most needles are near, or None where there is none."""
    places = sorted(place for needle in needles for place in needle.places(folded(words)))
    if not places:
        return None
    best = max(places, key=lambda place: (sum(0 <= other[0] - place[0] < _AFTER for other in places), -place[0]))
    begin, end = max(0, best[0] - _BEFORE), min(len(words), max(best[1], best[0] + _AFTER))
    pieces = [TextPiece("…")] if begin else []
    at = begin
    for first, last in places:
        if first < at or last > end:
            continue
        pieces += [TextPiece(words[at:first]), TextPiece(words[first:last], is_match=True)]
        at = last
    pieces += [TextPiece(words[at:end])] + ([TextPiece("…")] if end < len(words) else [])
    return Fragment(
        field,
        tuple(TextPiece(shown, piece.is_match) for piece in pieces if (shown := piece.text.replace(CUT, ""))),
    )


def _within(wanted: Wanted) -> list[ColumnElement[bool]]:
    within: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        within.append(TurnRow.asked_at >= wanted.since)
    if wanted.until is not None:
        within.append(TurnRow.asked_at < wanted.until)
    return within
