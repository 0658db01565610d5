"""Pins, branches, full-text search, stored answers, receipts, corrections, and the outbox of the audit file.

Columns are added and no table is rebuilt: a rebuilt one would forget which ids were given before. The search index is
filled by the app afterwards, since how text is cut into words is the app's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them, and make a line of every conversation there is."""
    op.add_column("conversations", sa.Column("is_pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("is_renamed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("active_turn_id", sa.Integer(), nullable=True))
    op.drop_index("ix_conversations_owner_last_turn_id", "conversations")
    op.create_index(
        "ix_conversations_owner_is_pinned_last_turn_id", "conversations", ["owner", "is_pinned", "last_turn_id"]
    )
    op.add_column("turns", sa.Column("parent_id", sa.Integer(), nullable=True))
    op.add_column("turns", sa.Column("fingerprint", sa.Text(), nullable=False, server_default=""))
    op.add_column("turns", sa.Column("precision", sa.Text(), nullable=False, server_default=""))
    op.execute(
        "UPDATE turns SET parent_id = (SELECT max(earlier.id) FROM turns AS earlier"
        " WHERE earlier.conversation_id = turns.conversation_id AND earlier.id < turns.id)"
    )
    op.execute(
        "UPDATE conversations SET active_turn_id = "
        "(SELECT max(turns.id) FROM turns WHERE turns.conversation_id = conversations.id)"
    )
    op.create_index("ix_turns_conversation_id_parent_id", "turns", ["conversation_id", "parent_id"])
    op.create_index("ix_turns_asked_at", "turns", ["asked_at"])
    # `scope` holds the owner and whether there are pictures, as words, so that one index answers a whole search.
    # Without an index of its own, looking for the beginning of a word would first collect every turn that has one.
    op.execute(
        "CREATE VIRTUAL TABLE turn_search USING fts5("
        "title, question, answer, read, names, scope, prefix = '3 4 5', tokenize = 'unicode61 remove_diacritics 2')"
    )
    op.create_table(
        "cached_answers",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("turn_id", sa.Integer(), nullable=False),
        sa.Column("kept_at", sa.DateTime(), nullable=False),
        sa.Column("answer_bytes", sa.Integer(), nullable=False),
        sa.Column("used_no", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_cached_answers"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_cached_answers_turn_id_turns", ondelete="CASCADE"),
    )
    op.create_index("ix_cached_answers_turn_id", "cached_answers", ["turn_id"])
    op.create_index("ix_cached_answers_used_no", "cached_answers", ["used_no"])
    op.create_table(
        "receipts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("conversations", "turns", "pictures", "files", "file_bytes", "cached_answers")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_receipts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_receipts_owner_id", "receipts", ["owner", "id"])
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_corrections"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_corrections_turn_id_turns", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_corrections_turn_id", "corrections", ["turn_id"])
    op.create_table(
        "audit_outbox",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_outbox"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
