"""A person's own tasks: questions that they saved under a name, in a small file for each owner, and files to share them.

Knows names, prompts and how much detail each wants. Does not know pages, models or pictures. With no folder it keeps them
as long as the process lives, for sites that keep nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qwen_vl_app.chat import Detail, ErasedBeside
from qwen_vl_app.errors import HistoryError, UsageError
from qwen_vl_app.own_files import make_folder, new_file

TASKS_NAME = "tasks"
"""The folder of a site's tasks, in its data folder."""
MAX_TASKS = 200
MAX_TITLE = 80
MAX_PROMPT = 8_000
MAX_FILE_BYTES = MAX_TASKS * (6 * (MAX_TITLE + MAX_PROMPT) + 200)
"""The largest file that tasks within these limits come to: JSON takes up to six bytes for a character."""
_KIND = "visual-assistant-tasks"


@dataclass(frozen=True, slots=True)
class OwnTask:
    """A question to be asked again. `detail` is the rung that it wants."""

    title: str
    prompt: str
    detail: Detail = Detail.BALANCED


class OwnTasks:
    """The tasks of every owner. Any thread. A title is there once: saving it again replaces the task."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, tuple[OwnTask, ...]] = {}
        self._doomed: list[Path] = []
        """Files that were to be removed and were held open."""
        self._lock = threading.Lock()

    def of(self, owner: str) -> tuple[OwnTask, ...]:
        """Return an owner's tasks by title. Raises HistoryError `own_tasks.unreadable`; the file stays as it is."""
        with self._lock:
            return self._read(owner)

    def save(self, owner: str, tasks: Iterable[OwnTask]) -> None:
        """Keep tasks beside those there are. Raises UsageError for one without title or prompt, HistoryError."""
        new = [_checked(task) for task in tasks]
        with self._lock:
            kept = {task.title: task for task in self._read(owner)} | {task.title: task for task in new}
            if len(kept) > MAX_TASKS:
                raise UsageError("own_tasks.too_many", limit=MAX_TASKS)
            self._write(owner, tuple(kept.values()))

    def remove(self, owner: str, title: str) -> None:
        """Let a task go. Raises HistoryError."""
        with self._lock:
            self._write(owner, tuple(task for task in self._read(owner) if task.title != title))

    def erase(self, owner: str | None, *, since: datetime | None = None, until: datetime | None = None) -> ErasedBeside:
        """Let all tasks of an owner go, everybody's for None, readable or not.

        They have no day, so they go with everything and with no period. What cannot be removed goes with `settle`.
        """
        if since is not None or until is not None:
            return ErasedBeside()
        with self._lock:
            for each in [owner] if owner is not None else list(self._held):
                self._held.pop(each, None)
            files = [self._file(owner)] if owner is not None and self._folder is not None else self._files()
            sizes = [size for file in files if (size := _erased(file)) is not None]
            self._doomed += [file for file in files if file.exists()]
        return ErasedBeside(files=len(sizes), file_bytes=sum(sizes))

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        with self._lock:
            for file in self._doomed:
                _erased(file)
            self._doomed = [file for file in self._doomed if file.exists()]
            return not self._doomed

    def _files(self) -> list[Path]:
        try:
            return [] if self._folder is None else [entry for entry in self._folder.iterdir() if entry.is_file()]
        except OSError:
            return []

    def _read(self, owner: str) -> tuple[OwnTask, ...]:
        if self._folder is None:
            return self._held.get(owner, ())
        try:
            data = self._file(owner).read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise HistoryError("own_tasks.unreadable") from error
        try:
            return read_tasks(data)
        except UsageError as error:
            raise HistoryError("own_tasks.unreadable") from error

    def _write(self, owner: str, tasks: tuple[OwnTask, ...]) -> None:
        tasks = tuple(sorted(tasks, key=lambda task: task.title.casefold()))
        if self._folder is None:
            self._held[owner] = tasks
            return
        target = self._file(owner)
        partial = target.with_suffix(".part")
        try:
            make_folder(target.parent)
            with new_file(partial) as file:
                file.write(as_file(tasks))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            self._doomed = [file for file in self._doomed if file != target]
        except OSError as error:
            raise HistoryError("own_tasks.not_written") from error

    def _file(self, owner: str) -> Path:
        assert self._folder is not None  # noqa: S101 - both callers have looked
        return self._folder / f"{hashlib.sha256(owner.encode()).hexdigest()[:32]}.json"


def _erased(file: Path) -> int | None:
    """Remove a file and what a write that was cut short left of it; return its bytes, None where it was not removed."""
    partial = file.with_suffix(".part")
    try:
        if partial != file:
            partial.unlink(missing_ok=True)  # it may be there alone
        size_bytes = file.stat().st_size
        file.unlink()
    except OSError:
        return None
    return size_bytes


def as_file(tasks: Sequence[OwnTask]) -> bytes:
    """Return tasks as a file to share."""
    listed = [{"title": task.title, "prompt": task.prompt, "detail": task.detail.value} for task in tasks]
    return json.dumps({"kind": _KIND, "version": 1, "tasks": listed}, ensure_ascii=False, indent=2).encode()


def read_tasks(data: bytes) -> tuple[OwnTask, ...]:
    """Return the tasks of a shared file. Raises UsageError `own_tasks.not_tasks` where it is none."""
    if len(data) > MAX_FILE_BYTES:
        raise UsageError("own_tasks.not_tasks")
    try:
        said: Any = json.loads(data.decode("utf-8-sig"))
        if said["kind"] != _KIND or not isinstance(said["tasks"], list) or len(said["tasks"]) > MAX_TASKS:
            raise UsageError("own_tasks.not_tasks")
        return tuple(_checked(_task(each)) for each in said["tasks"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError("own_tasks.not_tasks") from error


def _task(said: Mapping[str, Any]) -> OwnTask:
    if not isinstance(said["title"], str) or not isinstance(said["prompt"], str):
        raise UsageError("own_tasks.not_tasks")
    detail = said.get("detail")
    # A rung of a later version is no reason to refuse somebody's work.
    return OwnTask(said["title"], said["prompt"], Detail(detail) if detail in list(Detail) else Detail.BALANCED)


def _checked(task: OwnTask) -> OwnTask:
    title = " ".join(task.title.split())[:MAX_TITLE]
    prompt = task.prompt.strip().encode("utf-8", "replace").decode()[:MAX_PROMPT]
    if not title or not prompt:
        raise UsageError("own_tasks.incomplete")
    return OwnTask(title.encode("utf-8", "replace").decode(), prompt, task.detail)
