"""The connection to SQLite: what every connection promises, and how changes become durable and deletions final.

Knows pragmas and transactions. Does not know tables.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, StaticPool

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.faults import translated

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_PATIENCE_S = 2.0
_PROMISES = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    # Deleted content is overwritten with zeros; FAST would leave it in free pages.
    "secure_delete": ("ON", 1),
    # SQLite would otherwise spill sorted rows, with people's words in them, into files outside the data folder.
    "temp_store": ("MEMORY", 2),
}

_PROMISES_IN_MEMORY = {name: kept for name, kept in _PROMISES.items() if name in ("secure_delete", "temp_store")}

_DOUBTS = frozenset({"history.damaged", "history.storage_failed"})


class Database:
    """An open SQLite file. Safe to use from several threads; each block has a connection of its own."""

    def __init__(self, file: Path | None, *, foreign_keys: bool = True) -> None:
        """Prepare; the first connection is made at the first use. Without a file it lives in memory, until `close`.

        Migrations take `foreign_keys=False`: SQLite changes a table by rebuilding it, and dropping the old one would
        cascade to every row that refers to it.
        """
        # Whoever turns logging up must not find questions in the log: neither statements' values nor rows.
        logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
        self._engine: Engine
        if file is None:
            # One connection is the database: whoever uses it has it alone.
            self._engine = create_engine(
                "sqlite+pysqlite://",
                connect_args={"check_same_thread": False},
                poolclass=StaticPool,
                hide_parameters=True,
            )
            self._alone: AbstractContextManager[object] = threading.RLock()
            self._promises = _PROMISES_IN_MEMORY
        else:
            self._engine = create_engine(
                URL.create("sqlite+pysqlite", database=str(file)),
                connect_args={"timeout": BUSY_TIMEOUT_S},
                poolclass=QueuePool,
                pool_size=8,
                max_overflow=-1,
                hide_parameters=True,
            )
            self._alone = nullcontext()
            self._promises = _PROMISES
        self._foreign_keys = foreign_keys
        self.is_doubtful = False
        """True once something could not be read or written as it should: the file is then to be read through before it is used again."""
        event.listen(self._engine, "connect", self._promise)
        event.listen(self._engine, "begin", _begin)
        # IMMEDIATE takes the write lock first, where waiting is possible: a reader that turns writer cannot wait.
        self._writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")

    def close(self) -> None:
        """Close the idle connections. The last one to go writes the log back into the database and removes it."""
        self._engine.dispose()

    def copy_from(self, file: Path) -> None:
        """Become a copy of a database file as it is at this moment, also while it is in use. For one that lives in memory."""
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
            raw = self._engine.raw_connection()
            try:
                driver = raw.driver_connection
                if isinstance(driver, sqlite3.Connection):
                    source.backup(driver)
            finally:
                raw.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees one state of the database. Raises HistoryError."""
        with self._alone, self._told(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose changes are on the disk when the block ends well, and nowhere when it raises."""
        with self._alone, self._told(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield a bare connection inside one writing transaction."""
        with self._alone, self._told(), self._writing.begin() as connection:
            yield connection

    def checkpoint(self, *, patience_s: float = CHECKPOINT_PATIENCE_S) -> bool:
        """Write the log back into the database and empty it; until then erased rows can be read in the log.

        Returns False where a reader held on to the old state for longer than `patience_s`.
        """
        if self._promises is _PROMISES_IN_MEMORY:
            return True
        deadline = time.monotonic() + patience_s
        pause_s = 0.005
        with self._told():
            raw = self._engine.raw_connection()
            cursor = raw.cursor()
            try:
                # The waiting is done here, within a bound; SQLite's own would hold up each try for its full time-out.
                cursor.execute("PRAGMA busy_timeout=0")
                while True:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    told = cursor.fetchone()
                    is_busy = told is None or bool(told[0])
                    if not is_busy or time.monotonic() >= deadline:
                        return not is_busy
                    time.sleep(pause_s)
                    pause_s = min(pause_s * 2, 0.1)
            finally:
                cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
                cursor.close()
                raw.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors inside the block into HistoryErrors, and remember those that speak against the file."""
        try:
            with translated():
                yield
        except HistoryError as error:
            self.is_doubtful |= error.code in _DOUBTS
            raise

    def _promise(self, connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver would otherwise begin transactions by itself, late and never IMMEDIATE, and none around DDL.
        connection.isolation_level = None
        promises = self._promises | {"foreign_keys": ("ON", 1) if self._foreign_keys else ("OFF", 0)}
        with translated():
            for pragma, (value, kept) in promises.items():
                connection.execute(f"PRAGMA {pragma}={value}").close()
                if connection.execute(f"PRAGMA {pragma}").fetchone() != (kept,):
                    raise HistoryError("history.unsafe_storage", pragma=pragma)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
