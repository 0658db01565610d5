"""A history that leaves nothing behind: the same rows and pictures, in memory alone, gone when it is closed.

For private conversations and for sites that keep nothing. Knows how to stand in for a data folder. Does not know turns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import psutil
from sqlalchemy import text

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.folder import DataFolder, OpenFolder
from qwen_vl_app.history.lock import FolderLock
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.schema import create_in_memory

FIRST_ID = 1 << 40
"""Ids begin here where nothing else is said, so that those of a history on disk, which begin at 1, are never taken for them."""
_NOWHERE = Path("nowhere")


class MemoryPictures(PictureFiles):
    """Pictures by the same keys, in a mapping."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE)
        self._contents: dict[str, bytes] = {}

    def keep(self, contents: Mapping[str, bytes]) -> tuple[str, ...]:
        """Keep the contents under their keys and return the keys that were new."""
        fresh = tuple(key for key in contents if key not in self._contents)
        self._contents.update(contents)
        return fresh

    def read(self, key: str, *, owner: str) -> bytes:
        """Return what is kept under the key. Raises HistoryError where there is nothing."""
        if key not in self._contents:
            raise HistoryError("history.picture_missing")
        return self._contents[key]

    def remove(self, keys: Collection[str]) -> bool:
        """Let go of what is kept under the keys."""
        for key in keys:
            self._contents.pop(key, None)
        return True

    def size_of(self, keys: Collection[str]) -> int:
        """Return how many bytes are kept under the keys."""
        return sum(len(self._contents.get(key, b"")) for key in keys)

    def sweep(self, referenced: Collection[str]) -> int:
        """Let go of what nothing refers to."""
        self.remove([key for key in self._contents if key not in referenced])
        return 0

    def _walk(self) -> Iterator[Path]:
        return iter(())


class MemoryFolder(DataFolder):
    """What a data folder is to its users, without a folder."""

    is_on_disk = False

    def __init__(self, *, first_id: int = FIRST_ID) -> None:
        super().__init__(_NOWHERE)
        self._first_id = first_id

    def open(self, *, port: int = 0, first: Callable[[OpenFolder], tuple[Reason, ...]]) -> tuple[Reason, ...]:
        """Make the tables. Raises HistoryError."""
        if self._opened is not None:
            raise HistoryError("history.already_open")
        database = Database(None)
        create_in_memory(database)
        with database.writing() as session:
            for table in ("conversations", "turns", "turn_pictures"):
                session.execute(
                    text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
                    {"name": table, "seq": self._first_id},
                )
        opened = OpenFolder(_NOWHERE, FolderLock(_NOWHERE), database, MemoryPictures(), 0, is_trusted=True)
        notices = first(opened)
        self._opened = opened
        return notices

    def close(self) -> None:
        """Let go of everything."""
        with self._writing:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.database.close()

    def free_bytes(self) -> int:
        """Return how much memory is available."""
        return int(psutil.virtual_memory().available)

    def _is_in_place(self, opened: OpenFolder) -> bool:
        return True
