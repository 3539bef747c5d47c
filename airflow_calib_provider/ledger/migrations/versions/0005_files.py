"""Which file each workflow's last good text came from and what is wrong with it now; the code that jobs are made of."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the columns; what is there stays as it is."""
    op.create_table(
        "spec_file",
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="its name in the folder of the specs"),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="of the last good text"),
        sa.Column("good_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trouble", sa.JSON(), comment="why the file cannot be used now"),
        sa.Column("trouble_since", sa.DateTime(timezone=True)),
        sa.Column("held", sa.Boolean(), nullable=False, comment="nothing is decided under this name for now"),
        sa.PrimaryKeyConstraint("workflow", name="pk_spec_file"),
    )
    op.add_column("generation", sa.Column("spec_folder", sa.Text(), comment="what {{ spec.folder }} stands for"))
    op.add_column("generation", sa.Column("rerun", sa.String(length=20), comment="how a person wants the next clear"))
    op.add_column("round", sa.Column("git_commit", sa.String(length=64)))


def downgrade() -> None:
    """Drop them."""
    for table, name in (("round", "git_commit"), ("generation", "rerun"), ("generation", "spec_folder")):
        op.drop_column(table, name)
    op.drop_table("spec_file")
