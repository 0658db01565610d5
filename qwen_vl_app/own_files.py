"""Folders and files of the app's own, which no other account of the machine can read.

Knows access modes and what the operating system does with them. Does not know what the files hold. Windows has no modes:
what lies in a person's own folders is theirs alone there.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, each closed to others; one that is there stays as it is. Raises OSError.

    `Path.mkdir` would give its mode to the last one alone.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def new_file(file: Path) -> BinaryIO:
    """Return a file to be written anew, closed to others from its first moment. Raises OSError."""
    return os.fdopen(os.open(file, _NEW, FILE_MODE), "wb")


def write_new(file: Path, content: bytes) -> None:
    """Write a file anew, closed to others. Raises OSError."""
    with new_file(file) as stream:
        stream.write(content)


def begin_file(file: Path) -> None:
    """Leave a file there, closed to others where it is new, for a library to go on with. Raises OSError."""
    file.touch(mode=FILE_MODE)


def close_to_others(folder: Path, *, is_ours: Callable[[str], bool]) -> bool:
    """Close what lies directly in a folder and has a name of ours, and the folder where nothing else lies in it.

    What lies deeper cannot be reached any more. A folder that a person shares for something else stays as it is. Returns
    whether everything of ours is closed.
    """
    if sys.platform == "win32":
        return True
    entries = list(folder.iterdir())
    ours = [entry for entry in entries if is_ours(entry.name)]
    if len(ours) == len(entries):
        ours.append(folder)
    closed = [_close(each) for each in ours]
    return all(closed)


def close_new_files() -> None:
    """Let every file and folder that this process makes from now on be closed to others, whoever makes it."""
    os.umask(_OTHERS)


def _close(entry: Path) -> bool:
    with suppress(FileNotFoundError):  # gone meanwhile
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & _OTHERS:
            return True
        try:
            entry.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        except OSError:  # somebody else's, or a disk without modes
            return False
    return True
