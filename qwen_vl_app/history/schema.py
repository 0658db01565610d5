"""The database file's own life: is it sound, how old is it, and the way from any version to this one.

Migrations are run from code, on a copy's safety. Knows files, versions and Alembic; does not know what the tables mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.durable import TEMPORARY_SUFFIX, move_file
from qwen_vl_app.history.faults import is_damage, translated
from qwen_vl_app.history.tables import Base
from qwen_vl_app.own_files import begin_file, make_folder

SCRIPTS = Path(__file__).parent / "migrations"
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite may keep beside a database, by the end of its name."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What a look at a database file told. A file that is not sound has no version."""

    is_sound: bool
    version: str = ""


def look_at(file: Path, *, is_trusted: bool = False) -> FileState:
    """Read a database file through, without changing it. Raises HistoryError where it cannot be opened at all.

    Of a trusted one only the version is read.

    A database of ours is never empty and always has a version, because it gets its name only once it is complete: so
    an empty file is damage and not a fresh start.
    """
    if file.stat().st_size == 0:
        return FileState(is_sound=False)
    with translated(), closing(_open_read_only(file)) as connection:
        try:
            if not is_trusted and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return FileState(is_sound=False)
            has_version = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone() if has_version else None
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return FileState(is_sound=False)
            raise
    return FileState(is_sound=version is not None, version=str(version[0]) if version else "")


def has_programs(file: Path) -> bool:
    """Return whether a database brings triggers or views, of which ours has none: they would do something else than was asked.

    Raises what SQLite raises.
    """
    with closing(_open_read_only(file)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    return found is not None


def create(file: Path) -> None:
    """Make a new database under its final name, in one step. Raises HistoryError."""
    fresh = file.with_name(file.name + ".new")
    with translated():
        for leftover in (fresh, *(fresh.with_name(fresh.name + end) for end in COMPANIONS)):
            leftover.unlink(missing_ok=True)
        begin_file(fresh)  # SQLite gives its companions the same rights
        _migrate(fresh)
        move_file(fresh, file)


def bring_up_to_date(file: Path, version: str, *, copies: Path) -> Path | None:
    """Bring a sound database from its version to the newest; return the copy that was made first, or None.

    Raises HistoryError `history.newer` for a version that this app does not know, `history.migration_failed`, or what
    the disk complains about; the database is then as it was.
    """
    scripts = ScriptDirectory(SCRIPTS)
    newest = scripts.get_current_head()
    if version == newest:
        return None
    if version not in {script.revision for script in scripts.walk_revisions()}:
        raise HistoryError("history.newer", found=version, known=newest)
    copy = copies / f"history-{version}.db"
    with translated():
        make_folder(copies)
        copy_database(file, copy)
    try:
        _migrate(file)
    except HistoryError as error:
        if error.code != "history.storage_failed":
            raise
        raise HistoryError("history.migration_failed", version=version) from error
    except Exception as error:
        # A migration is a script of any content; whatever it raises, the transaction has been undone.
        raise HistoryError("history.migration_failed", version=version) from error
    return copy


def create_in_memory(database: Database) -> None:
    """Make the tables in a database that lives in memory. Raises HistoryError."""
    with database.connection() as connection:
        _run_scripts(connection)


def known_versions() -> list[str]:
    """Return the versions that this app can read, the newest first."""
    return [script.revision for script in ScriptDirectory(SCRIPTS).walk_revisions()]


def _migrate(file: Path) -> None:
    database = Database(file, foreign_keys=False)
    try:
        with database.connection() as connection:
            _run_scripts(connection)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise HistoryError("history.storage_failed")
    finally:
        database.close()


def _run_scripts(connection: Connection) -> None:
    scripts = ScriptDirectory(SCRIPTS)

    def upgrade(revision: str | Sequence[str], _context: MigrationContext) -> list[Script]:
        return scripts._upgrade_revs("head", revision)  # type: ignore[return-value,arg-type]

    with EnvironmentContext(Config(), scripts, fn=upgrade, destination_rev="head") as environment:
        # Without `transactional_ddl` Alembic takes SQLite for a database that cannot undo DDL, and half a migration stays.
        environment.configure(
            connection=connection, target_metadata=Base.metadata, transactional_ddl=True, render_as_batch=True
        )
        environment.run_migrations()


def copy_database(source: Path, target: Path) -> None:
    """Copy one state of a database, also while it is in use. Raises OSError and what SQLite raises."""
    partial = target.with_name(target.name + TEMPORARY_SUFFIX)
    partial.unlink(missing_ok=True)
    begin_file(partial)
    try:
        with closing(_open_read_only(source)) as reader, closing(sqlite3.connect(partial)) as writer:
            reader.backup(writer)
        move_file(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _open_read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
