"""How far run sources were read, and which could not be."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns: of the sources that are known, nothing was left, and nothing is wrong."""
    with op.batch_alter_table("run_source") as table:
        table.add_column(sa.Column("mark", sa.JSON, comment="what the last read has left, from which the next goes on"))
        table.add_column(sa.Column("trouble", AnyText, comment="why it could not be read when it was tried last"))
        table.add_column(sa.Column("trouble_since", UtcDateTime))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("run_source") as table:
        for name in ("trouble_since", "trouble", "mark"):
            table.drop_column(name)
