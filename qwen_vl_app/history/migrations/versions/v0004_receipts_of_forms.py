"""Receipts count filled forms, too, which lie beside the history."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; receipts of before count none."""
    op.add_column("receipts", sa.Column("forms", sa.Integer(), nullable=False, server_default="0"))
