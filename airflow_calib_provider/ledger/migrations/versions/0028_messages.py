"""Messages to people: channels, alarms, and deadlines of publications."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, BigId, UtcDateTime

revision = "0028"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; a channel that is new begins with what happens from then on."""
    op.create_table(
        "message_channel",
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column(
            "cursor", sa.BigInteger, nullable=False, comment="the last event that was told there, or is not to be"
        ),
        sa.Column("holder", sa.String(64), comment="who sends now"),
        sa.Column("held_until", UtcDateTime),
        sa.Column("sent", sa.BigInteger, nullable=False, comment="messages"),
        sa.Column("last_sent_at", UtcDateTime),
        sa.Column("last_success_at", UtcDateTime, comment="when nothing was left, or a message was sent"),
        sa.Column("last_error", AnyText),
        sa.Column("last_error_at", UtcDateTime),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_message_channel")),
    )
    op.create_table(
        "alarm",
        sa.Column("key", sa.String(300), nullable=False, comment="what is amiss, and where"),
        sa.Column("code", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False, comment="raised, cleared"),
        sa.Column("reason", sa.JSON, nullable=False),
        sa.Column("since", UtcDateTime, nullable=False),
        sa.Column("campaign", sa.String(120)),
        sa.Column("workflow", sa.String(120)),
        sa.Column("task", sa.String(120)),
        sa.Column("group_name", sa.String(120)),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_alarm")),
    )
    op.create_index(op.f("ix_alarm_state"), "alarm", ["state"])
    op.create_table(
        "publication_deadline",
        sa.Column("group_id", BigId, nullable=False),
        sa.Column("task", sa.String(120), nullable=False),
        sa.Column("at_most", sa.Integer, nullable=False, comment="seconds"),
        sa.Column("since", sa.String(20), nullable=False, comment="run_end, group_closed"),
        sa.Column("remind", sa.Integer, nullable=False, comment="seconds before its end at which it is near"),
        sa.Column("then", sa.String(20), nullable=False, comment="alarm, fallback"),
        sa.Column("state", sa.String(20), nullable=False, comment="counting, near, passed, met"),
        sa.Column("due", UtcDateTime, comment="null: the group takes runs"),
        sa.Column(
            "look_at", UtcDateTime, comment="when something is to be said next; null: never again, or not known yet"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["run_group.id"], name=op.f("fk_publication_deadline_group_id_run_group")
        ),
        sa.PrimaryKeyConstraint("group_id", "task", name=op.f("pk_publication_deadline")),
    )
    op.create_index(op.f("ix_publication_deadline_look_at"), "publication_deadline", ["look_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("publication_deadline")
    op.drop_table("alarm")
    op.drop_table("message_channel")
