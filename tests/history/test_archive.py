"""Conversations can be taken away, read without the app, and brought in elsewhere; nothing in an archive is trusted."""

from __future__ import annotations

import errno
import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Namespace
from typing import Any

import pytest

from qwen_vl_app.chat import (
    Answer,
    FinishReason,
    ParsedAnswer,
    Question,
    Rendition,
    StagedPicture,
    Timing,
    Turn,
    TurnState,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import HistoryStore, picture_files
from qwen_vl_app.history import archive as archive_module
from qwen_vl_app.texts import Language

OWNER = "a-browser"
ANSWER = Answer(
    "It reads **42** [here](http://outside.example/x)",
    FinishReason.STOP,
    ParsedAnswer(data={"reading": 42}, has_data=True),
    timing=Timing(total_s=1.25),
    model="demo",
    notes=(Reason("x", y=1),),
)


def converse(store: HistoryStore, picture: Callable[..., StagedPicture]) -> int:
    """A conversation of two branches with two pictures; the first branch is shown. Returns its id."""
    first = store.begin_turn(OWNER, Question("什么 <b>?", (picture("x", name="a](b.jpg"),)), title="锅炉 #1")
    store.finish_turn(first.id, ANSWER, state=TurnState.DONE, fingerprint="abcdef0123456789", precision="bf16")
    where = first.conversation_id
    second = store.begin_turn(OWNER, Question("and", (picture("y"), picture("x")), where), title="")
    store.finish_turn(second.id, replace(ANSWER, text="yes"), state=TurnState.DONE)
    store.begin_turn(OWNER, Question("or"), title="", beside=second.id)
    store.switch_branch(OWNER, second.id)
    store.pin(OWNER, where)
    return where


def exported(store: HistoryStore, **given: Any) -> zipfile.ZipFile:
    """An archive of the store."""
    target = io.BytesIO()
    store.export(target, owner=OWNER, **given)
    target.seek(0)
    return zipfile.ZipFile(target)


def changed(archive: zipfile.ZipFile, change: Callable[[str, bytes], bytes | None]) -> io.BytesIO:
    """The archive with entries changed, or left out where the change is None."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as other:
        for name in archive.namelist():
            content = change(name, archive.read(name))
            if content is not None:
                other.writestr(name, content)
    target.seek(0)
    return target


def without_numbers(turn: Turn) -> Turn:
    """The turn as it is whatever ids it was given."""
    pictures = tuple(replace(each, id=0) for each in turn.pictures)
    return replace(turn, id=0, conversation_id=0, parent_id=None, branch_ids=(), pictures=pictures)


def test_a_conversation_is_readable_without_the_app(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Markdown of the shown branch with its pictures beside it, in the language asked for; one entry a picture file."""
    conversation = converse(store, picture)
    archive = exported(store, conversation_ids=[conversation], clean=lambda words: words.replace("http://", "⟨link⟩"))
    (name,) = json.loads(archive.read("manifest.json"))["conversations"]
    assert name == "0001-锅炉-1"
    text = archive.read(f"{name}/conversation.md").decode()
    assert text.startswith("# 锅炉 \\#1\n")
    assert "## Question · 2" in text
    assert "It reads **42** [here](⟨link⟩outside.example/x)" in text
    assert "abcdef012345 bf16" in text
    assert "1.2 s" in text
    assert "in conversation.json: 1." in text
    assert "\nor\n" not in text
    links = [line.rpartition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert text.count("![a\\]\\(b.jpg](") == 1
    assert [archive.read(f"{name}/{link}") for link in links] == [
        picture("x").view,
        picture("y").view,
        picture("x").view,
    ]
    assert sum("/pictures/" in entry for entry in archive.namelist()) == 8
    assert len(set(archive.namelist())) == len(archive.namelist())
    chinese = exported(store, language=Language.CHINESE).read(f"{name}/conversation.md").decode()
    assert "## 问题 · 2" in chinese


def test_everything_comes_in_elsewhere(
    store: HistoryStore, picture: Callable[..., StagedPicture], tmp_path: Path
) -> None:
    """Another folder and another owner get the same conversations: branches, answers, times, pictures, pins, words."""
    one = converse(store, picture)
    store.correct(OWNER, store.turns(OWNER, one)[0].id, "it was 43")
    store.begin_turn(OWNER, Question("alone"), title="second")
    store.begin_turn("b-browser", Question("not mine"), title="theirs")
    other = HistoryStore(tmp_path / "elsewhere")
    other.open()
    other.begin_turn("somebody", Question("here before"), title="t")
    archive = exported(store)
    assert archive.fp is not None
    archive.fp.seek(0)

    ids = other.import_archive(archive.fp, owner="me")

    assert {head.title for head in other.conversations("me")} == {"锅炉 #1", "second"}
    first = other.conversation("me", ids[0])
    assert (first.is_pinned, first.turn_count) == (True, 3)
    before, after = store.turns(OWNER, one), other.turns("me", ids[0])
    assert [without_numbers(turn) for turn in after] == [without_numbers(turn) for turn in before]
    assert len(after[1].branch_ids) == 2
    assert [each.text for each in other.corrections("me", after[0].id)] == ["it was 43"]
    text = archive.read("0001-锅炉-1/conversation.md").decode()
    assert text.index("## Answer") < text.index("## Correction · 2") < text.index("it was 43") < text.index("\nand\n")
    (left,) = (turn for turn in other.branches("me", after[1].id) if turn.id != after[1].id)
    assert (left.question, left.state) == ("or", TurnState.INTERRUPTED)
    for turn, original in zip(after, before, strict=True):
        for kept, former in zip(turn.pictures, original.pictures, strict=True):
            for form in Rendition:
                assert other.picture_bytes("me", kept.id, form) == store.picture_bytes(OWNER, former.id, form)
    assert [hit.turn_id for hit in other.search("me", "什么").hits] == [after[0].id]
    other.begin_turn("me", Question("goes on", conversation_id=ids[0]), title="")
    assert [turn.question for turn in other.turns("me", ids[0])] == ["什么 <b>?", "and", "goes on"]
    other.close()


def test_only_ones_own_is_taken_away(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Somebody else's conversation is not found, and an empty history is an archive of nothing."""
    conversation = converse(store, picture)
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        store.export(io.BytesIO(), owner="b", conversation_ids=[conversation])
    target = io.BytesIO()
    assert store.export(target, owner="b") == 0
    assert store.import_archive(target, owner=OWNER) == ()


def test_lost_pictures_do_not_stop_an_export(
    store: HistoryStore, picture: Callable[..., StagedPicture], folder: Path
) -> None:
    """The words are taken away, and the text says which picture is missing; coming in again it is missing still."""
    converse(store, picture)
    for file in (file for file in (folder / "pictures").rglob("*") if file.is_file()):
        if b"view" in file.read_bytes():
            file.unlink()
    archive = exported(store)
    assert "(the picture a\\]\\(b.jpg is missing)" in archive.read("0001-锅炉-1/conversation.md").decode()
    assert archive.fp is not None
    (brought,) = store.import_archive(archive.fp, owner=OWNER)
    kept = store.turns(OWNER, brought)[0].pictures[0]
    assert store.picture_bytes(OWNER, kept.id, Rendition.UPLOAD).data == picture("x").upload
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        store.picture_bytes(OWNER, kept.id, Rendition.VIEW)


def document(**changes: object) -> Callable[[str, bytes], bytes]:
    """A change of the first turn in the JSON of a conversation."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("conversation.json"):
            return content
        told = json.loads(content)
        told["turns"][0].update(changes)
        return json.dumps(told).encode()

    return change


def parsed(**changes: object) -> Callable[[str, bytes], bytes]:
    """Let the first answer hold something that no answer of the app's does."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("conversation.json"):
            return content
        told = json.loads(content)
        answer = json.loads(told["turns"][0]["answer"])
        answer["parsed"].update(changes)
        told["turns"][0]["answer"] = json.dumps(answer)
        return json.dumps(told).encode()

    return change


def media(mime: str, rendition: str) -> Callable[[str, bytes], bytes]:
    """Let a form of a picture call itself something that a browser would run."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("conversation.json"):
            return content
        told = json.loads(content)
        told["turns"][0]["pictures"][0]["renditions"][rendition]["mime"] = mime
        return json.dumps(told).encode()

    return change


def sized(**sizes: int) -> Callable[[str, bytes], bytes]:
    """Let a picture tell of sizes that none has."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("conversation.json"):
            return content
        told = json.loads(content)
        told["turns"][0]["pictures"][0].update(sizes)
        return json.dumps(told).encode()

    return change


def picture_path(name: str, content: bytes) -> bytes:
    """Let a picture lie outside."""
    return content.replace(b"pictures/", b"../../pictures/") if name.endswith(".json") else content


@pytest.mark.parametrize(
    "change",
    [
        document(state="weird"),
        document(question=7),
        document(sampling="{"),
        document(answer="[]"),
        document(asked_at="yesterday"),
        document(pictures=[{}]),
        document(id="x"),
        picture_path,
        lambda name, content: None if name == "manifest.json" else content,
        lambda name, content: None if name.endswith("conversation.json") else content,
        lambda name, content: None if name.endswith(".png") else content,
        lambda name, content: content[:-1] + b"!" if name.endswith(".png") else content,
        lambda name, content: b"[]" if name.endswith(".json") else content,
        lambda name, content: b"{}" if name.endswith(".json") else content,
        lambda name, content: b"[" * 100_000 if name.endswith("conversation.json") else content,
        document(pictures=[{"renditions": []}]),
        document(id=float("inf")),
        parsed(regions=[{"box": [float("nan"), 0, 1, 1], "label": "x", "picture_index": 0}]),
        parsed(regions=[{"box": [0, 0, 1, "1"], "label": "x", "picture_index": 0}]),
        parsed(regions=[{"box": [0, 0, 1, 1], "label": None, "picture_index": 0}]),
        parsed(tables=[{"columns": ["a"], "rows": [[1]]}]),
        media("text/html", "view"),
        media("text/javascript", "thumbnail"),
        media("image/svg+xml", "upload"),
        sized(width=0),
        sized(seen_height=-28),
        lambda name, content: content.replace(b'"view_mime": "image/jpeg"', b'"view_mime": "text/html"'),
        lambda name, content: content.replace(b"qwen-vl-history", b"something-else"),
    ],
)
def test_a_damaged_archive_changes_nothing(
    store: HistoryStore,
    picture: Callable[..., StagedPicture],
    folder_files: Callable[[], set[str]],
    change: Callable[[str, bytes], bytes | None],
) -> None:
    """Whatever was changed in it, it is refused with one sentence, and no row and no file is left of it."""
    converse(store, picture)
    before, files = store.conversations(OWNER), folder_files()
    source = changed(exported(store), change)
    with pytest.raises(HistoryError) as refused:
        store.import_archive(source, owner="b")
    assert refused.value.code == "history.not_an_archive"
    assert (store.conversations(OWNER), folder_files()) == (before, files)
    assert store.conversations("b") == ()


def test_broken_packing_is_a_damaged_archive(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Bytes that a bad copy changed within packed text are no error of the app's own."""
    converse(store, picture)
    archive = exported(store)
    entry = next(each for each in archive.infolist() if each.filename.endswith("conversation.json"))
    assert archive.fp is not None
    archive.fp.seek(0)
    content = bytearray(archive.fp.read())
    begin = entry.header_offset + 30 + len(entry.filename.encode())
    content[begin : begin + 20] = b"\xff" * 20
    with pytest.raises(HistoryError, match=r"history\.not_an_archive"):
        store.import_archive(io.BytesIO(content), owner="b")


def test_a_disk_that_fills_up_says_so(
    store: HistoryStore, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pictures of an archive find no room, nothing of it stays, and the sentence is the disk's."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    converse(store, picture)
    archive = exported(store)
    assert archive.fp is not None
    monkeypatch.setattr(picture_files, "write_file", full)
    with pytest.raises(HistoryError, match=r"history\.disk_full"):
        store.import_archive(archive.fp, owner="b")
    assert store.conversations("b") == ()


def large(store: HistoryStore, picture: Callable[..., StagedPicture], *, count: int, size: int) -> io.BytesIO:
    """An archive of so many uploads of one size, each of one byte over and over, packed to next to nothing."""
    where: int | None = None
    for number in range(count):
        staged = replace(picture(f"{number}"), upload=bytes([number]) * size)
        where = store.begin_turn(OWNER, Question("?", (staged,), where), title="t").conversation_id
    target = io.BytesIO()
    with exported(store) as stored, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    return target


def test_pictures_come_in_one_at_a_time(
    store: HistoryStore, picture: Callable[..., StagedPicture], tmp_path: Path
) -> None:
    """A small file may hold more than memory does; what is in memory is one picture of it."""
    size = 6 * 2**20
    packed = large(store, picture, count=8, size=size)
    other = HistoryStore(tmp_path / "elsewhere")
    other.open()
    tracemalloc.start()
    try:
        (brought,) = other.import_archive(packed, owner="me")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    kept = [turn.pictures[0] for turn in other.turns("me", brought)]
    uploads = [other.picture_bytes("me", each.id, Rendition.UPLOAD).data for each in kept]
    assert uploads == [bytes([number]) * size for number in range(8)]
    other.close()
    assert peak < 5 * size


def test_a_file_larger_than_the_site_takes_is_refused(
    store: HistoryStore, picture: Callable[..., StagedPicture], tmp_path: Path
) -> None:
    """By what the archive says of it, before it is unpacked; one of just that size comes in."""
    packed = large(store, picture, count=1, size=2**20)
    for limit, is_taken in ((2**20, True), (2**20 - 1, False)):
        other = HistoryStore(tmp_path / f"elsewhere {limit}", largest_upload_bytes=limit)
        other.open()
        if is_taken:
            assert len(other.import_archive(packed, owner="me")) == 1
        else:
            with pytest.raises(HistoryError) as refused:
                other.import_archive(packed, owner="me")
            assert refused.value.reason == Reason("history.archive_too_large", size=2**20, limit=limit)
            assert other.conversations("me") == ()
        other.close()


def test_no_archive_fills_the_disk(
    store: HistoryStore, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs unpacked must leave room; on a small disk it may take half of it."""
    packed = large(store, picture, count=2, size=2**20)
    for free in (3 * 2**20, 512 * 2**20 + 2**20):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: Namespace(free=free))
        if free > 512 * 2**20:
            assert len(store.import_archive(packed, owner="c")) == 1
            continue
        with pytest.raises(HistoryError) as refused:
            store.import_archive(packed, owner="b")
        assert (refused.value.code, refused.value.reason.facts["room"]) == ("history.archive_no_room", free // 2)
    assert store.conversations("b") == ()


def test_what_was_made_to_swell_is_no_export(
    store: HistoryStore, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much room there is: pictures pack badly, so that an export is never a hundred times its file."""
    packed = large(store, picture, count=2, size=2**20)
    monkeypatch.setattr(archive_module, "_SWELLING_FROM_BYTES", 2**20)
    with pytest.raises(HistoryError, match=r"history\.not_an_archive"):
        store.import_archive(packed, owner="b")
    unpacked = exported(store)
    assert unpacked.fp is not None
    assert len(store.import_archive(unpacked.fp, owner="b")) == 1


def test_a_folder_named_twice_is_refused(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """Or one conversation in the file would be any number of them here."""
    converse(store, picture)

    def twice(name: str, content: bytes) -> bytes:
        told = json.loads(content) if name == "manifest.json" else {}
        return json.dumps({**told, "conversations": told["conversations"] * 2}).encode() if told else content

    with pytest.raises(HistoryError, match=r"history\.not_an_archive"):
        store.import_archive(changed(exported(store), twice), owner="b")
    assert store.conversations("b") == ()


def test_a_letter_and_a_newer_archive_are_told_apart(store: HistoryStore) -> None:
    """No archive at all is one sentence, an archive of a version to come another."""
    with pytest.raises(HistoryError, match=r"history\.not_an_archive"):
        store.import_archive(io.BytesIO(b"dear sir"), owner=OWNER)
    newer = changed(exported(store), lambda _, content: content.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(HistoryError, match=r"history\.archive_newer"):
        store.import_archive(newer, owner=OWNER)
