"""Conversations are listed, paged, renamed, and each owner sees only their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from qwen_vl_app.chat import Answer, FinishReason, Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"


def ask(store: HistoryStore, text: str = "?", *, into: int | None = None, owner: str = OWNER) -> int:
    """Keep a question and return its conversation's id."""
    return store.begin_turn(owner, Question(text, conversation_id=into), title=text).conversation_id


def test_a_first_question_makes_a_conversation(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """The head has its title, its times, its count of turns and the first picture's id."""
    turn = store.begin_turn(OWNER, Question("?", (picture("a"), picture("b"))), title="Panel 4")
    ask(store, "and then?", into=turn.conversation_id)
    (head,) = store.conversations(OWNER)
    assert head == store.conversation(OWNER, turn.conversation_id)
    assert (head.title, head.turn_count, head.thumbnail_picture_id) == ("Panel 4", 2, turn.pictures[0].id)
    assert head.created_at <= head.updated_at <= datetime.now(UTC)


def test_a_conversation_without_pictures_has_no_thumbnail(store: HistoryStore) -> None:
    """Nothing stands for it."""
    assert store.conversation(OWNER, ask(store)).thumbnail_picture_id is None


def test_the_newest_turn_comes_first(store: HistoryStore) -> None:
    """Continuing an old conversation brings it to the top; renaming does not."""
    first, second, third = ask(store), ask(store), ask(store)
    ask(store, into=first)
    store.rename(OWNER, second, "  other  ")
    assert [head.id for head in store.conversations(OWNER)] == [first, third, second]
    assert store.conversation(OWNER, second).title == "other"


def test_order_does_not_follow_the_clock(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back a year changes times and not places."""

    class LastYear(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2020, 1, 1, tzinfo=UTC)

    first = ask(store)
    monkeypatch.setattr("qwen_vl_app.history.turn_keeping.datetime", LastYear)
    second = ask(store)
    assert [head.id for head in store.conversations(OWNER)] == [second, first]
    assert store.conversation(OWNER, second).created_at == datetime(2020, 1, 1, tzinfo=UTC)


def test_the_list_comes_in_pages(store: HistoryStore) -> None:
    """Each page begins after the last conversation of the one before, and together they are the whole list."""
    made = [ask(store) for _ in range(7)]
    pages: list[list[int]] = []
    before: int | None = None
    while page := store.conversations(OWNER, limit=3, before_id=before):
        pages.append([head.id for head in page])
        before = page[-1].id
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [number for page in pages for number in page] == made[::-1]


def test_turns_come_in_windows(store: HistoryStore) -> None:
    """The last turns come oldest first, and `before` leads to those before them."""
    conversation = ask(store, "0")
    for number in range(1, 7):
        ask(store, str(number), into=conversation)
    ask(store, "elsewhere")

    def texts(**window: int) -> list[str]:
        return [turn.question for turn in store.turns(OWNER, conversation, **window)]

    assert texts() == list("0123456")
    assert texts(limit=3) == list("456")
    earlier = store.turns(OWNER, conversation, limit=3)[0].id
    assert texts(limit=3, before=earlier) == list("123")
    assert texts(limit=0) == []


def test_lists_cost_the_same_number_of_statements_at_any_length(
    store: HistoryStore, picture: Callable[..., StagedPicture]
) -> None:
    """Neither the list of conversations nor a conversation asks the database once per entry."""
    said: list[str] = []

    def statements(call: Callable[[], object]) -> int:
        said.clear()
        call()
        return len(said)

    def listen(_c: object, _cu: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    conversation = ask(store)
    event.listen(Engine, "before_cursor_execute", listen)
    try:
        few = statements(lambda: store.conversations(OWNER)), statements(lambda: store.turns(OWNER, conversation))
        for number in range(20):
            pictures = (picture(f"{number}"), picture(f"{number}b"))
            store.begin_turn(OWNER, Question("?", pictures, conversation_id=conversation), title="t")
            store.begin_turn(OWNER, Question("?", pictures), title="t")
        many = statements(lambda: store.conversations(OWNER)), statements(lambda: store.turns(OWNER, conversation))
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert len(store.conversations(OWNER)) == 21
    # Pictures of turns are one statement more than turns without any.
    assert many[0] == few[0] > 0
    assert many[1] <= few[1] + 1


@pytest.mark.parametrize("title", ["", "   ", "\n\t"])
def test_a_blank_title_is_refused(store: HistoryStore, title: str) -> None:
    """A conversation keeps its title."""
    conversation = ask(store, "kept")
    with pytest.raises(HistoryError) as refused:
        store.rename(OWNER, conversation, title)
    assert refused.value.code == "history.empty_title"
    assert store.conversation(OWNER, conversation).title == "kept"


def test_another_owner_finds_nothing(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Ids of somebody else's things are as good as no ids, in every call that takes an owner."""
    turn = store.begin_turn(OWNER, Question("mine", (picture("x"),)), title="mine")
    store.finish_turn(turn.id, Answer("yes", FinishReason.STOP), state=TurnState.DONE)
    head, kept = store.conversation(OWNER, turn.conversation_id), store.turn(OWNER, turn.id)
    other = "b-browser"
    trespasses: list[Callable[[], object]] = [
        lambda: store.conversation(other, turn.conversation_id),
        lambda: store.turns(other, turn.conversation_id),
        lambda: store.turn(other, turn.id),
        lambda: store.conversations(other, before_id=turn.conversation_id),
        lambda: store.rename(other, turn.conversation_id, "theirs"),
        lambda: store.delete_conversation(other, turn.conversation_id),
        lambda: store.picture_bytes(other, turn.pictures[0].id, Rendition.THUMBNAIL),
        lambda: store.begin_turn(other, Question("?", conversation_id=turn.conversation_id), title="t"),
    ]
    for trespass in trespasses:
        with pytest.raises(HistoryError) as refused:
            trespass()
        assert refused.value.code == "history.not_found"
    assert store.conversations(other) == ()
    assert (store.conversation(OWNER, head.id), store.turn(OWNER, kept.id)) == (head, kept)
    assert store.picture_bytes(OWNER, turn.pictures[0].id, Rendition.VIEW).data == picture("x").view


def test_what_never_was_is_not_found(store: HistoryStore) -> None:
    """Unknown ids are refused the same way, in calls of the hub as well."""
    answer = Answer("x", FinishReason.STOP)
    lost: list[Callable[[], object]] = [
        lambda: store.conversation(OWNER, 99),
        lambda: store.turn(OWNER, 99),
        lambda: store.mark_running(99),
        lambda: store.keep_partial(99, "x"),
        lambda: store.finish_turn(99, answer, state=TurnState.DONE),
        lambda: store.picture_bytes(OWNER, 99, Rendition.VIEW),
        lambda: store.begin_turn(OWNER, Question("?", conversation_id=99), title="t"),
    ]
    for call in lost:
        with pytest.raises(HistoryError) as refused:
            call()
        assert refused.value.code == "history.not_found"


def test_a_refused_turn_leaves_no_files(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """Pictures of a question that could not be kept are not kept either; those of others stay."""
    store.begin_turn(OWNER, Question("?", (picture("kept"),)), title="t")
    before = folder_files()
    with pytest.raises(HistoryError):
        store.begin_turn(OWNER, Question("?", (picture("kept"), picture("new")), conversation_id=99), title="t")
    assert folder_files() == before
    assert len(before) == 4


@pytest.mark.skipif(os.name != "posix", reason="rights are kept elsewhere on this system")
def test_other_accounts_of_the_machine_cannot_read(folder: Path, picture: Callable[..., StagedPicture]) -> None:
    """Also where the data folder was there before and open to all, database, log and pictures are the account's own."""
    folder.mkdir(mode=0o755)
    store = HistoryStore(folder)
    store.open()
    store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    names = {"history.db", "history.db-wal", "history.db-shm", "history.lock", "pictures", "reserve", "audit.jsonl"}
    assert {entry.name for entry in folder.iterdir()} == names
    assert {entry.stat().st_mode & 0o077 for entry in folder.iterdir()} == {0}
    store.close()
