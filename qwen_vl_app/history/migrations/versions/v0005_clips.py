"""Clips are kept as pictures are, with their length and the times of the frames that the model saw."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was kept before has no clips."""
    op.add_column("turn_pictures", sa.Column("clip", sa.Text(), nullable=True))
