"""The folder of a run: which pictures lie in it and what their bytes are, read without ever leaving it or writing to it.

Knows links, junctions, odd names and files that change while they are read. Does not know what a picture shows.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qwen_vl_app.config import with_home
from qwen_vl_app.errors import BatchError, Reason, UsageError

ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
        *(".heic", ".heif", ".hif", ".avif", ".pdf"),
    }
)
"""What counts as a picture before it is opened; what it is, its bytes tell later."""
_NAME_SURROGATE = 0x20000000
"""The bit of a Windows reparse tag that says "this stands for another place": links and junctions, not cloud files."""
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_PIECE_BYTES = 2**20
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the folder as it was when looked at. `name` is its path below the folder, with forward slashes."""

    name: str
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One look at the folder: pictures in reading order, and what was passed over by name with the reason why."""

    files: tuple[FoundFile, ...]
    passed_over: tuple[tuple[str, Reason], ...] = ()


class SourceFolder:
    """A folder that is only read. The folder itself may be a link, since a person named it; nothing below it may."""

    def __init__(self, folder: Path) -> None:
        try:
            self.path = folder.expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError("batch.folder.missing", name=folder.name) from error
        if not self.path.is_dir():
            raise UsageError("batch.folder.not_a_folder", name=folder.name)
        self._disk = self._disk_now()

    def holds(self, path: Path) -> bool:
        """True where a path, its links followed, lies in the folder or is the folder."""
        return with_home(path).resolve().is_relative_to(self.path)

    def is_within(self, path: Path) -> bool:
        """True where the folder is a path, its links followed, or lies in it."""
        return self.path.is_relative_to(with_home(path).resolve())

    def find(self, *, is_recursive: bool) -> Listing:
        """Return the pictures. Raises BatchError `batch.folder.gone` where the folder cannot be read now."""
        self._disk = self._disk_now()
        files: list[FoundFile] = []
        passed_over: list[tuple[str, Reason]] = []
        waiting = [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(self.path / below) as entries:
                    found = list(entries)
            except OSError as error:
                if not below:
                    raise BatchError("batch.folder.gone", name=self.path.name) from error
                passed_over.append((below, Reason("batch.file.folder_unreadable")))
                continue
            for entry in found:
                if entry.name.startswith((".", "~$")):  # what systems and programs keep for themselves
                    continue
                name = f"{below}/{entry.name}" if below else entry.name
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone since the folder was read
                    continue
                except OSError:  # a folder that may be listed and not entered
                    if _looks_like_a_picture(name):
                        passed_over.append((name, Reason("batch.file.unreadable")))
                    continue
                if stat.S_ISDIR(state.st_mode) and not _is_link(state):
                    if is_recursive:
                        waiting.append(name)
                    continue
                why_not = _why_not(state)
                if why_not is None and _looks_like_a_picture(name):
                    files.append(FoundFile(name, state.st_size, state.st_mtime_ns))
                elif why_not is not None and (is_recursive or _looks_like_a_picture(name)):
                    passed_over.append((name, why_not))
        files.sort(key=lambda file: reading_order(file.name))
        passed_over.sort(key=lambda entry: reading_order(entry[0]))
        return Listing(tuple(files), tuple(passed_over))

    def read(self, name: str, *, max_bytes: int) -> tuple[FoundFile, bytes]:
        """Return a file as it is now and its bytes, at most `max_bytes` of them.

        Raises BatchError `batch.folder.gone` where the folder was taken away, or its disk, and with `batch.file.outside`, `.gone`, `.link`, `.not_regular`, `.too_large`, `.changing` (it grew,
        shrank or was written while it was read) or `.unreadable`.
        """
        parts = _parts_below(name)
        try:
            descriptor = self._open(parts)
            try:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise BatchError("batch.file.not_regular")
                if before.st_size > max_bytes:
                    raise BatchError("batch.file.too_large", bytes=before.st_size, limit=max_bytes)
                data = _content(descriptor, before.st_size + 1)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if self._disk is None or self._disk_now() != self._disk:
                raise BatchError("batch.folder.gone", name=self.path.name) from error
            code = "batch.file.gone" if isinstance(error, FileNotFoundError) else "batch.file.unreadable"
            raise BatchError(code) from error
        except ValueError as error:  # a NUL within the name
            raise BatchError("batch.file.unreadable") from error
        is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not is_same or len(data) != before.st_size:
            raise BatchError("batch.file.changing")
        return FoundFile(name, before.st_size, before.st_mtime_ns), data

    def _disk_now(self) -> int | None:
        """Return which disk the folder is on; None where it cannot be read. Without its disk, an empty folder is in its place."""
        try:
            with os.scandir(self.path) as entries:
                next(entries, None)
            return self.path.stat().st_dev
        except OSError:
            return None

    if sys.platform == "win32":

        def _open(self, parts: tuple[str, ...]) -> int:
            here = self.path
            for part in parts:
                here /= part
                if _is_link(os.lstat(here)):
                    raise BatchError("batch.file.link")
            # A component may have become a junction since: what was opened is asked where it lies.
            if not here.resolve(strict=True).is_relative_to(self.path):
                raise BatchError("batch.file.outside")
            return os.open(here, _READ_FLAGS)
    else:

        def _open(self, parts: tuple[str, ...]) -> int:
            """Walk down one part at a time and follow no link, so that nobody can put one in between two looks."""
            holder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for part in parts[:-1]:
                    _refuse_link(part, holder)
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder)
                    os.close(holder)
                    holder = below
                _refuse_link(parts[-1], holder)
                return os.open(parts[-1], _READ_FLAGS, dir_fd=holder)
            finally:
                os.close(holder)


def reading_order(name: str) -> tuple[object, ...]:
    """Return a key that sorts names as people do: `photo 9` before `photo 10`, folder by folder."""
    return (tuple(_pieces(part) for part in name.casefold().split("/")), name)


def _pieces(part: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in _DIGITS.split(part) if piece)


def _parts_below(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    is_below = bool(parts) and not name.startswith("/") and not any(part in ("..", ".", "") for part in parts)
    if sys.platform == "win32" and any("\\" in part or ":" in part for part in parts):
        is_below = False
    if not is_below:
        raise BatchError("batch.file.outside")
    return parts


def _refuse_link(part: str, holder: int) -> None:
    # O_NOFOLLOW refuses it as well, with an error that does not say why.
    if _is_link(os.stat(part, dir_fd=holder, follow_symlinks=False)):
        raise BatchError("batch.file.link")


def _is_link(state: os.stat_result) -> bool:
    return stat.S_ISLNK(state.st_mode) or bool(getattr(state, "st_reparse_tag", 0) & _NAME_SURROGATE)


def _why_not(state: os.stat_result) -> Reason | None:
    if _is_link(state):
        return Reason("batch.file.link")
    return None if stat.S_ISREG(state.st_mode) else Reason("batch.file.not_regular")


def _looks_like_a_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in ENDINGS


def _content(descriptor: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    while limit > 0 and (piece := os.read(descriptor, min(limit, _PIECE_BYTES))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)
