"""The island's shore: what SQLite and the disk complain about, said as a HistoryError.

Knows error numbers. Does not know what was being done when they came.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from qwen_vl_app.errors import HistoryError

_BY_RESULT_CODE = {
    sqlite3.SQLITE_FULL: "history.disk_full",
    sqlite3.SQLITE_BUSY: "history.busy",
    sqlite3.SQLITE_LOCKED: "history.busy",
    sqlite3.SQLITE_READONLY: "history.read_only",
    sqlite3.SQLITE_PERM: "history.read_only",
    sqlite3.SQLITE_CORRUPT: "history.damaged",
    sqlite3.SQLITE_NOTADB: "history.damaged",
    sqlite3.SQLITE_CANTOPEN: "history.folder_unusable",
}
_BY_ERRNO = {
    errno.ENOSPC: "history.disk_full",
    errno.EDQUOT: "history.disk_full",
    errno.EACCES: "history.read_only",
    errno.EPERM: "history.read_only",
    errno.EROFS: "history.read_only",
    errno.EEXIST: "history.folder_unusable",
    errno.ENOTDIR: "history.folder_unusable",
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of SQLite and of the file system inside the block into HistoryErrors."""
    try:
        yield
    except DBAPIError as error:
        raise HistoryError(code_for(error.orig)) from error
    except (sqlite3.Error, OSError) as error:
        raise HistoryError(code_for(error)) from error
    except OverflowError as error:  # a number larger than any that a row can have
        raise HistoryError("history.not_found") from error


def code_for(error: BaseException | None) -> str:
    """Return the code of the sentence for an exception of `sqlite3` or of the file system."""
    if isinstance(error, sqlite3.Error):
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
            # The file that connections share could not grow: SQLite calls this an error of the disk.
            return "history.disk_full"
        # The low byte is the primary result code; the rest says where it came from.
        return _BY_RESULT_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "history.storage_failed")
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, "history.storage_failed")
    return "history.storage_failed"


def is_damage(error: sqlite3.Error) -> bool:
    """Tell a file that is broken or no database from a database that cannot be reached just now."""
    return code_for(error) == "history.damaged"
