"""Pictures that were dropped into the page: a folder of the app's own for a run to go over.

Knows names from browsers, room on the disk and who dropped what. Does not know what the files are; a run finds that out.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qwen_vl_app.batch.source import ENDINGS
from qwen_vl_app.errors import BatchError, UsageError
from qwen_vl_app.imaging import clean_name
from qwen_vl_app.own_files import FOLDER_MODE, make_folder, write_new

DROPPED_NAME = "dropped"
MAX_FILES = 20_000
MAX_DEPTH = 8
"""Folders within folders that are kept apart; what lies deeper is brought up to the last of them."""
ROOM_LEFT_BYTES = 512 * 2**20
"""What dropped files leave free on the disk that holds the history, too."""
FORGOTTEN_AFTER_S = 24 * 3600.0
"""Files that were dropped, and no run begun over them."""
_KNOWN_DROPS = 100
"""Drops of which the count is kept in memory."""
_ID = re.compile(r"[0-9a-f]{32}")
_OWNER = re.compile(r"[0-9a-z]{1,64}")
_HASHED = "of-"
"""Begins the names of owners' folders; no owner's own name has such a sign."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What lies in one drop so far."""

    count: int
    size_bytes: int


@dataclass(slots=True)
class _Count:
    """What is known to lie in a drop, so that no file needs a look at all the others. `taken` are the last numbers of names."""

    there: Dropped
    taken: dict[Path, int]


class DroppedFiles:
    """Drops below one folder. Any thread; `clock` is seconds since the epoch, as files' times are."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        room_left_bytes: int = ROOM_LEFT_BYTES,
        max_files: int = MAX_FILES,
    ) -> None:
        self._folder = folder / DROPPED_NAME
        self._clock = clock
        self._room_left_bytes = room_left_bytes
        self._max_files = max_files
        self._adding = threading.Lock()
        self._counts: dict[Path, _Count] = {}

    def add(self, owner: str, drop_id: str, name: str, data: bytes) -> Dropped:
        """Put a file into a drop, under its path within what was dropped; return what lies there now.

        Two files of one name are both kept. Raises UsageError for a file that is no picture by its name, or one too
        many, BatchError where there is no room or nothing can be written.
        """
        drop = self.folder(owner, drop_id)
        parts = [each for each in name.replace("\\", "/").split("/") if each not in ("", ".", "..")]
        if not parts or PurePosixPath(parts[-1]).suffix.lower() not in ENDINGS:
            raise UsageError("batch.drop.no_picture", name=clean_name(name))
        try:
            with self._adding:  # files come several at a time
                known = self._known(owner, drop_id, drop)
                if known.there.count >= self._max_files:
                    raise UsageError("batch.drop.too_many", limit=self._max_files)
                if shutil.disk_usage(drop).free < len(data) + self._room_left_bytes:
                    raise BatchError("batch.drop.no_room")
                target = _free(
                    drop.joinpath(*(clean_name(part) for part in parts[:-1][:MAX_DEPTH]), clean_name(parts[-1])),
                    known.taken,
                )
                make_folder(target.parent)
                partial = target.with_name(f".{target.name}.part")
                write_new(partial, data)
                partial.replace(target)
                known.there = Dropped(known.there.count + 1, known.there.size_bytes + len(data))
                return known.there
        except OSError as error:
            raise BatchError("batch.drop.unwritable") from error

    def _known(self, owner: str, drop_id: str, drop: Path) -> _Count:
        """Return what lies in a drop, which is made where there is none: counted once, and then kept up to date."""
        make_folder(drop.parent)
        try:
            drop.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            known = self._counts.pop(drop, None) or _Count(self.look(owner, drop_id), {})
        else:  # whoever deleted the one before it told nobody
            known = _Count(Dropped(0, 0), {})
        self._counts.pop(drop, None)
        if len(self._counts) >= _KNOWN_DROPS:
            del self._counts[next(iter(self._counts))]
        self._counts[drop] = known  # the one that was used last stands last
        return known

    def look(self, owner: str, drop_id: str) -> Dropped:
        """Return what lies in a drop; nothing in one that does not exist."""
        sizes = [file.stat().st_size for file in self.folder(owner, drop_id).rglob("*") if _is_whole(file)]
        return Dropped(len(sizes), sum(sizes))

    def folder(self, owner: str, drop_id: str) -> Path:
        """Return where a drop lies. Raises UsageError for an id that no page makes."""
        if not _ID.fullmatch(drop_id) or not _OWNER.fullmatch(owner):
            raise UsageError("batch.drop.unknown")
        return self._folder / folder_name(owner) / drop_id

    def rename_old(self) -> None:
        """Give drops of before their owner's folder as it is named now; `where_now` finds them for a run that knew them."""
        for folder in _folders(self._folder):
            if _OWNER.fullmatch(folder.name):
                for drop in _folders(folder):
                    with contextlib.suppress(OSError):  # held open: it stays where it is, and is found there
                        make_folder(self._folder / folder_name(folder.name))
                        drop.rename(self._folder / folder_name(folder.name) / drop.name)
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def holds(self, folder: Path) -> bool:
        """True where a folder is a drop, or lies in one."""
        return folder.resolve().is_relative_to(self._folder.resolve())

    def delete(self, folder: Path) -> None:
        """Delete a drop, whose folder this is; a folder of somebody else's is never touched. Raises BatchError."""
        drop = folder.resolve()
        if drop.parent.parent != self._folder.resolve():
            return
        try:
            shutil.rmtree(drop)
        except FileNotFoundError:
            return
        except OSError as error:
            raise BatchError("batch.not_deleted") from error
        finally:
            self._forget(drop)

    def _forget(self, drop: Path) -> None:
        """Count a drop anew the next time; files may have come while others went."""
        with self._adding:
            for known in [known for known in self._counts if known.name == drop.name]:
                del self._counts[known]

    def sweep(self, *, used: Callable[[Path], bool]) -> int:
        """Delete drops that nobody began a run over within a day; return how many. `used` tells which a run needs."""
        swept = 0
        for drop in self._folder.glob("*/*"):
            try:
                is_old = self._clock() - drop.stat().st_mtime > FORGOTTEN_AFTER_S
                if is_old and not used(drop):
                    try:
                        shutil.rmtree(drop)
                    finally:
                        self._forget(drop)
                    swept += 1
            except OSError:  # gone meanwhile, or held open: the next sweep finds it
                continue
        return swept


def folder_name(owner: str) -> str:
    """Return the name of an owner's folder: not their own, which is what lets a browser in."""
    return f"{_HASHED}{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def is_of(folder: Path, owner: str) -> bool:
    """Tell by the name of a folder of drops whether it is an owner's, also by a name of before."""
    return folder.name in (folder_name(owner), owner)


def where_now(folder: Path) -> Path:
    """Return where a drop lies, or a folder in it, that a run of before knew by its owner's own name; another as it is."""
    for at in range(len(folder.parts) - 2, 0, -1):
        above, owner, drop = folder.parts[at - 1 : at + 2]
        if above == DROPPED_NAME and _OWNER.fullmatch(owner) and _ID.fullmatch(drop):
            there = Path(*folder.parts[:at], folder_name(owner), *folder.parts[at + 1 :])
            return there if there.is_dir() and not folder.is_dir() else folder
    return folder


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []


def _is_whole(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def _free(target: Path, taken: dict[Path, int]) -> Path:
    """Return a name that is free; `taken` grows with the numbers that are not, for a camera may call thousands the same."""
    free, number = target, taken.get(target, 1)
    if number > 1:
        free = target.with_name(f"{target.stem}-{number}{target.suffix}")
    while free.exists():
        number += 1
        free = target.with_name(f"{target.stem}-{number}{target.suffix}")
    if number > 1:
        taken[target] = number
    return free
