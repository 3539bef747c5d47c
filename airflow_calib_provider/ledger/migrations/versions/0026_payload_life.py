"""What is decided about payloads, and until when who is to answer."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, BigId, UtcDateTime

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; of what is there nobody was asked."""
    for column in _columns():
        op.add_column("payload", column)
    op.create_index("ix_payload_state_remind_at", "payload", ["state", "remind_at"])
    op.create_table(
        "payload_decision",
        sa.Column("payload_id", BigId, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False, comment="validation, request, approval, withdrawal, rollback"),
        sa.Column(
            "outcome",
            sa.String(20),
            nullable=False,
            comment="passed, failed, asked, approved, rejected, expired, void, done",
        ),
        sa.Column("content_hash", sa.String(64), nullable=False, comment="of what it was decided about"),
        sa.Column("person", sa.String(120), comment="null: a rule, or nobody"),
        sa.Column("comment", AnyText, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(["payload_id"], ["payload.id"], name=op.f("fk_payload_decision_payload_id_payload")),
        sa.PrimaryKeyConstraint("payload_id", "n", name=op.f("pk_payload_decision")),
    )
    for name, kind, old, new in _COMMENTS:
        _comment(name, kind, old, new)


def downgrade() -> None:
    """Drop them. Of what is neither published nor a candidate that version knows nothing: it goes, too."""
    for name, kind, old, new in _COMMENTS:
        _comment(name, kind, new, old)
    op.drop_table("payload_decision")
    op.execute("UPDATE payload SET state = 'superseded' WHERE state = 'withdrawn'")
    op.execute("UPDATE payload SET state = 'expired' WHERE state = 'rejected'")
    op.execute("UPDATE payload SET state = 'candidate' WHERE state IN ('validated', 'approved', 'publishing')")
    op.drop_index("ix_payload_state_remind_at", "payload")
    with op.batch_alter_table("payload", recreate="never") as batch:
        for column in reversed(_columns()):
            batch.drop_column(column.name)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("reason", sa.JSON(none_as_null=True), comment="why it goes no further"),
        sa.Column("asked_at", UtcDateTime, comment="when its approvers were asked"),
        sa.Column("remind_at", UtcDateTime, comment="when they are to be reminded"),
        sa.Column("expires_at", UtcDateTime, comment="until when they may answer"),
    ]


_COMMENTS: tuple[tuple[str, sa.types.TypeEngine[Any], str | None, str | None], ...] = (
    ("state", sa.String(20), "candidate, published, superseded, expired", "as the graph of payloads says"),
    (
        "published_at",
        sa.DateTime(timezone=True),
        "of a candidate: when it was made",
        "of what is not: when it was made",
    ),
    ("superseded_at", sa.DateTime(timezone=True), None, "or withdrawn, rejected, expired"),
)


def _comment(name: str, kind: sa.types.TypeEngine[Any], old: str | None, new: str | None) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("payload", name, existing_type=kind, existing_comment=old, comment=new)
