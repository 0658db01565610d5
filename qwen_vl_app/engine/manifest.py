"""A model's manifest: which files it has, how long they are, and the SHA-256 of each, written down where they were known good.

Knows `manifest.json` in a model's folder. A hash is only ever computed from a file or compared with one; none comes from
anywhere else. Does not know what is in the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qwen_vl_app.engine.contents import files_of
from qwen_vl_app.errors import ModelFolderError

MANIFEST_NAME = "manifest.json"
FORMAT = 1
CHUNK_BYTES = 1 << 22
MAX_BYTES = 4_000_000
Progress = Callable[[int], None]
"""Called with the bytes that were read since the last call."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as it was when it was written down."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model by their names within its folder. `recorded_at` is UTC."""

    files: Mapping[str, FileRecord]
    recorded_at: str

    @property
    def total_bytes(self) -> int:
        """What checking it in full has to read."""
        return sum(record.size_bytes for record in self.files.values())


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, None where it has none. Raises ModelFolderError where it is damaged."""
    file = folder / MANIFEST_NAME
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        value = json.loads(file.read_text(encoding="utf-8-sig"))
        if value["format"] != FORMAT:
            raise ValueError("format")
        return Manifest(dict(_records(value["files"])), str(value["recorded_at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFolderError("engine.manifest.damaged", model=folder.name) from error


def _records(files: Mapping[str, Any]) -> Iterator[tuple[str, FileRecord]]:
    for name, record in files.items():
        parts = name.split("/")
        if not name or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError("a name that leads out of the folder")
        if not _DIGEST.fullmatch(record["sha256"]) or not isinstance(record["bytes"], int):
            raise ValueError("no record")
        yield name, FileRecord(record["bytes"], record["sha256"])


def record_manifest(folder: Path, *, on_progress: Progress = lambda read: None) -> Manifest:
    """Hash every file of a folder, write it down as `manifest.json`, and return it.

    Raises ModelFolderError where the folder cannot be read or written.
    """
    try:
        names = [file.relative_to(folder).as_posix() for file in files_of(folder)]
        files = {
            name: FileRecord((folder / name).stat().st_size, hash_file(folder / name, on_progress=on_progress))
            for name in names
            if name != MANIFEST_NAME
        }
        manifest = Manifest(files, datetime.now(UTC).isoformat(timespec="seconds"))
        text = json.dumps(
            {
                "format": FORMAT,
                "recorded_at": manifest.recorded_at,
                "files": {
                    name: {"bytes": record.size_bytes, "sha256": record.sha256} for name, record in files.items()
                },
            },
            indent=1,
        )
        draft = folder / f".{MANIFEST_NAME}.draft"
        with draft.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(folder / MANIFEST_NAME)
    except OSError as error:
        raise ModelFolderError("engine.manifest.not_writable", model=folder.name) from error
    return manifest


def verify_manifest(
    folder: Path, manifest: Manifest, *, skip: frozenset[str] = frozenset(), on_progress: Progress = lambda read: None
) -> None:
    """Compare a folder with its manifest, by length first, then by hash but for the files in `skip`.

    Raises ModelFolderError that names the first file which is missing, changed, or not written down.
    """
    try:
        there = {file.relative_to(folder).as_posix() for file in files_of(folder)} - {MANIFEST_NAME}
    except OSError as error:
        raise ModelFolderError("engine.folder.missing", model=folder.name) from error
    for name in sorted(set(manifest.files) - there):
        raise ModelFolderError("engine.manifest.missing", model=folder.name, file=name)
    for name in sorted(there - set(manifest.files)):
        raise ModelFolderError("engine.manifest.unlisted", model=folder.name, file=name)
    for name, record in manifest.files.items():
        if _size_of(folder / name) != record.size_bytes:
            raise ModelFolderError("engine.manifest.changed", model=folder.name, file=name)
    for name, record in manifest.files.items():
        if name in skip:
            continue
        try:
            found = hash_file(folder / name, on_progress=on_progress)
        except OSError as error:
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=name) from error
        if found != record.sha256:
            raise ModelFolderError("engine.manifest.changed", model=folder.name, file=name)


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def hash_file(file: Path, *, on_progress: Progress = lambda read: None) -> str:
    """Return the SHA-256 of a file's bytes. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            on_progress(len(chunk))
    return digest.hexdigest()
