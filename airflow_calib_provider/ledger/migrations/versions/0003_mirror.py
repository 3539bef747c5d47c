"""What the mirror needs: how far each target is, what was refused there, and quick ways to a group and its history."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
GROUP_HISTORY = sa.text("entity IN ('membership', 'group_task', 'run_group')")


def upgrade() -> None:
    """Create the tables and indices; what is there stays as it is."""
    _create_target()
    _create_set_aside()
    op.create_index("ix_run_group_campaign_workflow_name", "run_group", ["campaign", "workflow", "name"])
    op.create_index(
        "ix_event_group_history",
        "event",
        ["campaign", "workflow", "group_name", "id"],
        sqlite_where=GROUP_HISTORY,
        postgresql_where=GROUP_HISTORY,
    )


def _create_target() -> None:
    op.create_table(
        "mirror_target",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("place", sa.Text(), nullable=False, comment="where it is, without secrets"),
        sa.Column("cursor", sa.BigInteger(), nullable=False, comment="the last event that was carried there"),
        sa.Column(
            "holes",
            sa.JSON(),
            nullable=False,
            comment="ids below the cursor that nobody could see yet: [first, last, since]",
        ),
        sa.Column("holder", sa.String(length=64), comment="who carries now"),
        sa.Column("held_until", sa.DateTime(timezone=True)),
        sa.Column("last_success_at", sa.DateTime(timezone=True)),
        sa.Column("last_error", sa.Text()),
        sa.Column("last_error_at", sa.DateTime(timezone=True)),
        sa.Column(
            "skipped_by_retention",
            sa.BigInteger(),
            nullable=False,
            comment="points that were older than its retention",
        ),
        sa.Column("note", sa.Text(), comment="what is odd about the events, such as a clock that goes backwards"),
        sa.Column("note_at", sa.DateTime(timezone=True)),
        sa.Column("sample", sa.JSON(), comment="the last figures of the system that were appended as events"),
        sa.Column("sampled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_mirror_target"),
    )


def _create_set_aside() -> None:
    op.create_table(
        "mirror_set_aside",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("target", sa.String(length=120), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("measurement", sa.String(length=120), nullable=False),
        sa.Column(
            "line",
            sa.Text(),
            nullable=False,
            comment="as it was refused; empty: no point could be made of the event",
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mirror_set_aside"),
    )
    op.create_index("ix_mirror_set_aside_target_event_id", "mirror_set_aside", ["target", "event_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_event_group_history", "event")
    op.drop_index("ix_run_group_campaign_workflow_name", "run_group")
    op.drop_table("mirror_set_aside")
    op.drop_table("mirror_target")
