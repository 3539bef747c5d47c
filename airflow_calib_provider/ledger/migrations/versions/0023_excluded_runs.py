"""Runs that a group went on without because they had failed in what it needs."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import BigId, UtcDateTime, name_column

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; of tasks that are there already nobody knows what comes before them, until their spec is edited."""
    op.create_table(
        "excluded_run",
        sa.Column("group_id", BigId, nullable=False),
        name_column("task"),
        sa.Column("run", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("reason", sa.JSON, nullable=False, comment="what had failed for it, when and why"),
        sa.Column("at", UtcDateTime, nullable=False, comment="when the task began, or published, without it"),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name=op.f("fk_excluded_run_group_id_run_group")),
        sa.PrimaryKeyConstraint("group_id", "task", "run", name=op.f("pk_excluded_run")),
    )
    before = sa.JSON(none_as_null=True)
    op.add_column("group_task", sa.Column("after", before, comment="the tasks of its own DAG that it needs"))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("group_task", recreate="never") as batch:
        batch.drop_column("after")
    op.drop_table("excluded_run")
