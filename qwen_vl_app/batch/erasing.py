"""Forgetting runs: journals with their questions and answers, thumbnails, and pictures that were dropped for them.

Knows which folders hold them, whose they are and when they worked. A folder is renamed before it is removed, so that what
a kill or an open file leaves behind is found and removed later. Never touches a folder that a run was about, unless it is
a drop of the app's own.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.batch.dropped import DROPPED_NAME, is_of, where_now
from qwen_vl_app.batch.journal import JOURNAL_NAME
from qwen_vl_app.batch.plan import PLAN_NAME, BatchPlan, load_plan
from qwen_vl_app.chat import ErasedBeside
from qwen_vl_app.errors import BatchError

log = logging.getLogger(__name__)

_DOOMED = "erasing-"


class RunErasing:
    """Erases runs below one folder. Any thread; whoever has runs at work says in `stop` how one is ended first."""

    def __init__(self, folder: Path, *, stop: Callable[[str], None] = lambda _run_id: None) -> None:
        self._folder = folder
        self._stop = stop
        self._erasing = threading.Lock()
        self._is_left = True
        """True where something may be left from before: what a kill cut short is looked for once."""
        self._stubborn: set[Path] = set()

    def erase(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedBeside:
        """Remove an owner's runs, everybody's for None, that worked in a period, and their drops.

        A drop stays where a run of theirs that goes over it stays; what is somebody else's is not touched.
        """
        runs = files = file_bytes = 0
        with self._erasing:
            theirs = [
                (run, plan)
                for run, plan in ((run, _plan(run)) for run in self._runs())
                if owner in (None, plan.owner if plan else LOCAL_OWNER)
            ]
            gone = {run: plan for run, plan in theirs if _worked_in(run, since, until)}
            # By its name, which no other folder has: the way to the data folder may lead over links, or have changed.
            needed = {
                part for run, plan in theirs if plan is not None and run not in gone for part in plan.folder.parts
            }
            doomed: list[Path] = []
            for run, plan in gone.items():
                self._stop(run.name)
                doomed.append(run)
                if (
                    plan is not None
                    and self._is_drop(plan.folder)
                    and (owner is None or is_of(plan.folder.parent, owner))
                ):
                    doomed += [plan.folder] if plan.folder.name not in needed else []
                runs += 1
            doomed += [
                drop for drop in self._drops(owner) if drop.name not in needed and _worked_in(drop, since, until)
            ]
            for folder in dict.fromkeys(folder.resolve() for folder in doomed):
                count, size = _measure(folder)
                files, file_bytes = files + count, file_bytes + size
                self._doom(folder)
            self._is_left = not self._remove()
        return ErasedBeside(runs=runs, files=files, file_bytes=file_bytes)

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        with self._erasing:
            if self._is_left:
                self._is_left = not self._remove()
            return not self._is_left

    def _runs(self) -> Iterator[Path]:
        for folder in _folders(self._folder):
            if not folder.name.startswith(_DOOMED) and folder.name != DROPPED_NAME:
                yield folder

    def _drops(self, owner: str | None) -> Iterator[Path]:
        for folder in _folders(self._folder / DROPPED_NAME):
            if owner is None or is_of(folder, owner):
                yield from _folders(folder)

    def _is_drop(self, folder: Path) -> bool:
        resolved = folder.resolve()
        return resolved.is_dir() and resolved.parent.parent == (self._folder / DROPPED_NAME).resolve()

    def _doom(self, folder: Path) -> None:
        try:
            folder.rename(self._folder / f"{_DOOMED}{folder.name}")
        except FileNotFoundError:
            return
        except OSError as error:  # held open, or a namesake is still there: its files go where they stand
            log.warning("a run could not be moved aside (errno %s)", error.errno)
            shutil.rmtree(folder, ignore_errors=True)
            self._stubborn.add(folder)

    def _remove(self) -> bool:
        doomed = {folder for folder in _folders(self._folder) if folder.name.startswith(_DOOMED)} | self._stubborn
        for folder in doomed:
            shutil.rmtree(folder, ignore_errors=True)
        self._stubborn = {folder for folder in self._stubborn if folder.exists()}
        return not any(folder.exists() for folder in doomed)


def _plan(run: Path) -> BatchPlan | None:
    try:
        plan = load_plan((run / PLAN_NAME).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, BatchError):
        return None  # damaged, and still to be forgotten
    return replace(plan, folder=where_now(plan.folder))


def _worked_in(folder: Path, since: datetime | None, until: datetime | None) -> bool:
    """Tell whether a run worked in a period: one that went on overnight did so on both days.

    Without a beginning, whether all that it did is older than the end.
    """
    first, last = _span(folder)
    if since is None:
        return until is None or last < until
    return last >= since and (until is None or first < until)


def _span(folder: Path) -> tuple[datetime, datetime]:
    try:
        last = datetime.fromtimestamp(_journal_of(folder).stat().st_mtime, UTC)
    except OSError:
        last = datetime.now(UTC)
    try:
        first = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        first = last
    return min(first, last), max(first, last)


def _journal_of(folder: Path) -> Path:
    journal = folder / JOURNAL_NAME
    return journal if journal.exists() else folder


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:
        return []


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
