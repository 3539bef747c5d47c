"""Workers that an iteration reserves, and results that were not used."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import BigId, UtcDateTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; what is there reserves none."""
    how = "how the workers are that it reserves, if it does"
    op.add_column("iteration", sa.Column("workers", sa.JSON(none_as_null=True), comment=how))
    op.create_table(
        "refused_result",
        sa.Column("generation_id", BigId, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, comment="that it says it is of"),
        sa.Column("job_index", sa.Integer),
        sa.Column("attempt", sa.Integer),
        sa.Column("worker", sa.Integer),
        sa.Column("epoch", sa.Integer, comment="of the worker"),
        sa.Column("file", sa.Text, nullable=False, comment="what it was called in the mailbox"),
        sa.Column("why", sa.Text, nullable=False, comment="it is not used"),
        sa.Column("seen_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generation.id"], name=op.f("fk_refused_result_generation_id_generation")
        ),
        sa.PrimaryKeyConstraint("generation_id", "n", name=op.f("pk_refused_result")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("refused_result")
    with op.batch_alter_table("iteration", recreate="never") as batch:
        batch.drop_column("workers")
