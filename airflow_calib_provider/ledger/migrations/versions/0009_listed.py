"""Whether the source of a run still lists it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the next injection fills it."""
    op.add_column("run", sa.Column("listed", sa.Boolean(), comment=_COMMENT))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("run", recreate="never") as batch:
        batch.drop_column("listed")


_COMMENT = "whether its source lists it; null: added by hand, or not read since"
