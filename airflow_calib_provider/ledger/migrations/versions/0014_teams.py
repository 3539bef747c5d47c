"""Files of specs of several teams, each from an Airflow bundle of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what there is belongs to those who have named no team."""
    with op.batch_alter_table("spec_file", recreate="never") as batch:
        batch.add_column(
            sa.Column("team", sa.Text(), nullable=False, server_default="", comment="whose folder it is from")
        )
        batch.add_column(sa.Column("bundle", sa.Text(), comment="Airflow's name of where the folder came from last"))
        batch.add_column(sa.Column("version", sa.Text(), comment="of the bundle, when the file was good last"))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("spec_file", recreate="never") as batch:
        batch.drop_column("version")
        batch.drop_column("bundle")
        batch.drop_column("team")
