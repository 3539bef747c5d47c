"""Why a group opened, and what its kind of grouping remembers of the runs that it has."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_COLUMNS = {"open_reason": "why it opened", "marks": "what its grouping remembers of its runs while it forms"}


def upgrade() -> None:
    """Add the columns: of groups that are there it is not known why they opened."""
    for name, comment in _COLUMNS.items():
        op.add_column("run_group", sa.Column(name, sa.JSON(none_as_null=True), comment=comment))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("run_group", recreate="never") as batch:
        for name in _COLUMNS:
            batch.drop_column(name)
