"""What was asked, answered or read can be found by its words, in Chinese too, by its owner alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from qwen_vl_app.chat import (
    Answer,
    Box,
    FinishReason,
    ParsedAnswer,
    Question,
    Region,
    SearchHit,
    StagedPicture,
    Table,
    TurnState,
)
from qwen_vl_app.corrections import CorrectedTable, table_text
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import Language

OWNER = "a-browser"


def converse(
    store: HistoryStore,
    question: str,
    answer: str = "ok",
    *,
    title: str = "untitled",
    into: int | None = None,
    owner: str = OWNER,
    pictures: tuple[StagedPicture, ...] = (),
    parsed: ParsedAnswer | None = None,
) -> int:
    """Keep a finished turn; return its id."""
    turn = store.begin_turn(owner, Question(question, pictures, conversation_id=into), title=title)
    done = Answer(answer, FinishReason.STOP, parsed or ParsedAnswer())
    return store.finish_turn(turn.id, done, state=TurnState.DONE).id


def found(store: HistoryStore, words: str, **filters: object) -> list[int]:
    """Ids of the turns that are found, in their order."""
    return [hit.turn_id for hit in store.search(OWNER, words, **filters).hits]  # type: ignore[arg-type]


def marked(hit: SearchHit) -> dict[str, list[str]]:
    """The marked places of a hit by field."""
    return {fragment.field: [piece.text for piece in fragment.pieces if piece.is_match] for fragment in hit.fragments}


def test_what_a_person_corrected_is_searched(store: HistoryStore, open_store: Callable[[], HistoryStore]) -> None:
    """Cells and labels as they stand now, and words of one's own; also of before, and nothing of how they are kept."""
    row = CorrectedTable(Table(("Serial",), (("QX-7712",),)), (0,))
    said = table_text(0, row, model=Table(("Serial",), (("QX-7112",),)), language=Language.ENGLISH)
    turn = converse(store, "What is the serial number?", "QX-7112")
    assert found(store, "QX-7712") == []
    store.correct(OWNER, turn, said)
    other = converse(store, "And this?")
    store.correct(OWNER, other, "It is the pomegranate 阀门.")
    for _ in range(2):
        assert found(store, "QX-7712") == [turn] and found(store, "QX-7112") == [turn]
        assert found(store, "pomegranate") == found(store, "阀门") == [other]
        assert found(store, "corrected") == found(store, "visual-assistant") == found(store, "cells") == []
        with store._folder.writing() as opened, opened.database.connection() as connection:
            connection.execute(text("UPDATE facts SET value = '1' WHERE name = 'search_index'"))
            connection.execute(text("DELETE FROM turn_search"))
        store.close()
        store = open_store()


def test_every_place_of_a_turn_is_searched(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Title, question, answer, labels, cells, data and file names are found, and the fragment says where."""
    parsed = ParsedAnswer(
        data={"serial": "KX-4471", "list": [{"deep": "pomegranate"}]},
        has_data=True,
        regions=(Region(Box(0, 0, 1, 1), "manometer"),),
        tables=(Table(("material",), (("molybdenum",),)),),
    )
    turn = converse(
        store,
        "what is on the nameplate",
        "It reads forty-two",
        title="Boiler house",
        pictures=(picture("x", name="IMG_2041.jpeg"),),
        parsed=parsed,
    )
    converse(store, "something else", "entirely")
    for words, field in {
        "boiler": "title",
        "NAMEPLATE": "question",
        '"forty-two"': "answer",
        "manometer": "read",
        "molybdenum": "read",
        "KX-4471": "read",
        "pomegranate": "read",
        "IMG_2041": "names",
    }.items():
        (hit,) = store.search(OWNER, words).hits
        assert hit.turn_id == turn
        assert list(marked(hit)) == [field], words
    (hit,) = store.search(OWNER, "nameplate reads").hits
    assert marked(hit) == {"question": ["nameplate"], "answer": ["reads"]}
    assert hit.conversation == store.conversation(OWNER, store.turn(OWNER, turn).conversation_id)
    assert hit.asked_at == store.turn(OWNER, turn).asked_at


def test_chinese_is_found_by_any_of_its_words(store: HistoryStore) -> None:
    """Two characters are found inside a sentence, in their order, and mixed with Latin letters and full-width forms."""
    turn = converse(store, "这张发票的金额是多少？", "锅炉温度是42°C，型号为ＡＢ１２３")
    other = converse(store, "温和的度数", "票发")
    assert found(store, "发票") == [turn]
    assert found(store, "温度") == [turn]
    assert found(store, "度") == [other, turn]
    assert found(store, "发票 温度") == [turn]
    assert found(store, "金额是多少") == [turn]
    assert found(store, "AB123") == [turn]
    assert found(store, "42") == [turn]
    assert found(store, "度温") == []
    (hit,) = store.search(OWNER, "温度 型号").hits
    assert marked(hit) == {"answer": ["温度", "型号"]}
    assert "".join(piece.text for piece in hit.fragments[0].pieces) == "锅炉温度是42°C，型号为AB123"


def test_beginnings_and_phrases_are_found(store: HistoryStore) -> None:
    """The beginning of a long word finds it; words in quotation marks are found side by side only."""
    turn = converse(store, "the temperature of the oil pump")
    assert found(store, "temp") == [turn]
    assert found(store, "te") == []
    assert found(store, "oil temperature") == [turn]
    assert found(store, '"oil pump"') == found(store, "“oil pump”") == [turn]
    assert found(store, '"pump oil"') == []
    assert found(store, "crème") == []
    assert found(store, "témpérature") == [turn]


def test_marks_make_other_words_only_outside_europe(store: HistoryStore) -> None:
    """`Zürich` is found without its dots; Japanese and Korean syllables are themselves."""
    turn = converse(store, "Zürich がっこう 한국어")
    assert (
        found(store, "zurich") == found(store, "ZÜRICH") == found(store, "がっこう") == found(store, "한국") == [turn]
    )
    assert found(store, "かっこう") == found(store, "하국") == []


def test_a_fragment_shows_where_the_words_are(store: HistoryStore) -> None:
    """Of a long text, the part where most of the words stand; what is left out is three dots."""
    long = "nothing " * 400 + "pump " + "nothing " * 400 + "the oil of the pump leaks" + " nothing" * 400
    converse(store, "?", long)
    ((fragment,),) = [hit.fragments for hit in store.search(OWNER, "pump oil").hits]
    shown = "".join(piece.text for piece in fragment.pieces)
    assert "the oil of the pump leaks" in shown
    assert [piece.text for piece in fragment.pieces if piece.is_match] == ["oil", "pump"]
    assert (shown[0], shown[-1], len(shown) < 300) == ("…", "…", True)
    assert found(store, "pumpkin") == found(store, "pump_oil_nothing leaksome") == []


def test_better_matches_come_first(store: HistoryStore) -> None:
    """A title counts more than a question, a question more than an answer, often more than once, then newer first."""
    title = converse(store, "?", title="pump")
    question = converse(store, "pump?")
    often = converse(store, "?", "pump pump pump")
    once, newer = converse(store, "?", "pump"), converse(store, "?", "pump")
    assert found(store, "pump") == [title, question, often, newer, once]


def test_pages_hold_everything_once(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a page reaches over the blocks that are ranked together."""
    monkeypatch.setattr("qwen_vl_app.history.search.BLOCK", 4)
    turns = [converse(store, "pump") for _ in range(11)]
    for size in (1, 3, 4, 20):
        ids: list[int] = []
        while True:
            page = store.search(OWNER, "pump", limit=size, offset=len(ids))
            ids += [hit.turn_id for hit in page.hits]
            if not page.has_more:
                break
        assert ids == turns[::-1]
    assert store.search(OWNER, "pump", offset=11).hits == ()


def test_owners_find_only_their_own(store: HistoryStore) -> None:
    """Not even how many others there are can be told."""
    mine = converse(store, "pump")
    theirs = converse(store, "pump", owner="b-browser")
    assert found(store, "pump") == found(store, "") == [mine]
    assert [hit.turn_id for hit in store.search("b-browser", "pump").hits] == [theirs]
    assert store.search("nobody", "pump").hits == ()
    for word in ("haspictures", "scope", "o*"):
        assert found(store, word) == []


@pytest.mark.parametrize(
    "words",
    [
        '"',
        '""',
        "*",
        "a AND",
        "NOT",
        "scope : x",
        "(",
        "title:",
        "NEAR(",
        "^",
        "-",
        "''; DROP TABLE turns",
        "+",
        "°",
        "🙂",
    ],
)
def test_no_search_is_an_error(store: HistoryStore, words: str) -> None:
    """What the index takes for its own language is only words; what has no word at all finds nothing."""
    turn = converse(store, "pump")
    assert found(store, words) == []
    assert found(store, "pump") == [turn]


def test_an_operator_is_a_word(store: HistoryStore) -> None:
    """`NOT` is found where somebody wrote it."""
    turn = converse(store, "do NOT open")
    assert found(store, "NOT") == found(store, "NOT open") == [turn]


def test_turns_are_found_by_day_and_pictures(
    store: HistoryStore, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without words, whatever way the clock went; a day begins with its first moment and ends before its last."""
    today = datetime(2026, 3, 2, tzinfo=UTC)
    moments = [today, today - timedelta(days=1), today + timedelta(hours=23, minutes=59), today + timedelta(days=1)]
    turns = []
    for number, moment in enumerate(moments):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None, moment: datetime = moment) -> datetime:  # type: ignore[override]
                return moment

        monkeypatch.setattr("qwen_vl_app.history.turn_keeping.datetime", Clock)
        turns.append(converse(store, "pump", pictures=(picture("x"),) if number % 2 else ()))
    day = {"since": today, "until": today + timedelta(days=1)}
    assert found(store, "pump", **day) == found(store, "", **day) == [turns[2], turns[0]]
    assert found(store, "pump", since=today + timedelta(days=1)) == [turns[3]]
    assert found(store, "pump", until=today) == [turns[1]]
    assert found(store, "pump", since=today + timedelta(days=9)) == []
    assert found(store, "pump", has_pictures=True) == found(store, "", has_pictures=True) == [turns[3], turns[1]]
    assert found(store, "pump", has_pictures=False) == found(store, "", has_pictures=False) == [turns[2], turns[0]]
    assert found(store, "pump", has_pictures=True, **day) == []


def test_the_index_follows_what_changes(store: HistoryStore, open_store: Callable[[], HistoryStore]) -> None:
    """Renaming, answering, interruption and erasing change what is found."""
    turn = store.begin_turn(OWNER, Question("alpha"), title="beta")
    assert found(store, "alpha beta") == [turn.id]
    store.rename(OWNER, turn.conversation_id, "gamma")
    assert (found(store, "beta"), found(store, "gamma")) == ([], [turn.id])
    later = converse(store, "delta", into=turn.conversation_id)
    store.keep_partial(turn.id, "epsilon")
    store.close()
    again = open_store()
    assert found(again, "epsilon") == [turn.id]
    again.erase_turn(OWNER, turn.id)
    assert found(again, "alpha") == found(again, "epsilon") == []
    assert found(again, "gamma delta") == [later]
    again.erase_everything(OWNER)
    assert found(again, "delta") == []


def test_an_index_of_other_rules_is_made_anew(
    store: HistoryStore, open_store: Callable[[], HistoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start of a version that cuts words differently finds everything that was there before."""
    turn = converse(store, "发票 alpha")
    with store._folder.ready().database.writing() as session:
        session.execute(text("DELETE FROM turn_search"))
    assert found(store, "alpha") == []
    store.close()
    monkeypatch.setattr("qwen_vl_app.history.search_index.INDEX_VERSION", "other")
    again = open_store()
    assert found(again, "发票") == found(again, "alpha") == [turn]
