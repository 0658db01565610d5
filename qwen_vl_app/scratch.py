"""Room for files that are made to be handed over and then go: archives, reports, copies.

They lie in the data folder and not in the machine's temporary one, so that what a kill leaves behind is found, and removed,
at the next start and by every erasure. Does not know what is in them.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.own_files import make_folder

SCRATCH_NAME = "scratch"
_PREFIX = "being-made-"


class Scratch:
    """A folder of such files. Any thread; made without touching the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._in_use: set[Path] = set()

    @contextmanager
    def directory(self, owner: str) -> Iterator[Path]:
        """Yield a new folder for an owner's files, and remove it with everything in it. Raises OSError where none can be made.

        Where an erasure took it meanwhile, what fails for that is raised as HistoryError `records.erased_meanwhile`.
        """
        with self._lock:
            make_folder(self._folder)
            made = Path(tempfile.mkdtemp(prefix=_prefix_of(owner), dir=self._folder))
            self._in_use.add(made)
        try:
            yield made
        except (AppError, OSError) as error:
            if not made.exists():  # no fault of the disk
                raise HistoryError("records.erased_meanwhile") from error
            raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
            with self._lock:
                self._in_use.discard(made)

    def sweep(self) -> bool:
        """Remove what a kill left behind; return whether nothing is left but what is being handed over."""
        with self._lock:
            in_use = set(self._in_use)
        left = [entry for entry in self._entries() if entry not in in_use]
        for entry in left:
            shutil.rmtree(entry, ignore_errors=True)
        return not any(entry.exists() for entry in left)

    def empty(self, owner: str | None) -> bool:
        """Remove an owner's files, everybody's for None, also those being handed over; return whether none are left."""
        for entry in self._entries(owner):
            shutil.rmtree(entry, ignore_errors=True)
        return not self._entries(owner)

    def _entries(self, owner: str | None = None) -> list[Path]:
        prefix = _PREFIX if owner is None else _prefix_of(owner)
        try:
            return [entry for entry in self._folder.iterdir() if entry.name.startswith(prefix)]
        except OSError:
            return []


def _prefix_of(owner: str) -> str:
    return f"{_PREFIX}{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-"
