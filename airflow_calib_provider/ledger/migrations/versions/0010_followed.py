"""Which text of a spec the groups of a grouping follow, so that nothing is looked for where nothing was edited."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is filled in by the next injection."""
    with op.batch_alter_table("grouping", recreate="never") as batch:
        batch.add_column(sa.Column("spec_hash", sa.String(length=64), comment="all that has not begun follows it"))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("grouping", recreate="never") as batch:
        batch.drop_column("spec_hash")
