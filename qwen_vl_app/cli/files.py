"""From a path on the command line to the bytes of a file, or the reason why not.

Knows what else a path may lead to: folders, devices, pipes, files without end. Does not know pictures.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen_vl_app.errors import UsageError

# A pipe nobody writes to must not be waited for, a device must not become our terminal; Windows has none of these.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

SHELL_EXPANDS = sys.platform != "win32"


def read_file(path: str, *, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`; never reads more than that.

    Raises UsageError with `file.missing`, `file.is_folder`, `file.not_regular`, `file.forbidden`, `file.too_large`,
    `file.empty` or `file.unreadable`.
    """
    try:
        _require_regular(os.stat(path).st_mode)  # noqa: PTH116 - before opening: opening alone wakes a pipe's writer
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            found = os.fstat(descriptor)
            _require_regular(found.st_mode)
            if found.st_size > max_bytes:
                raise UsageError("file.too_large", bytes=found.st_size, limit=max_bytes)
            return _content(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UsageError("file.missing") from error
    except IsADirectoryError as error:
        raise UsageError("file.is_folder") from error
    except PermissionError as error:
        # Windows answers so for folders too. Unlike pathlib, this raises nothing where looking is forbidden as well.
        is_folder = os.path.isdir(path)  # noqa: PTH112
        raise UsageError("file.is_folder" if is_folder else "file.forbidden") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL within the name
        raise UsageError("file.unreadable") from error


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UsageError("file.is_folder")
    if not stat.S_ISREG(mode):
        raise UsageError("file.not_regular")


def _content(descriptor: int, max_bytes: int) -> bytes:
    """Read to the end: a file may be longer than it says, as those under /proc are, or grow."""
    pieces: list[bytes] = []
    left = max_bytes + 1
    while left > 0 and (piece := os.read(descriptor, min(left, 2**20))):
        pieces.append(piece)
        left -= len(piece)
    if left <= 0:
        raise UsageError("file.too_large", bytes=max_bytes + 1, limit=max_bytes)
    if not pieces:
        raise UsageError("file.empty")
    return b"".join(pieces)


def require_file(path: str) -> None:
    """Raise UsageError, as `read_file` does, where a path does not lead to a regular file: a device may have no end."""
    try:
        _require_regular(os.stat(path).st_mode)  # noqa: PTH116 - as in `read_file`
    except FileNotFoundError as error:
        raise UsageError("file.missing") from error
    except PermissionError as error:
        raise UsageError("file.forbidden") from error
    except (OSError, ValueError) as error:
        raise UsageError("file.unreadable") from error


def is_file(path: str) -> bool:
    """Return whether a word of the command line is the name of a file there is, however strange the word."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a whole question is longer than a name may be
        return False


def expanded(words: Sequence[str]) -> tuple[str, ...]:
    """Return paths with `*` and `?` as the files that they stand for, in order, where no shell has done so (on Windows).

    What stands for nothing, and what is itself a file's name, stays as it is.
    """
    if SHELL_EXPANDS:
        return tuple(words)
    found: list[str] = []
    for word in words:
        is_pattern = any(sign in word for sign in "*?") and not is_file(word)
        pattern = word.replace("[", "[[]")  # a bracket is a letter of a name there
        matches = sorted(glob.glob(pattern)) if is_pattern else []  # noqa: PTH207 - a path as it was typed
        found += matches or [word]
    return tuple(found)


def name_of(path: str) -> str:
    """Return the last part of a path, or the path where it has none (`..`)."""
    return Path(path).name or path
