"""Receipts count runs over folders, too, whose journals lie beside the history."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; receipts of before count none."""
    op.add_column("receipts", sa.Column("runs", sa.Integer(), nullable=False, server_default="0"))
