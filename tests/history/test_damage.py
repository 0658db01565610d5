"""A broken file or disk costs nothing that was not already lost, and the user is told what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from qwen_vl_app.chat import Answer, FinishReason, Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import Language, render

OWNER = "a-browser"


def empty(file: Path) -> None:
    """Leave no byte."""
    file.write_bytes(b"")


def spoil_header(file: Path) -> None:
    """Overwrite the first page."""
    file.write_bytes(os.urandom(4096) + file.read_bytes()[4096:])


def cut(file: Path) -> None:
    """Keep the first half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cut_raggedly(file: Path) -> None:
    """Keep less than the header."""
    file.write_bytes(file.read_bytes()[:50])


def spoil_middle(file: Path) -> None:
    """Overwrite a quarter in the middle."""
    content = file.read_bytes()
    at = len(content) // 2 // 4096 * 4096
    file.write_bytes(content[:at] + b"\xa5" * (len(content) // 4) + content[at + len(content) // 4 :])


def replace_by_text(file: Path) -> None:
    """Put something else in its place."""
    file.write_text("this is a letter, not a database\n" * 300, encoding="utf-8")


def replace_by_stranger(file: Path) -> None:
    """Put another program's sound database in its place."""
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()


@pytest.mark.parametrize(
    "harm", [empty, spoil_header, cut, cut_raggedly, spoil_middle, replace_by_text, replace_by_stranger]
)
def test_a_damaged_database_is_set_aside(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    harm: Callable[[Path], None],
) -> None:
    """It is moved with its pictures, byte for byte, the notice names where to, and the new history works and stays."""
    for number in range(20):
        turn = store.begin_turn(OWNER, Question(f"{number} " * 500, (picture(str(number)),)), title="t")
        store.finish_turn(turn.id, Answer("a" * 3000, FinishReason.STOP), state=TurnState.DONE)
    store.close()
    harm(folder / "history.db")
    before = (folder / "history.db").read_bytes()
    pictures = sorted(file.name for file in (folder / "pictures").rglob("*") if file.is_file())

    fresh = open_store()

    (notice,) = fresh.notices
    assert (notice.code, dict(notice.facts)) == ("history.quarantined", {"folder": "damaged-1"})
    aside = folder / "damaged-1"
    assert (aside / "history.db").read_bytes() == before
    assert sorted(file.name for file in (aside / "pictures").rglob("*") if file.is_file()) == pictures
    assert fresh.conversations(OWNER) == ()
    new = fresh.begin_turn(OWNER, Question("new", (picture("1"),)), title="t")
    fresh.close()
    again = open_store()
    assert again.notices == ()
    assert again.picture_bytes(OWNER, new.pictures[0].id, Rendition.VIEW).data == picture("1").view


def spoil_corrections(file: Path) -> None:
    """Overwrite pages that no start reads, as a disk that goes bad does: without a new time or size."""
    state = file.stat()
    with closing(sqlite3.connect(file)) as connection:
        pages = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'corrections' AND type = 'index'"
        ).fetchall()
    with file.open("r+b") as stream:
        for (page,) in pages:
            stream.seek((page - 1) * 4096)
            stream.write(b"\xa5" * 4096)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_damage_that_shows_only_at_work_is_set_aside_at_the_next_start(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, is_asked_for: bool
) -> None:
    """A start after a clean end trusts the file; whatever met the damage since, a call or a check, ends that."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    store.finish_turn(turn.id, Answer("a", FinishReason.STOP), state=TurnState.DONE)
    store.close()
    spoil_corrections(folder / "history.db")
    trusting = open_store()
    assert trusting.notices == () and trusting.turn(OWNER, turn.id)
    if is_asked_for:
        assert [problem.code for problem in trusting.verify_storage()] == ["history.database_unsound"]
    else:
        with pytest.raises(HistoryError) as told:
            trusting.corrections(OWNER, turn.id)
        assert told.value.code == "history.damaged"
    trusting.close()
    assert [notice.code for notice in open_store().notices] == ["history.quarantined"]


def test_damage_that_a_trusting_start_meets_is_set_aside_at_once(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path
) -> None:
    """What was left unanswered is put into order at the start, which reads more than an answered question needs."""
    store.begin_turn(OWNER, Question("?"), title="t")
    store.close()
    spoil_corrections(folder / "history.db")
    fresh = open_store()
    assert [notice.code for notice in fresh.notices] == ["history.quarantined"]
    assert fresh.begin_turn(OWNER, Question("new"), title="t")


def test_every_damage_gets_a_place_of_its_own(folder: Path, open_store: Callable[[], HistoryStore]) -> None:
    """What was set aside before is never overwritten."""
    for number in range(1, 4):
        open_store().close()
        (folder / "history.db").write_bytes(b"broken %d" % number)
        store = open_store()
        assert store.notices[0].facts["folder"] == f"damaged-{number}"
        store.close()
    assert (folder / "damaged-1" / "history.db").read_bytes() == b"broken 1"


def test_a_lost_database_is_no_fresh_start(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Where pictures are left without their database, they are set aside and not swept as orphans."""
    store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    store.close()
    rescued = folder.parent / "history.db"
    (folder / "history.db").rename(rescued)

    fresh = open_store()

    assert [notice.code for notice in fresh.notices] == ["history.database_lost"]
    assert len([file for file in (folder / "damaged-1" / "pictures").rglob("*") if file.is_file()]) == 4
    fresh.close()
    # The sentence promises that putting both back brings everything back.
    rescued.replace(folder / "history.db")
    shutil.copytree(folder / "damaged-1" / "pictures", folder / "pictures", dirs_exist_ok=True)
    restored = open_store()
    assert restored.notices == ()
    assert restored.picture_bytes(OWNER, 1, Rendition.VIEW).data == picture("x").view


def test_a_log_left_behind_is_not_replayed(folder: Path, open_store: Callable[[], HistoryStore]) -> None:
    """The write-ahead log of a database that is gone never gets into the next one."""
    store = open_store()
    for _ in range(5):
        store.begin_turn(OWNER, Question("old"), title="old")
    log = (folder / "history.db-wal").read_bytes()
    store.close()
    (folder / "history.db").unlink()
    (folder / "history.db-wal").write_bytes(log)
    fresh = open_store()
    assert [notice.code for notice in fresh.notices] == ["history.database_lost"]
    assert (folder / "damaged-1" / "history.db-wal").read_bytes() == log
    assert fresh.conversations(OWNER) == ()


def test_an_interrupted_first_start_is_begun_again(folder: Path, open_store: Callable[[], HistoryStore]) -> None:
    """A database that was never finished has not got its name yet, and is no damage."""
    folder.mkdir()
    (folder / "history.db.new").write_bytes(b"half")
    (folder / "history.db.new-journal").write_bytes(b"half")
    store = open_store()
    assert store.notices == ()
    assert not list(folder.glob("*.new*"))


def test_a_file_in_place_of_the_folder_is_named(folder: Path) -> None:
    """The folder cannot be made where a file stands, nor below one; the file stays."""
    folder.write_text("not a folder", encoding="utf-8")
    for place in (folder, folder / "below"):
        with pytest.raises(HistoryError) as refused:
            HistoryStore(place).open()
        assert refused.value.code == "history.folder_unusable"
    assert folder.read_text(encoding="utf-8") == "not a folder"


def test_a_folder_in_place_of_the_database_is_named(folder: Path) -> None:
    """It is not moved, since it may be anything; the folder is free again afterwards."""
    (folder / "history.db").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(HistoryError) as refused:
            HistoryStore(folder).open()
        assert refused.value.code == "history.folder_unusable"
    (folder / "history.db").rmdir()
    store = HistoryStore(folder)
    store.open()
    store.close()


def test_a_read_only_folder_is_named(folder: Path) -> None:
    """A folder without the right to write is said to be that, and so is a database without it."""
    folder.mkdir()
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("permissions do not bind this account")
        with pytest.raises(HistoryError) as refused:
            HistoryStore(folder).open()
    finally:
        folder.chmod(0o700)
    assert refused.value.code == "history.read_only"
    store = HistoryStore(folder)
    store.open()
    store.close()
    (folder / "history.db").chmod(0o400)
    with pytest.raises(HistoryError) as refused:
        store.open()
    assert refused.value.code == "history.read_only"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EROFS, "history.read_only"), (errno.EACCES, "history.read_only"), (errno.EIO, "history.storage_failed")],
)
def test_a_disk_that_refuses_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    """What the system says while the folder is taken becomes a sentence of ours, not of the system's."""

    def refuse(*_args: object, **_kwargs: object) -> int:
        raise OSError(number, os.strerror(number), "/secret/path")

    with monkeypatch.context() as patched, pytest.raises(HistoryError) as refused:
        patched.setattr("qwen_vl_app.history.lock.os.open", refuse)
        HistoryStore(folder).open()
    assert refused.value.code == code
    for language in Language:
        assert "secret" not in render(refused.value, language)


def test_a_folder_that_could_not_be_taken_is_free_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the lock's few bytes fit on the disk, the next try in the same process finds the folder free."""

    def refuse(*_args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(HistoryError) as refused:
        patched.setattr("qwen_vl_app.history.lock.os.write", refuse)
        HistoryStore(folder).open()
    assert refused.value.code == "history.disk_full"
    store = HistoryStore(folder)
    store.open()
    store.close()


def test_a_record_that_makes_no_sense_is_said_to_be_damaged(store: HistoryStore, folder: Path) -> None:
    """What a stranger wrote into the columns is a sentence, not a traceback."""
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    store.finish_turn(turn.id, Answer("yes", FinishReason.STOP), state=TurnState.DONE)
    for column, value in (("state", "weird"), ("answer", "[]"), ("answer", "{"), ("sampling", '{"stop": []')):
        with closing(sqlite3.connect(folder / "history.db")) as stranger:
            (before,) = stranger.execute(f"SELECT {column} FROM turns").fetchone()
            stranger.execute(f"UPDATE turns SET {column} = ?", (value,))
            stranger.commit()
            with pytest.raises(HistoryError) as refused:
                store.turn(OWNER, turn.id)
            assert refused.value.code == "history.record_damaged"
            stranger.execute(f"UPDATE turns SET {column} = ?", (before,))
            stranger.commit()
    assert store.turn(OWNER, turn.id).answer == Answer("yes", FinishReason.STOP)


def test_a_full_disk_loses_only_the_new(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """A database that cannot grow says so; what was kept before is there, and with space again it goes on."""
    first = store.begin_turn(OWNER, Question("kept", (picture("x"),)), title="t")
    files = folder_files()
    store.close()

    def shrink(connection: sqlite3.Connection, _entry: object) -> None:
        connection.execute("PRAGMA max_page_count=1")

    event.listen(Engine, "connect", shrink)
    try:
        store.open()
        with pytest.raises(HistoryError) as full:
            store.begin_turn(OWNER, Question("much " * 50_000, (picture("y"),)), title="t")
        with pytest.raises(HistoryError):
            store.rename(OWNER, first.conversation_id, "much " * 50_000)
        assert store.turn(OWNER, first.id).question == "kept"
    finally:
        event.remove(Engine, "connect", shrink)
        store.close()
    assert full.value.code == "history.disk_full"
    assert folder_files() == files
    store.open()
    assert [head.turn_count for head in store.conversations(OWNER)] == [1]
    store.begin_turn(OWNER, Question("much " * 50_000), title="t")
    store.close()


def test_a_disk_full_of_pictures_leaves_nothing_half_written(
    store: HistoryStore,
    picture: Callable[..., StagedPicture],
    folder_files: Callable[[], set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the third file does not fit, the first two go too, and no turn is kept."""
    calls = iter([0, 0, errno.ENOSPC])
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if number := next(calls, 0):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    with monkeypatch.context() as patched, pytest.raises(HistoryError) as full:
        patched.setattr("qwen_vl_app.history.durable.os.fsync", fsync)
        store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    assert full.value.code == "history.disk_full"
    assert folder_files() == set()
    assert store.conversations(OWNER) == ()
    store.begin_turn(OWNER, Question("?", (picture("x"),)), title="t")
    assert len(folder_files()) == 4


def test_a_folder_moved_away_is_noticed(store: HistoryStore, folder: Path) -> None:
    """Nothing is acknowledged into a file that has lost its name, and nothing appears in the old place."""
    turn = store.begin_turn(OWNER, Question("kept"), title="t")
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    calls: list[Callable[[], object]] = [
        lambda: store.begin_turn(OWNER, Question("lost"), title="t"),
        lambda: store.turn(OWNER, turn.id),
    ]
    for call in calls:
        with pytest.raises(HistoryError) as refused:
            call()
        assert refused.value.code == "history.vanished"
    assert not folder.exists()
    elsewhere.rename(folder)
    assert store.turn(OWNER, turn.id).question == "kept"


def test_a_database_held_by_another_program_is_said_to_be_busy(
    store: HistoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that does not go away within the time-out is a sentence and not a hang; afterwards writing works."""
    monkeypatch.setattr("qwen_vl_app.history.database.BUSY_TIMEOUT_S", 0.1)
    store.close()
    store.open()
    with closing(sqlite3.connect(folder / "history.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError) as busy:
            store.begin_turn(OWNER, Question("?"), title="t")
        other.execute("ROLLBACK")
    assert busy.value.code == "history.busy"
    assert store.begin_turn(OWNER, Question("?"), title="t").id == 1
