"""What batch systems add: holds, classes of failures, memory, and a policy that a restart does not forget."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _added() -> dict[str, list[sa.Column[Any]]]:
    """The new columns of each table."""
    return {
        "generation": [
            sa.Column("failures", sa.JSON(), nullable=False, server_default="[]", comment="the spec's failure policy"),
            sa.Column(
                "options",
                sa.JSON(),
                nullable=False,
                server_default="{}",
                comment="the backend's block of the spec, rendered",
            ),
            sa.Column(
                "keep", sa.BigInteger(), comment="seconds for which logs and failed attempts are kept after its end"
            ),
            sa.Column("trouble", sa.Text(), comment="why the last look could not take it further"),
            sa.Column("trouble_since", sa.DateTime(timezone=True)),
            sa.Column("cleaned_at", sa.DateTime(timezone=True), comment="when logs and failed attempts were removed"),
        ],
        "job": [
            sa.Column("failure", sa.String(length=20), comment="class of the failure, loss or hold"),
            sa.Column("hold_code", sa.Integer()),
            sa.Column("memory", sa.BigInteger(), comment="peak in bytes"),
            sa.Column(
                "request_memory",
                sa.BigInteger(),
                comment="bytes; what its next attempt asks for instead of the definition's",
            ),
            sa.Column("releases", sa.Integer(), nullable=False, server_default="0", comment="of its present attempt"),
            sa.Column("progress", sa.Float(), comment="0 to 1"),
        ],
        "attempt": [
            sa.Column("failure", sa.String(length=20)),
            sa.Column("hold_code", sa.Integer()),
            sa.Column("memory", sa.BigInteger(), comment="peak in bytes"),
            sa.Column("request_memory", sa.BigInteger(), comment="bytes"),
        ],
    }


def upgrade() -> None:
    """Add the columns; what is there stays as it is. No table is made anew, since others refer to its rows."""
    for table, columns in _added().items():
        with op.batch_alter_table(table, recreate="never") as batch:
            for column in columns:
                batch.add_column(column)


def downgrade() -> None:
    """Drop them."""
    for table, columns in _added().items():
        with op.batch_alter_table(table, recreate="never") as batch:
            for column in columns:
                batch.drop_column(column.name)
