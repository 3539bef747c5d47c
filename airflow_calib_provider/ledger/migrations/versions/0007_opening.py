"""What is left to open, in its order, and quick ways to a run's payload and to what is to be cleaned."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPENING = sa.text("opening IS NOT NULL")
UNCLEANED = sa.text("cleaned_at IS NULL")


def upgrade() -> None:
    """Add the column and the indices; groups with nothing left to do stay out of the queue."""
    comment = "queued, asked; null: nothing is left to do"
    with op.batch_alter_table("run_group", recreate="never") as batch:
        batch.add_column(sa.Column("opening", sa.String(length=20), comment=comment))
    group = sa.table("run_group", *map(sa.column, ("id", "state", "opening")))
    task = sa.table("group_task", *map(sa.column, ("group_id", "state")))
    request = sa.table("dag_run_request", sa.column("group_id"))
    asked = group.c.id.in_(sa.select(request.c.group_id))

    def with_task(*states: str) -> sa.ColumnElement[bool]:
        return group.c.id.in_(sa.select(task.c.group_id).where(task.c.state.in_(states)))

    op.execute(
        sa.update(group)
        .where(group.c.state.in_(["forming", "closed"]), ~asked, with_task("new", "waiting"))
        .values(opening="queued")
    )
    op.execute(
        sa.update(group).where(asked, with_task("new", "waiting", "processing", "failed")).values(opening="asked")
    )
    op.create_index(
        "ix_run_group_opening",
        "run_group",
        ["opening", "campaign", "workflow", "grouping", "first_run"],
        sqlite_where=OPENING,
        postgresql_where=OPENING,
    )
    op.create_index("ix_run_number", "run", ["number"])
    op.create_index("ix_run_group_campaign_first_run", "run_group", ["campaign", "first_run"])
    op.create_index("ix_payload_interval", "payload", ["campaign", "tag", "state", "first_run", "last_run"])
    op.drop_index("ix_payload_campaign_tag_first_run", "payload")
    op.create_index(
        "ix_generation_uncleaned",
        "generation",
        ["ended_at"],
        sqlite_where=UNCLEANED,
        postgresql_where=UNCLEANED,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_generation_uncleaned", "generation")
    op.create_index("ix_payload_campaign_tag_first_run", "payload", ["campaign", "tag", "first_run"])
    op.drop_index("ix_payload_interval", "payload")
    op.drop_index("ix_run_number", "run")
    op.drop_index("ix_run_group_campaign_first_run", "run_group")
    op.drop_index("ix_run_group_opening", "run_group")
    with op.batch_alter_table("run_group", recreate="never") as batch:
        batch.drop_column("opening")
