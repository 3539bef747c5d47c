"""The life of campaigns: order, priority, throttle, where they begin, and whether their spec still fits the DAGs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; campaigns of before have no throttle, and open what comes first."""
    for column in _columns():
        op.add_column("campaign", column)
    op.add_column("grouping", sa.Column("spec_changed", sa.JSON(), comment=_CHANGED))
    _comment("collecting, grouping, open, paused, closed, cancelled", "open or closed")


def downgrade() -> None:
    """Drop them."""
    _comment("open or closed", "collecting, grouping, open, paused, closed, cancelled")
    with op.batch_alter_table("grouping", recreate="never") as batch:
        batch.drop_column("spec_changed")
    with op.batch_alter_table("campaign", recreate="never") as batch:
        for column in reversed(_columns()):
            batch.drop_column(column.name)


def _comment(new: str, old: str) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("campaign", "state", existing_type=sa.String(20), existing_comment=old, comment=new)


_CHANGED = "why the tasks of the campaign's own spec do not fit the DAG any more; null: they do"


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("first_tasks", sa.JSON(), nullable=False, server_default="{}", comment="workflow -> tasks"),
        sa.Column("run_order", sa.String(20), comment="newest; null: ascending"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0", comment="higher ones open first"),
        sa.Column("max_groups", sa.Integer(), comment="how many groups may be open; null: any number"),
        sa.Column("max_jobs", sa.Integer(), comment="how many jobs may be submitted; null: any number"),
        sa.Column("since", sa.DateTime(timezone=True), comment="when it came into its state"),
        sa.Column("grouped_at", sa.DateTime(timezone=True), comment="when a finite one was grouped completely"),
        sa.Column("created_by", sa.String(120)),
    ]
