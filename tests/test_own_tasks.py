"""A person's own tasks: saved for one owner, shared as a file, and never lost to a bad one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import HistoryError, UsageError
from qwen_vl_app.own_tasks import MAX_PROMPT, MAX_TASKS, MAX_TITLE, OwnTask, OwnTasks, as_file, read_tasks

ONE = OwnTask("Plate", "Read the plate at the lower left.", Detail.DETAIL)
TWO = OwnTask("盘点", "数一数螺丝。")


def test_tasks_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    """Another start finds them; another owner does not; saving a name again replaces it."""
    OwnTasks(tmp_path / "tasks").save("a", [TWO, ONE])
    again = OwnTasks(tmp_path / "tasks")
    assert again.of("a") == (ONE, TWO)
    assert again.of("b") == ()
    again.save("a", [OwnTask(" Plate ", "Other words")])
    assert [task.prompt for task in again.of("a")] == ["Other words", TWO.prompt]
    again.remove("a", "Plate")
    assert again.of("a") == (TWO,)
    again.erase("a")
    assert again.of("a") == () and list((tmp_path / "tasks").glob("*.json")) == []


def test_with_no_folder_nothing_is_written(tmp_path: Path) -> None:
    """A site that keeps nothing has them as long as the app runs."""
    tasks = OwnTasks(None)
    tasks.save("a", [ONE])
    assert tasks.of("a") == (ONE,)
    tasks.erase("a")
    assert tasks.of("a") == ()
    assert list(tmp_path.iterdir()) == []


def test_a_shared_file_comes_back_as_it_was() -> None:
    """What one person saved another can add; a rung of a later version is the usual one."""
    assert read_tasks(as_file([ONE, TWO])) == (ONE, TWO)
    later = json.loads(as_file([ONE]))
    later["tasks"][0]["detail"] = "cosmic"
    assert read_tasks(json.dumps(later).encode())[0].detail is Detail.BALANCED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"kind": "other", "tasks": []}',
        b'{"kind": "visual-assistant-tasks", "tasks": {}}',
        b'{"kind": "visual-assistant-tasks", "tasks": [{"title": 1, "prompt": "x"}]}',
        b'{"kind": "visual-assistant-tasks", "tasks": [{"title": "a"}]}',
        b"[" * 100_000,
    ],
)
def test_any_other_file_is_refused_in_a_sentence(data: bytes) -> None:
    """Nothing of a strange file is taken."""
    with pytest.raises(UsageError, match=r"own_tasks\.not_tasks"):
        read_tasks(data)


def test_a_task_needs_a_name_and_a_question_and_there_is_a_limit() -> None:
    """Blank ones and too many are refused; those there are stay."""
    tasks = OwnTasks(None)
    tasks.save("a", [ONE])
    for bad in (OwnTask(" ", "x"), OwnTask("x", "\n")):
        with pytest.raises(UsageError, match=r"own_tasks\.incomplete"):
            tasks.save("a", [bad])
    with pytest.raises(UsageError, match=r"own_tasks\.too_many"):
        tasks.save("a", [OwnTask(f"t{number}", "x") for number in range(MAX_TASKS)])
    assert tasks.of("a") == (ONE,)


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    """It is told and stays, so that a person can look at it; erasing takes it away."""
    tasks = OwnTasks(tmp_path)
    tasks.save("a", [ONE])
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(b"{")
    for call in (lambda: tasks.of("a"), lambda: tasks.save("a", [TWO])):
        with pytest.raises(HistoryError, match=r"own_tasks\.unreadable"):
            call()
    assert file.read_bytes() == b"{"
    tasks.erase("a")
    assert tasks.of("a") == ()


def test_erasing_takes_everything_of_whom_it_is_meant_for(tmp_path: Path) -> None:
    """An owner's with everything of theirs, everybody's with the site's; a period takes none, for they have no day."""
    tasks = OwnTasks(tmp_path)
    for owner in ("a", "b"):
        tasks.save(owner, [ONE, TWO])
    assert tasks.erase("a", until=datetime.now(UTC)).files == 0
    erased = tasks.erase("a")
    assert (erased.files, erased.file_bytes > 100) == (1, True)
    assert tasks.of("a") == () and tasks.of("b") == (ONE, TWO)
    (tmp_path / "left.part").write_bytes(b"cut short")
    assert tasks.erase(None).files == 2
    assert list(tmp_path.iterdir()) == []
    assert tasks.settle()


def test_half_a_file_goes_with_its_owner(tmp_path: Path) -> None:
    """A kill within the very first save left it, and nothing beside it."""
    tasks = OwnTasks(tmp_path)
    tasks.save("a", [ONE])
    (file,) = tmp_path.iterdir()
    file.rename(file.with_suffix(".part"))
    tasks.erase("a")
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_open_goes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was saved meanwhile stays."""
    tasks = OwnTasks(tmp_path)
    for owner in ("a", "b"):
        tasks.save(owner, [ONE])

    def refuse(_file: Path, **_: bool) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        assert tasks.erase(None).files == 0
        assert not tasks.settle()
    tasks.save("b", [TWO])
    assert tasks.settle()
    assert tasks.of("a") == ()
    assert TWO in tasks.of("b")


@pytest.mark.parametrize("character", ["a", "盘", "🔩", '"', "\\", "\x01", "\n"])
def test_what_is_within_the_limits_can_be_read_again(tmp_path: Path, character: str) -> None:
    """However many bytes the characters take: nothing is saved that could then be neither read nor removed nor shared."""
    prompt = "x" + character * (MAX_PROMPT - 2) + "x"
    titles = [f"{number:03}" + (character * MAX_TITLE)[: MAX_TITLE - 3] for number in range(MAX_TASKS)]
    kept = OwnTasks(tmp_path / "tasks")
    kept.save("a", [OwnTask(title, prompt, Detail.LOW_MEMORY) for title in titles])
    first, *others = OwnTasks(tmp_path / "tasks").of("a")
    assert len(others) == MAX_TASKS - 1
    assert first.prompt == prompt
    assert read_tasks(as_file([first, *others])) == (first, *others)
    kept.remove("a", first.title)
    assert kept.of("a") == tuple(others)
