"""A history that another process is using, to be read: a copy of its database in memory, and the pictures where they lie.

A reader that stayed open on the database itself would hold back an erasure, whose traces go only when nobody reads any more; a
copy on the disk would be one more place to erase. So it is copied at one moment, into memory alone. Does not know turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.audit import AuditLog
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder, OpenFolder
from qwen_vl_app.history.lock import FolderLock
from qwen_vl_app.history.opening import PICTURES_NAME
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.schema import known_versions, look_at


class FolderBeside(DataFolder):
    """A data folder that somebody else writes in, as it was at the moment of `open`. Nothing can be written through it."""

    is_on_disk = False

    def open(self, *, port: int = 0, first: Callable[[OpenFolder], tuple[Reason, ...]]) -> tuple[Reason, ...]:
        """Copy the database; what comes `first` is its user's affair. Raises HistoryError."""
        if self._opened is not None:
            raise HistoryError("history.already_open")
        with translated():
            version, known = look_at(self._file, is_trusted=True).version, known_versions()
            if version != known[0]:
                raise HistoryError("history.newer", found=version, known=known[0])
            database = Database(None)
            database.copy_from(self._file)
        files = PictureFiles(self.path / PICTURES_NAME)
        self._opened = OpenFolder(self.path, FolderLock(self.path), database, files, 0, is_trusted=True)
        return ()

    def close(self) -> None:
        """Let go of the copy."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.database.close()

    @contextmanager
    def writing(self) -> Iterator[OpenFolder]:
        """Refuse: the process that uses the folder writes. Raises HistoryError."""
        raise HistoryError("history.beside_only")
        yield

    def note(self, kind: str, *, owner: str, **facts: int) -> None:
        """Leave the audit file's line in the database itself; the app that uses it writes it down with its next change."""
        database = Database(self._file)
        try:
            with database.writing() as session:
                AuditLog().note(session, kind, owner=owner, facts=dict(facts))
        finally:
            database.close()

    def _is_in_place(self, opened: OpenFolder) -> bool:
        return True
