"""Size, checksum and removal of products."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UNSUMMED = sa.text("checksum IS NULL AND state = 'accepted'")
DROPPING = sa.text("drop_at IS NOT NULL AND removed_at IS NULL")

ADDED = ("size", "checksum", "state", "drop_at", "removed_at")


def upgrade() -> None:
    """Add the columns; housekeeping fills size and checksum of what there is."""
    made = "SHA-256 in hexadecimal; null: nobody has made it yet"
    with op.batch_alter_table("product", recreate="never") as batch:
        batch.add_column(
            sa.Column("size", sa.BigInteger(), comment="bytes when it was accepted, of a folder those of its files")
        )
        batch.add_column(sa.Column("checksum", sa.String(length=64), comment=made))
        batch.add_column(
            sa.Column(
                "state",
                sa.String(length=20),
                nullable=False,
                server_default="accepted",
                comment="accepted, dropped",
            )
        )
        batch.add_column(
            sa.Column("drop_at", sa.DateTime(timezone=True), comment="when its files may be removed; null: never")
        )
        batch.add_column(
            sa.Column("removed_at", sa.DateTime(timezone=True), comment="when the files of a dropped one were removed")
        )
    with op.batch_alter_table("generation", recreate="never") as batch:
        comment = "product -> seconds for which it is kept"
        batch.add_column(sa.Column("drops", sa.JSON(), nullable=False, server_default="{}", comment=comment))
    key = ["generation_id", "step", "job_index", "name"]
    op.create_index("ix_product_unsummed", "product", key, sqlite_where=UNSUMMED, postgresql_where=UNSUMMED)
    op.create_index(
        "ix_product_drop", "product", ["state", "drop_at"], sqlite_where=DROPPING, postgresql_where=DROPPING
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_product_drop", "product")
    op.drop_index("ix_product_unsummed", "product")
    with op.batch_alter_table("generation", recreate="never") as batch:
        batch.drop_column("drops")
    with op.batch_alter_table("product", recreate="never") as batch:
        for name in reversed(ADDED):
            batch.drop_column(name)
