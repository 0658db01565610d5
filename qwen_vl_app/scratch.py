"""Room for files that are made to be handed over and then go: archives, reports, copies.

They lie in the data folder and not in the machine's temporary one, so that what a kill leaves behind is found, and removed,
at the next start and by every erasure. Does not know what is in them.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

SCRATCH_NAME = "scratch"
_PREFIX = "being-made-"


class Scratch:
    """A folder of such files. Any thread; made without touching the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._in_use: set[Path] = set()

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Yield a new folder, and remove it with everything in it. Raises OSError where none can be made."""
        with self._lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder))
            self._in_use.add(made)
        try:
            yield made
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

    def empty(self) -> bool:
        """Remove everything, also what is being handed over; return whether nothing is left."""
        for entry in self._entries():
            shutil.rmtree(entry, ignore_errors=True)
        return not self._entries()

    def _entries(self) -> list[Path]:
        try:
            return [entry for entry in self._folder.iterdir() if entry.name.startswith(_PREFIX)]
        except OSError:
            return []
