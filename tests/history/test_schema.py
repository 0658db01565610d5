"""The database is made by migrations, which are copied before, undone when they fail, and agree with the models."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from qwen_vl_app.chat import Question, StagedPicture
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, schema
from qwen_vl_app.history.database import Database
from qwen_vl_app.history.tables import Base

OWNER = "a-browser"
NEXT_VERSION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade():
    with op.batch_alter_table("conversations") as batch:
        batch.add_column(sa.Column("is_loud", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.alter_column("title", nullable=True)
"""


@pytest.fixture
def next_scripts(tmp_path: Path) -> Path:
    """The migrations with one more, which rebuilds a table that others refer to."""
    scripts = tmp_path / "migrations"
    shutil.copytree(schema.SCRIPTS, scripts)
    (scripts / "versions" / "v0003_next.py").write_text(NEXT_VERSION, encoding="utf-8")
    return scripts


def versions(file: Path) -> list[tuple[str]]:
    """The versions that a database file says it has."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


def is_index(name: str | None) -> bool:
    """The full-text index and the tables that SQLite makes for it are not among the models."""
    return (name or "").startswith("turn_search")


def test_migrations_make_what_the_models_say(tmp_path: Path) -> None:
    """Tables, columns, keys and indexes are the same by both ways."""
    schema.create(tmp_path / "migrated.db")
    migrated, modelled = (create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("migrated", "modelled"))
    Base.metadata.create_all(modelled)
    try:
        with migrated.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "include_object": lambda _o, name, *_r: not is_index(name)}
            )
            assert compare_metadata(context, Base.metadata) == []
    finally:
        migrated.dispose()
        modelled.dispose()

    def definitions(name: str) -> dict[tuple[str, str], object]:
        """Columns, references and indexes of every table, and whether its ids are given once only."""
        told: dict[tuple[str, str], object] = {}
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
            for table, sql in tables:
                if is_index(table) or table in ("alembic_version", "sqlite_sequence"):
                    continue
                told[table, "once"] = "AUTOINCREMENT" in sql
                for pragma in ("table_xinfo", "foreign_key_list"):
                    rows = connection.execute(f"PRAGMA {pragma}({table})").fetchall()
                    # The first value numbers the rows, and a default may stand in quotation marks.
                    told[table, pragma] = {
                        tuple(value.strip("'") if isinstance(value, str) else value for value in row[1:])
                        for row in rows
                    }
            indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
            told["", "indexes"] = set(indexes.fetchall())
        return told

    made = definitions("migrated")
    assert len(made) > 20
    assert made == definitions("modelled")


def test_an_older_history_is_copied_and_upgraded(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    picture: Callable[..., StagedPicture],
    next_scripts: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is lost, not even rows that refer to a rebuilt table; the former state is kept until something is deleted."""
    turn = store.begin_turn(OWNER, Question("kept", (picture("x"),)), title="t")
    store.close()
    monkeypatch.setattr(schema, "SCRIPTS", next_scripts)

    upgraded = open_store()

    copy = folder / "before-upgrade" / "history-0005.db"
    assert [(notice.code, notice.facts["copy"]) for notice in upgraded.notices] == [("history.upgraded", copy.name)]
    assert versions(folder / "history.db") == [("0006",)]
    assert versions(copy) == [("0005",)]
    assert [kept.name for kept in upgraded.turn(OWNER, turn.id).pictures] == ["panel.jpg"]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT question FROM turns").fetchall() == [("kept",)]
    upgraded.close()
    assert open_store().notices == ()


def test_a_deletion_takes_the_copy_too(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    next_scripts: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is deleted does not live on in the copy made before an upgrade."""
    turn = store.begin_turn(OWNER, Question("kept"), title="t")
    store.close()
    monkeypatch.setattr(schema, "SCRIPTS", next_scripts)
    upgraded = open_store()
    assert (folder / "before-upgrade").exists()
    upgraded.delete_conversation(OWNER, turn.conversation_id)
    assert not (folder / "before-upgrade").exists()


def test_a_failing_upgrade_leaves_the_history_as_it_was(
    store: HistoryStore,
    open_store: Callable[[], HistoryStore],
    folder: Path,
    next_scripts: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A migration that raises half-way is undone whole, and the earlier version of the app goes on with the history."""
    turn = store.begin_turn(OWNER, Question("kept"), title="t")
    store.close()
    broken = NEXT_VERSION + '    op.execute("DELETE FROM turns")\n    raise RuntimeError("half-way")\n'
    (next_scripts / "versions" / "v0003_next.py").write_text(broken, encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCRIPTS", next_scripts)
        with pytest.raises(HistoryError) as failed:
            HistoryStore(folder).open()
    assert failed.value.code == "history.migration_failed"
    assert versions(folder / "history.db") == [("0005",)]
    assert open_store().turn(OWNER, turn.id).question == "kept"


def test_a_newer_history_is_refused_and_untouched(
    store: HistoryStore, folder: Path, next_scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of a version that this app does not know keeps every byte, and the folder is free again."""
    store.begin_turn(OWNER, Question("kept"), title="t")
    store.close()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCRIPTS", next_scripts)
        store.open()
        store.close()
    before = (folder / "history.db").read_bytes()
    for _ in range(2):
        with pytest.raises(HistoryError) as refused:
            HistoryStore(folder).open()
        assert refused.value.code == "history.newer"
        assert dict(refused.value.facts) == {"found": "0006", "known": "0005"}
    assert (folder / "history.db").read_bytes() == before


def test_every_connection_keeps_its_promises(tmp_path: Path) -> None:
    """Deleted content is overwritten, commits are synced and references are checked on each connection, also the tenth."""
    database = Database(tmp_path / "x.db")
    try:
        for _ in range(10):
            with database.reading() as session, database.reading() as other:
                for one in (session, other):
                    connection = one.connection()
                    values = [
                        connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
                        for pragma in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
                    ]
                    assert values == ["wal", 2, 1, 1]
    finally:
        database.close()


def test_storage_that_cannot_promise_is_refused() -> None:
    """A database in memory has no write-ahead log; the refusal names what is missing."""
    database = Database(Path(":memory:"))
    with pytest.raises(HistoryError) as refused, database.reading() as session:
        session.connection()
    assert (refused.value.code, refused.value.facts["pragma"]) == ("history.unsafe_storage", "journal_mode")


def test_a_first_version_history_becomes_branches_and_can_be_searched(
    open_store: Callable[[], HistoryStore], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations written before there were branches are one branch each, their words are found, their ids go on."""
    first = tmp_path / "first"
    (first / "versions").mkdir(parents=True)
    shutil.copy(schema.SCRIPTS / "versions" / "v0001_first.py", first / "versions")
    folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCRIPTS", first)
        schema.create(folder / "history.db")
    sampling = '{"max_new_tokens":9,"temperature":0,"top_p":1,"top_k":0,"seed":null,"stop":[]}'
    with closing(sqlite3.connect(folder / "history.db")) as connection:
        for number in (1, 2):
            connection.execute(
                f"INSERT INTO conversations VALUES ({number}, 'a-browser', '锅炉 {number}', '2026-01-01', '2026-01-01', 9)"
            )
        for turn, conversation in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (9, 1)):
            connection.execute(
                "INSERT INTO turns VALUES (?, ?, 'done', '2026-01-01 10:00:00', NULL, ?, ?, 'said', NULL)",
                (turn, conversation, f"question {turn}", sampling),
            )
        connection.execute("DELETE FROM turns WHERE id = 9")
        connection.commit()

    store = open_store()

    assert [turn.id for turn in store.turns(OWNER, 1)] == [1, 3, 5]
    assert [(turn.parent_id, turn.branch_ids) for turn in store.turns(OWNER, 2)] == [(None, (2,)), (2, (4,))]
    assert {hit.turn_id for hit in store.search(OWNER, "锅炉").hits} == {1, 2}
    assert [hit.turn_id for hit in store.search(OWNER, "question 4").hits] == [4]
    assert store.begin_turn(OWNER, Question("next", conversation_id=1), title="").id == 10
    assert [turn.id for turn in store.turns(OWNER, 1)] == [1, 3, 5, 10]
