"""Deleted means gone from every byte of the data folder, and only what was deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_vl_app.chat import Answer, FinishReason, ParsedAnswer, Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore
from tests.history.traces import traces as find_traces

OWNER = "a-browser"
MARKER = "Zx7-secret-marker"


def traces(folder: Path) -> set[str]:
    """Names of the files that hold the marker."""
    return find_traces(folder, MARKER)


def converse(store: HistoryStore, marked: StagedPicture, text: str = MARKER) -> int:
    """Keep two turns full of the text, one of them through many partial texts; return the conversation's id."""
    turn = store.begin_turn(OWNER, Question(f"{text} ?", (marked,)), title=f"{text} title")
    for words in range(1, 40):
        store.keep_partial(turn.id, f"{text} " * words)
    parsed = ParsedAnswer(data={"secret": text}, has_data=True)
    store.finish_turn(turn.id, Answer(f"{text} " * 2000, FinishReason.STOP, parsed), state=TurnState.DONE)
    store.begin_turn(OWNER, Question(text, conversation_id=turn.conversation_id), title="")
    return turn.conversation_id


def test_a_deleted_conversation_leaves_no_trace(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Title, question, partial and final answer, file name and picture bytes: none is found in any file, app running."""
    kept = store.begin_turn(OWNER, Question("kept"), title="kept")
    conversation = converse(store, picture(MARKER, name=f"{MARKER}.jpg"))
    assert {"history.db-wal"} < traces(folder)

    store.delete_conversation(OWNER, conversation)

    assert traces(folder) == set()
    assert [head.id for head in store.conversations(OWNER)] == [kept.conversation_id]
    with pytest.raises(HistoryError):
        store.turns(OWNER, conversation)
    store.close()
    assert traces(folder) == set()


def test_old_rows_are_overwritten_too(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """What an earlier run wrote into the database itself is overwritten as well, and so is a title changed since."""
    conversation = converse(store, picture("x"))
    store.rename(OWNER, conversation, "harmless")
    store.close()
    assert "history.db" in traces(folder)
    open_store().delete_conversation(OWNER, conversation)
    assert traces(folder) == set()


def test_a_shared_picture_stays_until_its_last_turn_goes(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """Conversations of one owner share a picture's files; deleting one does not take them from the other."""
    first = store.begin_turn(OWNER, Question("1", (picture("x"), picture("x"))), title="t")
    second = store.begin_turn(OWNER, Question("2", (picture("x"),)), title="t")
    assert len(folder_files()) == 4
    store.delete_conversation(OWNER, first.conversation_id)
    assert store.picture_bytes(OWNER, second.pictures[0].id, Rendition.SEEN).data == picture("x").seen_png
    store.delete_conversation(OWNER, second.conversation_id)
    assert folder_files() == set()


def test_owners_share_no_files(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """The same picture of two owners lies in different files, and one's deletion leaves the other's."""
    mine = store.begin_turn(OWNER, Question("1", (picture("x"),)), title="t")
    theirs = store.begin_turn("b", Question("2", (picture("x"),)), title="t")
    assert len(folder_files()) == 8
    store.delete_conversation(OWNER, mine.conversation_id)
    assert len(folder_files()) == 4
    assert store.picture_bytes("b", theirs.pictures[0].id, Rendition.VIEW).data == picture("x").view


def test_ids_are_never_given_twice(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """An old address never leads to a new conversation, turn or picture."""
    first = store.begin_turn(OWNER, Question("1", (picture("x"),)), title="t")
    store.delete_conversation(OWNER, first.conversation_id)
    second = store.begin_turn(OWNER, Question("1", (picture("x"),)), title="t")
    assert second.conversation_id > first.conversation_id
    assert second.id > first.id
    assert second.pictures[0].id > first.pictures[0].id


def test_a_turn_deleted_while_it_runs_stays_deleted(store: HistoryStore, folder: Path) -> None:
    """An answer that arrives for a deleted conversation is refused and not written."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    store.mark_running(turn.id)
    store.delete_conversation(OWNER, turn.conversation_id)
    with pytest.raises(HistoryError):
        store.finish_turn(turn.id, Answer(MARKER, FinishReason.STOP), state=TurnState.DONE)
    assert store.conversations(OWNER) == ()
    assert traces(folder) == set()


def test_a_foreign_reader_makes_erasing_pending(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Where another program reads the old state, the user is told that traces stay, and the next write removes them."""
    conversation = converse(store, picture("x"))
    reader = sqlite3.connect(folder / "history.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM turns").fetchone()

    with pytest.raises(HistoryError) as pending:
        store.delete_conversation(OWNER, conversation)

    assert pending.value.code == "history.erase_pending"
    assert store.conversations(OWNER) == ()
    assert traces(folder) != set()
    reader.rollback()
    reader.close()
    store.begin_turn(OWNER, Question("next"), title="t")
    assert traces(folder) == set()


def test_orphans_are_swept_and_losses_told(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    folder_files: Callable[[], set[str]],
) -> None:
    """A start removes files that no turn refers to, half-written ones too, and counts those that are gone."""
    turn = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    store.close()
    kept = folder_files()
    (folder / "pictures" / "ab").mkdir(exist_ok=True)
    (folder / "pictures" / "ab" / ("ab" * 32)).write_bytes(b"orphan")
    (folder / "pictures" / "ab" / ("cd" * 32 + ".part")).write_bytes(b"half")

    again = open_store()
    assert folder_files() == kept
    assert again.notices == ()
    again.close()
    next(file for file in (folder / "pictures").rglob("*") if file.is_file()).unlink()

    last = open_store()
    assert [(notice.code, dict(notice.facts)) for notice in last.notices] == [
        ("history.pictures_missing", {"count": 1})
    ]
    assert last.turn(OWNER, turn.id).question == "?"


def test_a_changed_picture_file_is_not_shown(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Bytes that are not the kept ones are refused; bytes that are gone are said to be gone."""
    kept = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t").pictures[0]
    view = store.picture_bytes(OWNER, kept.id, Rendition.VIEW).data
    (file,) = (file for file in (folder / "pictures").rglob("*") if file.is_file() and file.read_bytes() == view)
    file.write_bytes(view[:-1] + b"!")
    with pytest.raises(HistoryError) as damaged:
        store.picture_bytes(OWNER, kept.id, Rendition.VIEW)
    assert damaged.value.code == "history.picture_damaged"
    file.unlink()
    with pytest.raises(HistoryError) as missing:
        store.picture_bytes(OWNER, kept.id, Rendition.VIEW)
    assert missing.value.code == "history.picture_missing"


def test_adding_a_picture_again_mends_its_file(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """The next turn about the same picture puts the right bytes back, for the older turn too."""
    kept = store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t").pictures[0]
    for file in (file for file in (folder / "pictures").rglob("*") if file.is_file()):
        file.write_bytes(b"?" * file.stat().st_size)
    store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    assert store.picture_bytes(OWNER, kept.id, Rendition.UPLOAD).data == picture("x").upload
