"""A copy of the whole history in one file, made while the app runs, and the way back from it.

Knows the database file, the picture files and how to make a copy of both that belongs together. Does not know turns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.audit import AuditLog
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.durable import TEMPORARY_SUFFIX, move_file, sync_folder
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder
from qwen_vl_app.history.lock import FolderLock
from qwen_vl_app.history.opening import DATABASE_NAME, EVERYTHING, PICTURES_NAME, RESTORING_NAME, SNAPSHOT_NAME
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.quarantine import set_aside
from qwen_vl_app.history.schema import copy_database, has_programs, known_versions, look_at
from qwen_vl_app.own_files import FOLDER_MODE, make_folder, new_file

FORMAT, VERSION = "qwen-vl-history-backup", 1
_MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 2**20
_LARGEST_MANIFEST_BYTES = 2**30
_TRIES = 5


def back_up(folder: DataFolder, target: Path) -> int:
    """Write everything into one file, under its name only once it is complete; return its size in bytes.

    Writing goes on meanwhile, but for the moment in which the database is copied; what is erased meanwhile is not in
    the copy. Raises HistoryError.
    """
    partial = target.with_name(target.name + TEMPORARY_SUFFIX)
    with translated():
        try:
            for _ in range(_TRIES - 1):
                if _write(folder, partial):
                    break
            else:
                with folder.writing():
                    _write(folder, partial)
            move_file(partial, target)
            return target.stat().st_size
        finally:
            partial.unlink(missing_ok=True)
            (folder.path / SNAPSHOT_NAME).unlink(missing_ok=True)


def back_up_in_use(folder: Path, target: Path) -> int:
    """Write the same from beside an app that is using the folder; return the size in bytes.

    What is erased meanwhile is not in the copy: it begins again, and gives up where that never ends. Raises HistoryError,
    among others `history.backup_disturbed`.
    """
    partial = target.with_name(target.name + TEMPORARY_SUFFIX)
    # Beside the target and not in the folder, where the app may be making a copy of its own.
    snapshot = target.with_name(target.name + ".snapshot")
    file, files = folder / DATABASE_NAME, PictureFiles(folder / PICTURES_NAME)
    with translated():
        try:
            for _ in range(_TRIES):
                copy_database(file, snapshot)
                state = look_at(snapshot)
                if not state.is_sound:
                    raise HistoryError("history.database_unsound")
                if state.version not in known_versions():
                    raise HistoryError("history.newer", found=state.version, known=known_versions()[0])
                erasures = _last_receipt(snapshot)
                if _pack(partial, snapshot, files, is_undisturbed=lambda: _last_receipt(file) == erasures):  # noqa: B023
                    move_file(partial, target)
                    size_bytes = target.stat().st_size
                    if state.version == known_versions()[0]:
                        _note(file, size_bytes)
                    return size_bytes
            raise HistoryError("history.backup_disturbed")
        finally:
            partial.unlink(missing_ok=True)
            snapshot.unlink(missing_ok=True)


def _last_receipt(file: Path) -> int:
    """Return the number of the last erasure that a database knows."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT coalesce(max(id), 0) FROM receipts").fetchone()[0])


def _note(file: Path, size_bytes: int) -> None:
    """Leave the audit file's line in the database; the app that uses it writes it down with its next change."""
    database = Database(file)
    try:
        with database.writing() as session:
            AuditLog().note(session, "backed_up", facts={"size_bytes": size_bytes})
    finally:
        database.close()


def restore(folder: Path, source: Path) -> Reason | None:
    """Put a backup in the place of a folder's history, which no app may be using.

    What was there is moved into a folder named `replaced-N`, and the returned reason says so; None where nothing was.
    Until everything of the backup is on the disk and checked, nothing is moved. Raises HistoryError, among others
    `history.not_a_backup`, `history.newer` and `history.in_use`.
    """
    with translated():
        make_folder(folder)
        lock = FolderLock(folder)
        lock.acquire()
        fresh = folder / RESTORING_NAME
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=FOLDER_MODE)
            try:
                _unpack(source, fresh)
            except (
                zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, AttributeError, RuntimeError, EOFError,
            ) as error:  # fmt: skip
                raise HistoryError("history.not_a_backup") from error
            replaced = None
            if any((folder / name).exists() for name in EVERYTHING):
                replaced = Reason("history.replaced", folder=set_aside(folder, EVERYTHING, prefix="replaced"))
            # The database last: where this is cut short, the next start finds pictures alone and sets them aside.
            if (fresh / PICTURES_NAME).exists():
                (fresh / PICTURES_NAME).rename(folder / PICTURES_NAME)
            move_file(fresh / DATABASE_NAME, folder / DATABASE_NAME)
            return replaced
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            lock.release()


def _write(folder: DataFolder, partial: Path) -> bool:
    """Write the copy, and return whether nothing was erased meanwhile."""
    snapshot = folder.path / SNAPSHOT_NAME
    with folder.writing() as opened:
        erasures = folder.erasures
        copy_database(opened.path / DATABASE_NAME, snapshot)
    return _pack(partial, snapshot, opened.files, is_undisturbed=lambda: folder.erasures == erasures)


def _pack(partial: Path, snapshot: Path, files: PictureFiles, *, is_undisturbed: Callable[[], bool]) -> bool:
    """Write a database's copy and its pictures; return whether nothing was erased meanwhile, and stop where it was."""
    with closing(sqlite3.connect(snapshot)) as connection:
        # SQLite would otherwise make companions for it wherever it is opened.
        connection.execute("PRAGMA journal_mode=DELETE")
        keys = [row[0] for row in connection.execute("SELECT DISTINCT file FROM renditions ORDER BY file")]
    hashes: dict[str, str] = {}
    with new_file(partial) as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            hashes[DATABASE_NAME] = _add(archive, DATABASE_NAME, snapshot, zipfile.ZIP_DEFLATED)
            for key in keys:
                if not is_undisturbed():
                    return False
                file = files.path_of(key)
                # A file that is gone is gone; the turn is still worth keeping.
                if file.is_file():
                    hashes[key] = _add(archive, f"{PICTURES_NAME}/{key}", file, zipfile.ZIP_STORED)
            manifest = {"format": FORMAT, "version": VERSION, "sha256": hashes}
            archive.writestr(_MANIFEST, json.dumps(manifest), zipfile.ZIP_DEFLATED)
        stream.flush()
        os.fsync(stream.fileno())
    return is_undisturbed()


def _add(archive: zipfile.ZipFile, entry: str, file: Path, compression: int) -> str:
    digest = hashlib.sha256()
    about = zipfile.ZipInfo(entry)
    about.compress_type = compression
    with file.open("rb") as source, archive.open(about, "w", force_zip64=True) as target:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


def _unpack(source: Path, fresh: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        with archive.open(_MANIFEST) as stream:
            manifest: dict[str, Any] = json.loads(stream.read(_LARGEST_MANIFEST_BYTES))
        if manifest["format"] != FORMAT:
            raise HistoryError("history.not_a_backup")
        if manifest["version"] > VERSION:
            raise HistoryError("history.archive_newer")
        hashes: dict[str, str] = manifest["sha256"]
        _extract(archive, DATABASE_NAME, fresh / DATABASE_NAME, sha256=hashes.pop(DATABASE_NAME))
        state = look_at(fresh / DATABASE_NAME)
        if not state.is_sound or has_programs(fresh / DATABASE_NAME):
            raise HistoryError("history.not_a_backup")
        if state.version not in known_versions():
            raise HistoryError("history.newer", found=state.version, known=known_versions()[0])
        folders = {fresh}
        for key, sha256 in hashes.items():
            if not _KEY.fullmatch(key):
                raise HistoryError("history.not_a_backup")
            file = fresh / PICTURES_NAME / key[:2] / key
            if not file.parent.is_dir():
                make_folder(file.parent)
                folders |= {file.parent, file.parent.parent}
            _extract(archive, f"{PICTURES_NAME}/{key}", file, sha256=sha256)
        for folder in folders:
            sync_folder(folder)


def _extract(archive: zipfile.ZipFile, entry: str, file: Path, *, sha256: str) -> None:
    digest = hashlib.sha256()
    with archive.open(entry) as source, new_file(file) as target:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != sha256:
        raise HistoryError("history.not_a_backup")
