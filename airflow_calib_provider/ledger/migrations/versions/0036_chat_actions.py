"""Actions from chat: what is declared, and what was asked for."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, UtcDateTime

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; nothing is declared."""
    op.create_table(
        "chat_endpoint",
        sa.Column("team", sa.String(120), nullable=False),
        sa.Column("declared", sa.JSON, nullable=False, comment="what messages.yaml says"),
        sa.Column(
            "seen_at", UtcDateTime, nullable=False, comment="when it was last said; long ago: it is said no more"
        ),
        sa.PrimaryKeyConstraint("team", name=op.f("pk_chat_endpoint")),
    )
    op.create_table(
        "chat_action",
        sa.Column("nonce", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False, comment="asked, wanted, carrying, done, failed, refused"),
        sa.Column("action", sa.String(20), nullable=False, comment="retry, skip, pause, resume"),
        sa.Column("wanted", sa.JSON, nullable=False, comment="what the button said: ids, and the state of then"),
        sa.Column("person", sa.String(120), nullable=False),
        sa.Column("user_id", sa.String(120), nullable=False, comment="Mattermost's"),
        sa.Column("at", UtcDateTime, nullable=False, comment="when it came into its state"),
        sa.Column("outcome", AnyText),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_chat_action")),
    )
    op.create_index(op.f("ix_chat_action_state_at"), "chat_action", ["state", "at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("chat_action")
    op.drop_table("chat_endpoint")
