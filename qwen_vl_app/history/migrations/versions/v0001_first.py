"""The first tables: conversations, turns, pictures of turns, renditions.

A migration speaks plain SQL types and never the app's classes: those move on, it stays.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables in an empty database."""
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("last_turn_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_conversations_owner_last_turn_id", "conversations", ["owner", "last_turn_id"])
    op.create_table(
        "turns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("sampling", sa.Text(), nullable=False),
        sa.Column("answer_text", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_turns_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turns_conversation_id_id", "turns", ["conversation_id", "id"])
    op.create_index("ix_turns_state", "turns", ["state"])
    op.create_table(
        "turn_pictures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("picture_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("seen_width", sa.Integer(), nullable=False),
        sa.Column("seen_height", sa.Integer(), nullable=False),
        sa.Column("seen_tokens", sa.Integer(), nullable=False),
        sa.Column("seen_detail", sa.Text(), nullable=False),
        sa.Column("view_mime", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("page_count", sa.Integer(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_turn_pictures"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_turn_pictures_turn_id_turns", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turn_pictures_turn_id", "turn_pictures", ["turn_id"])
    op.create_table(
        "renditions",
        sa.Column("turn_picture_id", sa.Integer(), nullable=False),
        sa.Column("rendition", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("turn_picture_id", "rendition", name="pk_renditions"),
        sa.ForeignKeyConstraint(
            ["turn_picture_id"],
            ["turn_pictures.id"],
            name="fk_renditions_turn_picture_id_turn_pictures",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_renditions_file", "renditions", ["file"])
