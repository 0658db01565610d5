"""A person's own tasks: saved for one owner, shared as a file, and never lost to a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import HistoryError, UsageError
from qwen_vl_app.own_tasks import MAX_TASKS, OwnTask, OwnTasks, as_file, read_tasks

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
