"""A backup made while the app runs brings everything back, and a broken one changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qwen_vl_app.chat import Question, Rendition, StagedPicture
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, backup

OWNER = "a-browser"


def entries(folder: Path) -> set[str]:
    """What lies in a data folder."""
    return {entry.name for entry in folder.iterdir()}


def test_a_backup_brings_everything_back(
    store: HistoryStore, picture: Callable[..., StagedPicture], tmp_path: Path
) -> None:
    """Into a new folder, with every owner's turns, pictures and words; the app went on meanwhile."""
    turn = store.begin_turn(OWNER, Question("kept 发票", (picture("x"),)), title="t")
    store.begin_turn("b", Question("theirs"), title="t")
    size = store.backup(tmp_path / "copy.zip")
    assert size == (tmp_path / "copy.zip").stat().st_size
    store.begin_turn(OWNER, Question("later"), title="t")
    assert entries(tmp_path) - {store._folder.path.name} == {"copy.zip"}

    assert HistoryStore.restore(tmp_path / "new", tmp_path / "copy.zip") is None

    other = HistoryStore(tmp_path / "new")
    other.open()
    assert other.notices == ()
    assert [hit.turn_id for hit in other.search(OWNER, "发票").hits] == [turn.id]
    assert other.picture_bytes(OWNER, turn.pictures[0].id, Rendition.UPLOAD).data == picture("x").upload
    assert len(other.conversations("b")) == len(other.conversations(OWNER)) == 1
    other.close()
    assert entries(tmp_path / "new") == {"history.db", "history.lock", "pictures", "reserve", "audit.jsonl"}


def test_what_was_there_is_set_aside(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder: Path, tmp_path: Path
) -> None:
    """Restoring destroys nothing: the history of before lies in a folder that the reason names."""
    first = store.begin_turn(OWNER, Question("first", (picture("x"),)), title="t")
    store.backup(tmp_path / "copy.zip")
    store.erase_conversation(OWNER, first.conversation_id)
    store.begin_turn(OWNER, Question("second", (picture("y"),)), title="t")
    with pytest.raises(HistoryError, match=r"history\.in_use"):
        HistoryStore.restore(folder, tmp_path / "copy.zip")
    store.close()

    reason = HistoryStore.restore(folder, tmp_path / "copy.zip")

    assert reason is not None
    assert (reason.code, dict(reason.facts)) == ("history.replaced", {"folder": "replaced-1"})
    store.open()
    assert store.notices == ()
    assert [head.title for head in store.conversations(OWNER)] == ["t"]
    assert store.turn(OWNER, first.id).question == "first"
    store.close()
    aside = HistoryStore(folder / "replaced-1")
    aside.open()
    (head,) = aside.conversations(OWNER)
    assert aside.turns(OWNER, head.id)[0].question == "second"
    aside.close()


def test_what_is_erased_meanwhile_is_not_in_the_copy(
    store: HistoryStore, picture: Callable[..., StagedPicture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure while pictures are being copied makes the copy begin again."""
    gone = store.begin_turn(OWNER, Question("gone-marker", (picture("gone"),)), title="t")
    store.begin_turn(OWNER, Question("stays", (picture("x"),)), title="t")
    real, calls = backup._add, []

    def add(*args: object) -> str:
        calls.append(1)
        if len(calls) == 3:
            # By another thread, as a page would: the copy is not holding the history.
            eraser = threading.Thread(target=store.erase_conversation, args=(OWNER, gone.conversation_id))
            eraser.start()
            eraser.join(timeout=60)
            assert not eraser.is_alive()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_add", add)
    store.backup(tmp_path / "copy.zip")
    archive = zipfile.ZipFile(tmp_path / "copy.zip")
    assert b"gone-marker" not in archive.read("history.db")
    assert sum(name.startswith("pictures/") for name in archive.namelist()) == 4


class TestBesideAnApp:
    """A copy made by another process than the one that uses the folder."""

    def test_it_brings_everything_back_and_leaves_nothing(
        self, store: HistoryStore, picture: Callable[..., StagedPicture], folder: Path, tmp_path: Path
    ) -> None:
        """The app's audit file tells of it with its next line."""
        turn = store.begin_turn(OWNER, Question("kept", (picture("x"),)), title="t")
        size = HistoryStore.backup_in_use(folder, tmp_path / "copy.zip")
        assert size == (tmp_path / "copy.zip").stat().st_size
        assert entries(tmp_path) == {"copy.zip", folder.name}
        store.begin_turn(OWNER, Question("later"), title="t")
        assert store.verify_audit().is_sound
        kinds = [json.loads(line)["kind"] for line in (folder / "audit.jsonl").read_text().splitlines()]
        assert kinds[-2:] == ["backed_up", "asked"]
        assert HistoryStore.restore(tmp_path / "new", tmp_path / "copy.zip") is None
        other = HistoryStore(tmp_path / "new")
        other.open()
        assert other.notices == ()
        assert other.picture_bytes(OWNER, turn.pictures[0].id, Rendition.UPLOAD).data == picture("x").upload
        assert len(other.conversations(OWNER)) == 1
        other.close()

    @pytest.mark.parametrize("times", [1, 99])
    def test_what_is_erased_meanwhile_is_not_in_it(
        self,
        store: HistoryStore,
        picture: Callable[..., StagedPicture],
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        times: int,
    ) -> None:
        """It begins again; where erasing never ends, it gives up with a sentence and leaves nothing."""
        for number in range(8):
            store.begin_turn(OWNER, Question(f"gone-marker {number}", (picture(f"gone {number}"),)), title="t")
        real = backup._add
        erased: list[object] = []

        def add(archive: zipfile.ZipFile, entry: str, file: Path, compression: int) -> str:
            if entry != "history.db" and len(erased) < times:
                erased.append(store.erase_conversation(OWNER, store.conversations(OWNER)[0].id))
            return real(archive, entry, file, compression) if file.exists() else ""

        monkeypatch.setattr(backup, "_add", add)
        if times > 1:
            with pytest.raises(HistoryError, match=r"history\.backup_disturbed"):
                HistoryStore.backup_in_use(folder, tmp_path / "copy.zip")
            assert entries(tmp_path) == {folder.name}
            return
        HistoryStore.backup_in_use(folder, tmp_path / "copy.zip")
        told = zipfile.ZipFile(tmp_path / "copy.zip").read("history.db")
        assert b"gone-marker 7" not in told
        assert b"gone-marker 6" in told

    def test_a_damaged_database_is_not_taken_for_a_history(self, folder: Path, tmp_path: Path) -> None:
        """Nor is a folder without one."""
        folder.mkdir()
        for content in (b"", b"garbage" * 1000):
            (folder / "history.db").write_bytes(content)
            with pytest.raises(HistoryError):
                HistoryStore.backup_in_use(folder, tmp_path / "copy.zip")
        (folder / "history.db").unlink()
        with pytest.raises(HistoryError):
            HistoryStore.backup_in_use(folder, tmp_path / "copy.zip")
        assert entries(tmp_path) == {folder.name}


def spoil(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Change entries of a ZIP in place."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            if content is not None:
                archive.writestr(name, content)


def escape(name: str, content: bytes) -> bytes:
    """Name a picture that would lie elsewhere."""
    if name != "manifest.json":
        return content
    told = json.loads(content)
    told["sha256"]["../../outside"] = "0" * 64
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda name, content: content[:-1] + b"!" if name.startswith("pictures/") else content,
        lambda name, content: content[:5000] if name == "history.db" else content,
        lambda name, content: None if name == "history.db" else content,
        lambda name, content: None if name == "manifest.json" else content,
        lambda name, content: None if name.startswith("pictures/") else content,
        lambda name, content: b"[1]" if name == "manifest.json" else content,
        escape,
    ],
)
def test_a_damaged_backup_changes_nothing(
    store: HistoryStore,
    picture: Callable[..., StagedPicture],
    folder: Path,
    tmp_path: Path,
    change: Callable[[str, bytes], bytes | None],
) -> None:
    """What was here stays, nothing lies beside it, and the sentence says that nothing was changed."""
    turn = store.begin_turn(OWNER, Question("kept", (picture("x"),)), title="t")
    copy = tmp_path / "copy.zip"
    store.backup(copy)
    store.close()
    before = entries(folder)
    spoil(copy, change)
    with pytest.raises(HistoryError) as refused:
        HistoryStore.restore(folder, copy)
    assert refused.value.code == "history.not_a_backup"
    assert entries(folder) == before
    assert entries(tmp_path) == {"copy.zip", folder.name}
    store.open()
    assert store.turn(OWNER, turn.id).question == "kept"
    store.close()


def test_broken_packing_is_a_damaged_backup(store: HistoryStore, tmp_path: Path) -> None:
    """Bytes that a bad copy changed within the packed database are no error of the app's own."""
    copy = tmp_path / "copy.zip"
    store.backup(copy)
    with zipfile.ZipFile(copy) as archive:
        entry = archive.getinfo("history.db")
        begin = entry.header_offset + 30 + len(entry.filename) + 20  # its length is written in 64 bits
    content = bytearray(copy.read_bytes())
    content[begin : begin + 20] = b"\xff" * 20
    copy.write_bytes(content)
    with pytest.raises(HistoryError, match=r"history\.not_a_backup"):
        HistoryStore.restore(tmp_path / "new", copy)


@pytest.mark.parametrize(
    "program",
    [
        "CREATE TRIGGER kept BEFORE DELETE ON turns BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW seen AS SELECT question FROM turns",
    ],
)
def test_a_backup_that_brings_a_program_is_refused(
    store: HistoryStore, folder: Path, tmp_path: Path, program: str
) -> None:
    """By a trigger, what is erased would be kept, and the receipt would say that it is gone."""
    copy, database = tmp_path / "copy.zip", tmp_path / "history.db"
    store.backup(copy)
    store.close()
    with zipfile.ZipFile(copy) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        database.write_bytes(archive.read("history.db"))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(program)
        connection.commit()
    manifest["sha256"]["history.db"] = hashlib.sha256(database.read_bytes()).hexdigest()
    with zipfile.ZipFile(copy, "w") as archive:
        archive.write(database, "history.db")
        archive.writestr("manifest.json", json.dumps(manifest))
    with pytest.raises(HistoryError, match=r"history\.not_a_backup"):
        HistoryStore.restore(folder, copy)


def test_what_a_kill_left_of_a_backup_being_put_back_goes(
    store: HistoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next start; and where something held it open then, no erasure calls itself complete before it is gone."""
    store.close()
    left = folder / "restoring"
    left.mkdir()
    (left / "history.db").write_bytes(b"words of everybody")
    with monkeypatch.context() as holding:
        holding.setattr(shutil, "rmtree", lambda *_args, **_how: None)
        store.open()
        assert not store.erase_everything(OWNER).is_complete
    assert store.settle()
    assert not left.exists()
    left.mkdir()
    store.close()
    store.open()
    assert not left.exists()
    store.close()


def test_a_backup_that_does_not_fit_leaves_nothing(store: HistoryStore, folder: Path, tmp_path: Path) -> None:
    """Where the file cannot be written, no half of it stays, and the app goes on."""
    store.begin_turn(OWNER, Question("kept"), title="t")
    with pytest.raises(HistoryError):
        store.backup(tmp_path / "missing" / "copy.zip")
    assert "history.db.snapshot" not in entries(folder)
    store.begin_turn(OWNER, Question("kept"), title="t")
