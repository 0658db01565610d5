"""Forgetting forms: pictures, crops, values and decisions, and what of them stands in the truth set and its results.

Knows which folders hold them, whose they are and when they were filled. A folder is renamed before it is removed, so that
what a kill or an open file leaves behind is found and removed later. Templates stay: they hold nothing of a picture.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import ErasedRuns
from qwen_vl_app.forms.acceptance import RESULT_FILE, RESULTS_NAME, TRUTH_NAME
from qwen_vl_app.forms.filled import FORM_FILE
from qwen_vl_app.forms.truth import CASE_NAME

log = logging.getLogger(__name__)

FORMS_NAME, FILLED_NAME = "forms", "filled"
_DOOMED = ".erasing-"


class FormErasing:
    """Erases forms below a data folder's folder of forms. Any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._erasing = threading.Lock()

    def erase(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedRuns:
        """Remove an owner's forms, everybody's for None, that were filled in a period, with their truth; counts files."""
        files = file_bytes = 0
        gone: set[str] = set()
        with self._erasing:
            for folder, name in (*self._drawers(FILLED_NAME, FORM_FILE), *self._drawers(TRUTH_NAME, CASE_NAME)):
                told = _read(folder / name)
                # Damaged, and still to be forgotten: it counts as the command line's.
                if owner not in (None, told.get("owner", LOCAL_OWNER)) or not _is_within(folder, since, until):
                    continue
                sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
                files, file_bytes = files + len(sizes), file_bytes + sum(sizes)
                gone.add(folder.name)
                self._doom(folder)
            self._clean_results(gone)
            self._remove()
        return ErasedRuns(0, files, file_bytes)

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        with self._erasing:
            return self._remove()

    def _drawers(self, part: str, name: str) -> Iterator[tuple[Path, str]]:
        for folder in _folders(self._folder / part):
            if not folder.name.startswith("."):
                yield folder, name

    def _doom(self, folder: Path) -> None:
        try:
            folder.rename(folder.with_name(f"{_DOOMED}{folder.name}"))
        except OSError as error:  # held open: its files go where they stand
            log.warning("a form could not be moved aside (errno %s)", error.errno)
            shutil.rmtree(folder, ignore_errors=True)

    def _clean_results(self, gone: set[str]) -> None:
        """Take the values of what is gone out of the results of the truth set."""
        for folder in _folders(self._folder / RESULTS_NAME):
            file = folder / RESULT_FILE
            told = _read(file)
            fields = told.get("fields", [])
            kept = [each for each in fields if isinstance(each, dict) and each.get("case_id") not in gone]
            if len(kept) != len(fields):
                partial = file.with_suffix(".part")
                partial.write_text(json.dumps({**told, "fields": kept}), encoding="ascii")
                partial.replace(file)

    def _remove(self) -> bool:
        doomed = [
            folder
            for part in (FILLED_NAME, TRUTH_NAME)
            for folder in _folders(self._folder / part)
            # What a kill left half written is nobody's any more, either.
            if folder.name.startswith(".")
        ]
        for folder in doomed:
            shutil.rmtree(folder, ignore_errors=True)
        return not any(folder.exists() for folder in doomed)


def _is_within(folder: Path, since: datetime | None, until: datetime | None) -> bool:
    try:
        at = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        at = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return (since is None or at >= since) and (until is None or at < until)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:
        return []
