"""Whatever is erased is gone from every byte of the folder, with a receipt, and nothing else goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from qwen_vl_app.chat import (
    Answer,
    Box,
    FinishReason,
    Message,
    ParsedAnswer,
    Question,
    Region,
    Rendition,
    SamplingParams,
    StagedPicture,
    TurnState,
)
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, answer_key
from qwen_vl_app.history.folder import give_up_reserve, refill_reserve
from tests.history.traces import traces

OWNER = "a-browser"
ROOT = Path(__file__).resolve().parents[2]


def ask(
    store: HistoryStore,
    text: str,
    *,
    into: int | None = None,
    owner: str = OWNER,
    pictures: tuple[StagedPicture, ...] = (),
) -> int:
    """Keep a finished turn about the text; return its id."""
    turn = store.begin_turn(owner, Question(text, pictures, into), title=text)
    store.finish_turn(turn.id, Answer(f"answer of {text}", FinishReason.STOP), state=TurnState.DONE)
    return turn.id


def test_an_erased_turn_leaves_its_neighbours(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """The turn before and the turn after stay, now side by side; the receipt counts what went."""
    first = ask(store, "first", pictures=(picture("shared"),))
    where = store.turn(OWNER, first).conversation_id
    middle = ask(store, "Middle-marker", into=where, pictures=(picture("middle"), picture("shared")))
    last = ask(store, "last", into=where)
    store.answer_cache.keep(OWNER, "k", middle)

    receipt = store.erase_turn(OWNER, middle)

    assert receipt.is_complete
    assert (receipt.scope, receipt.conversations, receipt.turns, receipt.pictures) == ("turn", 0, 1, 2)
    assert (receipt.files, receipt.cached_answers) == (4, 1)
    assert receipt.file_bytes == sum(
        len(part)
        for part in (
            picture("middle").upload,
            picture("middle").view,
            picture("middle").thumbnail,
            picture("middle").seen_png,
        )
    )
    assert {caveat.code for caveat in receipt.caveats} == {"history.cannot_promise"}
    assert [turn.id for turn in store.turns(OWNER, where)] == [first, last]
    assert store.turn(OWNER, last).parent_id == first
    kept = store.turn(OWNER, first).pictures[0]
    assert store.picture_bytes(OWNER, kept.id, Rendition.UPLOAD).data == picture("shared").upload
    assert traces(folder, "middle") == set()
    assert store.receipts(OWNER) == (receipt,)
    assert store.receipts("b-browser") == ()


def test_the_title_goes_with_the_question_it_is_made_of(store: HistoryStore, folder: Path) -> None:
    """A title that is words of an erased question becomes words of the next one; one that a person chose stays."""
    first = ask(store, "marker-alpha and more")
    where = store.turn(OWNER, first).conversation_id
    second = ask(store, "beta", into=where)
    store.erase_turn(OWNER, first)
    assert store.conversation(OWNER, where).title == "beta"
    assert [hit.turn_id for hit in store.search(OWNER, "beta").hits] == [second]
    assert traces(folder, "marker-alpha") == set()
    store.rename(OWNER, where, "chosen")
    third = ask(store, "gamma", into=where)
    store.erase_turn(OWNER, second)
    assert store.conversation(OWNER, where).title == "chosen"
    assert [hit.turn_id for hit in store.search(OWNER, "chosen").hits] == [third]
    assert store.erase_turn(OWNER, third).conversations == 1
    assert store.conversations(OWNER) == ()


def test_erasing_the_shown_branch_shows_another(store: HistoryStore) -> None:
    """Where the last turn of the shown branch goes, one that stands in its place is shown; branches keep their parents."""
    first = ask(store, "a")
    where = store.turn(OWNER, first).conversation_id
    second = ask(store, "b", into=where)
    third = store.begin_turn(OWNER, Question("c"), title="", beside=second).id
    fourth = ask(store, "d", into=where)
    store.erase_turn(OWNER, fourth)
    assert [turn.question for turn in store.turns(OWNER, where)] == ["a", "c"]
    store.erase_turn(OWNER, first)
    assert (store.turn(OWNER, second).parent_id, store.turn(OWNER, third).parent_id) == (None, None)
    store.switch_branch(OWNER, second)
    assert [turn.question for turn in store.turns(OWNER, where)] == ["b"]


def test_erasing_the_end_of_the_shown_branch_leaves_the_rest_of_it_shown(store: HistoryStore) -> None:
    """Not another version of the whole conversation, be it newer."""
    first = ask(store, "a")
    where = store.turn(OWNER, first).conversation_id
    second, third = ask(store, "b", into=where), ask(store, "c", into=where)
    store.begin_turn(OWNER, Question("another a"), title="", beside=first)
    store.switch_branch(OWNER, first)
    store.erase_turn(OWNER, third)
    assert [turn.question for turn in store.turns(OWNER, where)] == ["a", "b"]
    store.erase_turn(OWNER, second)
    assert [turn.question for turn in store.turns(OWNER, where)] == ["a"]
    store.erase_turn(OWNER, first)
    assert [turn.question for turn in store.turns(OWNER, where)] == ["another a"]


def test_a_day_is_erased(store: HistoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's turns of that day go, in whatever conversation, and nobody else's and no other day's."""
    day = datetime(2026, 3, 2, tzinfo=UTC)
    turns = {}
    for name, moment, owner in (
        ("before", day - timedelta(seconds=1), OWNER),
        ("Dawn-marker", day, OWNER),
        ("dusk-marker", day + timedelta(hours=23), OWNER),
        ("after", day + timedelta(days=1), OWNER),
        ("theirs", day, "b-browser"),
    ):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None, moment: datetime = moment) -> datetime:  # type: ignore[override]
                return moment

        monkeypatch.setattr("qwen_vl_app.history.turn_keeping.datetime", Clock)
        turns[name] = ask(store, name, owner=owner)
    receipt = store.erase_period(OWNER, since=day, until=day + timedelta(days=1))
    assert (receipt.scope, receipt.turns, receipt.conversations) == ("period", 2, 2)
    assert {hit.turn_id for hit in store.search(OWNER).hits} == {turns["before"], turns["after"]}
    assert store.turn("b-browser", turns["theirs"]).question == "theirs"
    assert traces(folder, "-marker") == set()
    empty = store.erase_period(OWNER, since=day, until=day + timedelta(days=1))
    assert (empty.is_complete, empty.turns) == (True, 0)


def test_everything_of_an_owner_is_erased(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture], folder_files: Callable[[], set[str]]
) -> None:
    """All their conversations and pictures; another's same picture stays, and new questions get new ids."""
    marker = "Zx7-everything"
    for number in range(4):
        last = ask(store, f"{marker} {number}", pictures=(picture(marker, name=f"{marker}.jpg"),))
    theirs = ask(store, "theirs", owner="b-browser", pictures=(picture("plain"),))
    receipt = store.erase_everything(OWNER)
    assert (receipt.scope, receipt.conversations, receipt.turns, receipt.files) == ("everything", 4, 4, 4)
    assert store.conversations(OWNER) == ()
    assert store.search(OWNER).hits == ()
    assert len(folder_files()) == 4
    assert store.turn("b-browser", theirs).question == "theirs"
    assert traces(folder, marker) == set()
    assert ask(store, "new") > last


def test_only_ones_own_is_erased(store: HistoryStore) -> None:
    """Somebody else's turn or conversation is not found; nothing goes and no receipt is written."""
    turn = ask(store, "mine")
    calls: list[Callable[[], object]] = [
        lambda: store.erase_turn("b-browser", turn),
        lambda: store.erase_conversation("b-browser", store.turn(OWNER, turn).conversation_id),
        lambda: store.erase_turn(OWNER, 99),
    ]
    for call in calls:
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            call()
    assert store.turn(OWNER, turn).question == "mine"
    assert store.receipts(OWNER) == store.receipts("b-browser") == ()


def test_a_receipt_is_pending_until_the_reader_goes(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path
) -> None:
    """A foreign program on the database keeps old pages readable: the receipt says so, and is complete later."""
    first, second = ask(store, "marker-one"), ask(store, "marker-two")
    with closing(sqlite3.connect(folder / "history.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        pending = store.erase_turn(OWNER, first)
        assert not pending.is_complete
        assert not store.settle()
        assert traces(folder, "marker-one") != set()
        reader.rollback()
    assert store.settle()
    (complete,) = store.receipts(OWNER)
    assert (complete.id, complete.is_complete, complete.asked_at) == (pending.id, True, pending.asked_at)
    assert traces(folder, "marker-one") == set()
    with closing(sqlite3.connect(folder / "history.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        assert not store.erase_turn(OWNER, second).is_complete
        store.close()
        reader.rollback()
    again = open_store()
    assert all(receipt.is_complete for receipt in again.receipts(OWNER))
    assert traces(folder, "marker-two") == set()


def test_a_file_that_cannot_be_deleted_is_deleted_later(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another program holds a picture open, as on Windows, the receipt is pending until the file is gone."""
    turn = ask(store, "?", pictures=(picture("held-marker"),))
    with monkeypatch.context() as patched:
        real = Path.unlink

        def refuse(file: Path, missing_ok: bool = False) -> None:
            if len(file.name) == 64:
                raise PermissionError(13, "held")
            real(file, missing_ok=missing_ok)

        patched.setattr(Path, "unlink", refuse)
        assert not store.erase_turn(OWNER, turn).is_complete
        assert traces(folder, "held-marker") != set()
    ask(store, "the next write tries again")
    assert store.receipts(OWNER)[0].is_complete
    assert traces(folder, "held-marker") == set()


def test_folders_that_were_set_aside_are_named(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path
) -> None:
    """What was quarantined earlier may hold the erased words: the receipt says how many such folders there are."""
    ask(store, "?")
    store.close()
    (folder / "history.db").write_bytes(b"broken")
    again = open_store()
    receipt = again.erase_turn(OWNER, ask(again, "x"))
    (caveat,) = (caveat for caveat in receipt.caveats if caveat.code == "history.set_aside_stays")
    assert caveat.facts["count"] == 1


def test_a_site_erases_everything_of_everybody(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """All owners' turns and what was set aside earlier: quarantined databases and replaced ones."""
    ask(store, "aside-marker", pictures=(picture("aside-marker"),))
    store.close()
    database = (folder / "history.db").read_bytes()
    (folder / "history.db").write_bytes(database[:8192] + b"broken")
    again = open_store()
    assert again.notices != ()
    ask(again, "mine-marker")
    ask(again, "their-marker", owner="b-browser")
    again.erase_everything(OWNER)
    assert traces(folder, "aside-marker") != set()
    receipt = again.erase_site()
    assert (receipt.is_complete, receipt.turns, len(receipt.caveats)) == (True, 1, 1)
    assert traces(folder, "-marker") == set()
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith("damaged")] == []
    assert again.receipts("") == (receipt,)
    assert again.conversations("b-browser") == ()


def test_erasing_works_on_a_full_disk(store: HistoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even a deletion fits, the reserve is given up for it; with room again there is a reserve again."""
    turn = ask(store, "full-marker " * 500)
    reserve = folder / "reserve"
    assert reserve.stat().st_size > 2**20
    failed = []

    def full(_c: object, _cu: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM turns") and reserve.exists():
            failed.append(statement)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    event.listen(Engine, "before_cursor_execute", full)
    try:
        receipt = store.erase_turn(OWNER, turn)
    finally:
        event.remove(Engine, "before_cursor_execute", full)
    assert len(failed) == 1
    assert receipt.is_complete
    assert traces(folder, "full-marker") == set()
    assert reserve.stat().st_size > 2**20


def test_a_history_opens_on_a_full_disk(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing more can be written, the reserve makes room to read and to erase; what is free goes into it again."""
    turn = ask(store, "full-marker")
    store.close()
    reserve = folder / "reserve"
    real = os.write

    def write(descriptor: int, content: bytes) -> int:
        if reserve.exists():
            raise OSError(28, "full")
        return real(descriptor, content)

    with monkeypatch.context() as patched:
        patched.setattr("qwen_vl_app.history.lock.os.write", write)
        again = open_store()
    assert again.turn(OWNER, turn).question == "full-marker"
    assert again.erase_turn(OWNER, turn).is_complete
    assert reserve.stat().st_size > 2**20


def test_the_reserve_leaves_a_little_room(store: HistoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a nearly full disk it takes what there is but for a little; of a full one nothing."""
    usage = type(shutil.disk_usage(folder))
    for free, expected in ((2**20, 2**20 - 2**18), (2**10, None)):
        give_up_reserve(folder)
        monkeypatch.setattr(
            "qwen_vl_app.history.folder.shutil.disk_usage", lambda _, free=free: usage(2**30, 2**30, free)
        )
        refill_reserve(folder)
        reserve = folder / "reserve"
        assert (reserve.stat().st_size if reserve.exists() else None) == expected
    assert store.conversations(OWNER) == ()


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.picture_files import PictureFiles

def die(*_args, **_given):
    os.kill(os.getpid(), signal.SIGKILL)

store = HistoryStore(Path(sys.argv[1]))
store.open()
if sys.argv[2] == "site":
    store.erase_everything("a-browser")
    shutil.rmtree = die
    store.erase_site()
{"files": lambda: setattr(PictureFiles, "remove", die), "log": lambda: setattr(Database, "checkpoint", die)}[sys.argv[2]]()
store.erase_everything("a-browser")
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
def test_a_site_erasure_that_was_killed_takes_what_was_set_aside(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path
) -> None:
    """The next start removes those folders too, and only then."""
    store.close()
    (folder / "damaged-1").mkdir()
    (folder / "damaged-1" / "history.db").write_bytes(b"killed-marker")
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), "site"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL
    assert traces(folder, "killed-marker") == {"history.db"}
    open_store()
    assert traces(folder, "killed-marker") == set()


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
@pytest.mark.parametrize("moment", ["files", "log"])
def test_an_erasure_that_was_killed_is_finished_at_the_next_start(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    moment: str,
) -> None:
    """Killed after the rows went, before the files or before the log was emptied: nothing is left after a start."""
    ask(store, "killed-marker", pictures=(picture("killed-marker"),))
    store.close()
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), moment],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL
    assert traces(folder, "killed-marker") != set()
    again = open_store()
    assert traces(folder, "killed-marker") == set()
    (receipt,) = again.receipts(OWNER)
    assert (receipt.scope, receipt.turns, receipt.is_complete) == ("everything", 1, True)


def test_no_marker_is_found_after_everything_was_used_and_erased(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, tmp_path: Path
) -> None:
    """Markers in text, title, file name, picture bytes, answer structure, branches, search, cache, export and backup."""
    from tests.history.conftest import picture_of

    marker = "QxJ-Proof-Marker"
    pictures = tuple(picture_of(f"{marker}{number}", name=f"{marker}{number}.jpg") for number in range(2))
    first = store.begin_turn(OWNER, Question(f"{marker} question", pictures), title=f"{marker} title")
    for words in range(1, 30):
        store.keep_partial(first.id, f"{marker} " * words)
    region = Region(Box(0, 0, 1, 1), f"{marker} label")
    answer = Answer(f"{marker} " * 500, FinishReason.STOP, ParsedAnswer({marker: [marker]}, True, (region,)))
    store.replace_seen(first.id, pictures[::-1])
    store.finish_turn(first.id, answer, state=TurnState.DONE, fingerprint="w")
    key = answer_key(OWNER, [Message("user", marker)], sampling=SamplingParams(), fingerprint="w")
    assert store.answer_cache.keep(OWNER, key, first.id)
    assert store.answer_cache.find(OWNER, key) is not None
    store.begin_turn(OWNER, Question(f"{marker} again", pictures), title="", beside=first.id)
    store.rename(OWNER, first.conversation_id, f"{marker} renamed")
    store.pin(OWNER, first.conversation_id)
    assert store.search(OWNER, marker).hits
    with (tmp_path / "export.zip").open("wb") as target:
        store.export(target, owner=OWNER)
    with (tmp_path / "export.zip").open("rb") as source:
        store.import_archive(source, owner=OWNER)
    store.backup(tmp_path / "backup.zip")
    store.close()
    again = open_store()
    assert len(traces(folder, marker)) > 4

    receipt = again.erase_everything(OWNER)

    assert receipt.is_complete
    assert receipt.turns == 4
    assert traces(folder, marker) == traces(folder, "Proof-Mark") == set()
    again.close()
    assert traces(folder, marker) == set()
