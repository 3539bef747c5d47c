"""Locks with deadlines, of which one is enough, and on what lies outside of the ledger."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, UtcDateTime

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None

_OLD = "until when it is waited for; null: for ever"
_NEW = "until when it is waited for, where that counts from when it began to be"


def upgrade() -> None:
    """Add the columns and the table: the locks that there are stand alone, and are waited for without a limit."""
    choice = "the first position of the locks of which one is enough; null: it stands alone"
    op.add_column("lock", sa.Column("choice", sa.Integer, comment=choice))
    op.add_column(
        "lock", sa.Column("limits", sa.JSON, comment="how long it is waited for, and what then; null: for ever")
    )
    _comment(_OLD, _NEW)
    op.create_table(
        "outside_answer",
        sa.Column("question", sa.String(64), comment="SHA-256 of the kind and of what is asked"),
        sa.Column("kind", sa.String(20), nullable=False, comment="one of the table of locks"),
        sa.Column("asked", sa.JSON, nullable=False, comment="what is asked"),
        sa.Column("asked_at", UtcDateTime, nullable=False, comment="when somebody began to ask it last"),
        sa.Column("answered_at", UtcDateTime, comment="when there was an answer last; null: never yet"),
        sa.Column("opens", sa.Boolean, nullable=False, comment="whether it opens locks"),
        sa.Column("said", AnyText, nullable=False, comment="why not, for people"),
        sa.Column("data", sa.JSON, comment="what the kind keeps of the answer"),
        sa.Column("changed_at", UtcDateTime, comment="since when the answer is this one"),
        sa.PrimaryKeyConstraint("question", name="pk_outside_answer"),
    )
    op.create_index("ix_outside_answer_asked_at", "outside_answer", ["asked_at"])


def downgrade() -> None:
    """Drop them; that version waits for all locks, without a limit."""
    op.drop_table("outside_answer")
    _comment(_NEW, _OLD)
    with op.batch_alter_table("lock", recreate="never") as batch:
        batch.drop_column("limits")
        batch.drop_column("choice")


def _comment(old: str, new: str) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "lock", "deadline", existing_type=UtcDateTime, existing_comment=old, existing_nullable=True, comment=new
        )
