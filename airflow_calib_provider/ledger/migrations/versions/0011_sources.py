"""What the file of a run source was when it was read last, and up to which of its news a grouping is assigned."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the column; both are filled in by the next injection."""
    op.create_table(
        "run_source",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False, comment=_SERIAL),
        sa.Column("identity", sa.String(length=64), comment=_IDENTITY),
        sa.PrimaryKeyConstraint("name", name="pk_run_source"),
    )
    with op.batch_alter_table("grouping", recreate="never") as batch:
        batch.add_column(sa.Column("source_serial", sa.BigInteger(), comment=_ASSIGNED))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("grouping", recreate="never") as batch:
        batch.drop_column("source_serial")
    op.drop_table("run_source")


_SERIAL = "grows with all that is recorded of its runs"
_IDENTITY = "of what was read last, completely; null: it is to be read"
_ASSIGNED = "what its source had told when all of that was assigned"
