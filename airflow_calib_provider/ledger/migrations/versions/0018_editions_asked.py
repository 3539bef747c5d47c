"""How often Airflow was asked to run the tasks of an edition again, and why it refused."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, UtcDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_OLD = "to_clear, settled: whether Airflow runs its tasks again"
_NEW = "to_clear, stuck, settled: whether Airflow runs its tasks again"


def upgrade() -> None:
    """Add the columns: what is to be cleared is asked for as if it were for the first time."""
    asked = sa.Column(
        "asked", sa.Integer, nullable=False, server_default="0", comment="how often Airflow was asked to clear them"
    )
    op.add_column("group_edition", asked)
    op.add_column("group_edition", sa.Column("not_before", UtcDateTime, comment="when it is asked again"))
    op.add_column("group_edition", sa.Column("error", AnyText, comment="why it refused the last time"))
    _comment(_OLD, _NEW)


def downgrade() -> None:
    """Drop them; that version asks for what is stuck as for all."""
    _comment(_NEW, _OLD)
    op.execute("UPDATE group_edition SET state = 'to_clear' WHERE state = 'stuck'")
    with op.batch_alter_table("group_edition", recreate="never") as batch:
        for name in ("error", "not_before", "asked"):
            batch.drop_column(name)


def _comment(old: str, new: str) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "group_edition",
            "state",
            existing_type=sa.String(20),
            existing_comment=old,
            existing_nullable=False,
            comment=new,
        )
