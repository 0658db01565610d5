"""The bytes of pictures, in files named by the hash of their owner and content.

One owner's equal pictures share a file; two owners never do, so that what one of them deletes is gone. Knows names and
bytes; does not know which turns refer to them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.durable import sync_folder, write_file
from qwen_vl_app.own_files import make_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PictureBytes:
    """One rendition of a kept picture, ready to be sent."""

    data: bytes = field(repr=False)
    mime: str


class PictureFiles:
    """A folder of pictures. Nothing is read or written before the first call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key_for(owner: str, content: bytes) -> str:
        """Return the name of the file that holds this content for this owner: 64 hexadecimal digits."""
        digest = hashlib.sha256(hashlib.sha256(owner.encode("utf-8")).digest())
        digest.update(content)
        return digest.hexdigest()

    def keep(self, contents: Mapping[str, bytes]) -> tuple[str, ...]:
        """Write the contents under their keys, durably, and return the keys that were new.

        Raises OSError, and has then written nothing.
        """
        with ExitStack() as undo:
            fresh: list[str] = []
            folders: set[Path] = set()
            for key, content in contents.items():
                file = self.path_of(key)
                if _holds(file, content):
                    continue
                if not file.parent.is_dir():
                    make_folder(file.parent)
                    folders |= {self._folder, self._folder.parent}
                write_file(file, content)
                undo.callback(file.unlink, missing_ok=True)
                fresh.append(key)
                folders.add(file.parent)
            for folder in folders:
                sync_folder(folder)
            undo.pop_all()
        return tuple(fresh)

    def read(self, key: str, *, owner: str) -> bytes:
        """Return a file's bytes. Raises HistoryError where they are gone or are not what was kept."""
        try:
            content = self.path_of(key).read_bytes()
        except FileNotFoundError as error:
            raise HistoryError("history.picture_missing") from error
        if self.key_for(owner, content) != key:
            raise HistoryError("history.picture_damaged")
        return content

    def remove(self, keys: Collection[str]) -> bool:
        """Delete files. Returns False where one could not be deleted; the next sweep tries again."""
        is_done = True
        for key in keys:
            try:
                self.path_of(key).unlink(missing_ok=True)
            except OSError as error:
                log.warning("a picture file could not be deleted (errno %s)", error.errno)
                is_done = False
        return is_done

    def size_of(self, keys: Collection[str]) -> int:
        """Return how many bytes the files with these keys have, as far as they are there."""
        sizes = []
        for key in keys:
            with suppress(OSError):
                sizes.append(self.path_of(key).stat().st_size)
        return sum(sizes)

    def sweep(self, referenced: Collection[str]) -> int:
        """Delete every file that no row refers to, and return how many of the referenced ones are not there."""
        found: set[str] = set()
        orphans: set[Path] = set()
        for file in self._walk():
            if file.name in referenced:
                found.add(file.name)
            else:
                orphans.add(file)
        for orphan in orphans:
            orphan.unlink(missing_ok=True)
        return len(set(referenced) - found)

    def has_any(self) -> bool:
        """Tell whether there is any file at all."""
        return any(True for _ in self._walk())

    def _walk(self) -> Iterator[Path]:
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                yield from folder.iterdir() if folder.is_dir() else (folder,)

    def path_of(self, key: str) -> Path:
        """Return where the file with this key lies, if it is there."""
        return self._folder / key[:2] / key


def _holds(file: Path, content: bytes) -> bool:
    # Compared in full: adding a picture again is how a user mends a damaged file.
    try:
        return file.stat().st_size == len(content) and file.read_bytes() == content
    except FileNotFoundError:
        return False
