"""What was acknowledged survives a process that is killed; a folder serves one instance at a time."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from qwen_vl_app.chat import Question, Rendition, StagedPicture, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.texts import render

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def writing_child(folder: Path, run: str) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps turns in the folder; it is killed when the block ends."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("writer.py")), str(folder), run],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield child
    finally:
        child.kill()
        assert child.stdout is not None
        child.stdout.close()
        child.wait(timeout=60)


def test_a_killed_process_loses_nothing_acknowledged(folder: Path, open_store: Callable[[], HistoryStore]) -> None:
    """Five kills in the middle of writing: every question and answer that was acknowledged is there, with its picture."""
    chance = random.Random(7)
    kept: dict[int, tuple[str, int]] = {}
    done: dict[int, tuple[str, int]] = {}
    for run in range(5):
        with writing_child(folder, f"run{run}") as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            lines = [child.stdout.readline() for _ in range(chance.randrange(3, 20))]
            child.kill()
            # What it had already written into the pipe was acknowledged as well.
            lines += child.stdout.readlines()
        for line in lines:
            what, number, text, picture = line.split()
            (kept if what == "kept" else done)[int(number)] = (text, int(picture))

        store = open_store()
        assert store.notices == ()
        for turn_id, (text, picture_id) in kept.items():
            turn = store.turn("owner", turn_id)
            assert turn.question == text
            assert store.picture_bytes("owner", picture_id, Rendition.UPLOAD).data == text.encode() * 1000
            assert turn.state in (TurnState.DONE, TurnState.INTERRUPTED)
        for turn_id, (text, _picture_id) in done.items():
            turn = store.turn("owner", turn_id)
            assert turn.state is TurnState.DONE
            assert turn.answer is not None
            assert turn.answer.text == text * 100
        store.close()
        with closing(sqlite3.connect(folder / "history.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert len(done) >= 5


def test_a_second_instance_is_told_who_holds_the_folder(folder: Path) -> None:
    """While another process has the history, opening it names that process and its port; after its death it opens."""
    with writing_child(folder, "first") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        second = HistoryStore(folder)
        with pytest.raises(HistoryError) as refused:
            second.open()
        assert refused.value.code == "history.in_use"
        holder = child.pid
        if sys.platform == "win32":  # a virtual environment's Python is a launcher there, and the holder its child
            holder = psutil.Process(child.pid).children()[0].pid
        assert dict(refused.value.facts) == {"pid": holder, "port": 8511}
        assert str(holder) in render(refused.value, "en")
        with pytest.raises(HistoryError, match=r"history\.closed"):
            second.conversations("owner")
    second.open()
    second.close()


def test_one_process_cannot_open_a_folder_twice(store: HistoryStore, folder: Path) -> None:
    """A second store on the same folder is refused like a second process, and the first goes on working."""
    with pytest.raises(HistoryError) as refused:
        HistoryStore(folder).open()
    assert refused.value.code == "history.in_use"
    assert refused.value.facts["pid"] == os.getpid()
    with pytest.raises(HistoryError, match=r"history\.already_open"):
        store.open()
    assert store.begin_turn("o", Question("?"), title="t").id == 1


def test_a_closed_store_opens_again(store: HistoryStore) -> None:
    """Closing is complete and may be repeated; calls in between say that the history is closed."""
    turn = store.begin_turn("o", Question("?"), title="t")
    store.close()
    store.close()
    with pytest.raises(HistoryError, match=r"history\.closed"):
        store.begin_turn("o", Question("?"), title="t")
    store.open()
    assert store.turn("o", turn.id).question == "?"
    store.close()


def test_making_a_store_touches_no_disk(folder: Path) -> None:
    """Nothing happens before `open`."""
    HistoryStore(folder)
    assert not folder.exists()


def later(path: Path) -> None:
    """Touch it two seconds from now: a file system's own clock may stand still for longer than a test takes."""
    moment = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(moment, moment))


def test_a_folder_that_was_left_well_is_not_read_through(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a clean end nothing is checked again; after a kill, or where anybody touched the files, everything is."""
    store.begin_turn("o", Question("?", (picture("x"),)), title="t")
    swept: list[int] = []
    real = PictureFiles.sweep

    def sweep(files: PictureFiles, referenced: Collection[str]) -> int:
        swept.append(1)
        return real(files, referenced)

    monkeypatch.setattr(PictureFiles, "sweep", sweep)
    store.close()
    open_store().close()
    assert len(swept) == 0
    lock = folder / "history.lock"
    mark = lock.read_bytes()
    lock.write_bytes(b"")
    open_store().close()
    assert len(swept) == 1
    # The mark of another time does not fit any more.
    (folder / "pictures" / "ab").mkdir(exist_ok=True)
    (folder / "pictures" / "ab" / "stray").write_bytes(b"x")
    later(folder / "pictures" / "ab")
    later(folder / "pictures")
    assert lock.read_bytes() != b""
    assert mark != b""
    open_store().close()
    assert len(swept) == 2
    later(folder / "history.db")
    open_store().close()
    assert len(swept) == 3
    with writing_child(folder, "killed") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
    open_store().close()
    assert len(swept) == 4
