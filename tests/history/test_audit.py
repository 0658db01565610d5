"""What was done can be told from a file that holds no word of it and in which no line can be changed unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app.chat import Answer, FinishReason, Question, StagedPicture, TurnState
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.history.audit import profile_of
from tests.history.traces import traces

OWNER = "a-browser"


def entries(folder: Path) -> list[dict[str, Any]]:
    """The lines of the file."""
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text(encoding="ascii").splitlines()]


def use(store: HistoryStore, picture: StagedPicture, text: str = "audit-marker") -> int:
    """Ask, answer, rename; return the conversation's id."""
    turn = store.begin_turn(OWNER, Question(text, (picture,)), title=text)
    store.finish_turn(turn.id, Answer(text, FinishReason.STOP), state=TurnState.DONE, fingerprint="w1")
    store.rename(OWNER, turn.conversation_id, text)
    return turn.conversation_id


def test_the_file_tells_what_was_done_and_not_what_was_said(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Kinds, numbers, sizes and hashes of pictures; and it is still there, with the erasure in it, after everything went."""
    staged = picture("audit-marker", name="audit-marker.jpg")
    use(store, staged)
    store.erase_everything(OWNER)
    told = entries(folder)
    assert [entry["kind"] for entry in told] == ["asked", "answered", "renamed", "erased"]
    assert [entry["n"] for entry in told] == [1, 2, 3, 4]
    assert {entry["profile"] for entry in told} == {profile_of(OWNER)}
    assert told[0]["facts"] == {
        "turn": 1,
        "characters": len("audit-marker"),
        "pictures": 1,
        "bytes_1": len(staged.upload),
        "sha256_1": hashlib.sha256(staged.upload).hexdigest(),
    }
    assert told[1]["facts"]["ended"] == "stop"
    assert told[3]["facts"] == {"receipt": 1, "scope": "everything", "turns": 1, "files": 4}
    assert traces(folder, "audit-marker") == set()
    assert OWNER not in (folder / "audit.jsonl").read_text(encoding="ascii")
    report = store.verify_audit()
    assert (report.lines, report.is_sound) == (4, True)


def test_an_empty_history_has_a_sound_file(store: HistoryStore) -> None:
    """Nothing done is nothing to prove."""
    report = store.verify_audit()
    assert (report.lines, report.is_sound) == (0, True)


def change_a_number(lines: list[str]) -> list[str]:
    """Say that more was said."""
    return [lines[0], lines[1].replace('"tokens":0', '"tokens":9'), *lines[2:]]


def forge(lines: list[str]) -> list[str]:
    """Change a line and make its hash anew, as somebody would who knows how."""
    entry = json.loads(lines[2])
    entry.pop("hash")
    entry["at"] = "2001-01-01T00:00:00+00:00"
    digest = hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return [*lines[:2], json.dumps({**entry, "hash": digest}, separators=(",", ":")), *lines[3:]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (change_a_number, "history.audit_changed"),
        (lambda lines: [lines[0].replace('"n":1', '"n": 1'), *lines[1:]], "history.audit_changed"),
        (lambda lines: [*lines[:2], "nonsense", *lines[3:]], "history.audit_changed"),
        (lambda lines: [*lines[:2], *lines[3:]], "history.audit_gap"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "history.audit_gap"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "history.audit_gap"),
        (lambda lines: lines[1:], "history.audit_gap"),
        (lambda lines: lines[:-1], "history.audit_cut"),
        (lambda lines: [], "history.audit_cut"),
        (forge, "history.audit_gap"),
    ],
)
def test_every_change_is_found(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    change: Callable[[list[str]], list[str]],
    code: str,
) -> None:
    """Changed, removed, swapped, doubled, forged and cut off lines, also after the app went on with the file."""
    use(store, picture("x"))
    use(store, picture("y"))
    store.close()
    file = folder / "audit.jsonl"
    changed = change(file.read_text(encoding="ascii").splitlines())
    file.write_text("".join(f"{line}\n" for line in changed), encoding="ascii", newline="\n")
    again = open_store()
    problem = again.verify_audit().problem
    assert problem is not None
    assert problem.code == code
    use(again, picture("z"))
    assert not again.verify_audit().is_sound


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_crash_loses_no_line(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    monkeypatch: pytest.MonkeyPatch,
    part: float,
) -> None:
    """Lines that did not reach the file, or a part of one, or a whole one unnoticed, come to it once."""
    use(store, picture("x"))
    with monkeypatch.context() as patched:

        def die(file: Path, lines: list[str]) -> None:
            whole = "".join(f"{line}\n" for line in lines)
            with file.open("a", encoding="ascii", newline="") as stream:
                stream.write(whole[: int(len(whole) * part)])
            raise OSError(5, "gone")

        patched.setattr("qwen_vl_app.history.audit._append", die)
        store.begin_turn(OWNER, Question("?"), title="t")
        patched.setattr("qwen_vl_app.history.audit._append", lambda *_: die(Path("/dev/null"), []))
        store.close()
    again = open_store()
    assert [entry["n"] for entry in entries(folder)] == [1, 2, 3, 4]
    assert again.verify_audit().is_sound
    use(again, picture("y"))
    assert again.verify_audit().lines == 7


def test_a_disk_that_refuses_the_file_stops_no_question(
    store: HistoryStore, folder: Path, picture: Callable[..., StagedPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines wait and come later."""
    with monkeypatch.context() as patched:

        def refuse(*_args: object) -> None:
            raise OSError(28, "full")

        patched.setattr("qwen_vl_app.history.audit._append", refuse)
        use(store, picture("x"))
    assert not (folder / "audit.jsonl").exists()
    use(store, picture("y"))
    assert store.verify_audit().lines == 6


def test_the_file_outlives_its_database(
    store: HistoryStore, open_store: Callable[[], HistoryStore], folder: Path, picture: Callable[..., StagedPicture]
) -> None:
    """Where the database was lost, the file is continued and says so."""
    use(store, picture("x"))
    store.close()
    (folder / "history.db").write_bytes(b"broken")
    again = open_store()
    assert entries(folder)[-1]["kind"] == "database_replaced"
    use(again, picture("y"))
    report = again.verify_audit()
    assert (report.lines, report.is_sound) == (7, True)
