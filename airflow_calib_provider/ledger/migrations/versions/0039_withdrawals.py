"""What goes to outside stores may be a withdrawal, which ends in a state of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_STATES = "intended, planned, applied, published or withdrawn, returning, refused"
_BEFORE = "intended, planned, applied, published, returning, refused"


def upgrade() -> None:
    """Say so in the column's comment."""
    _comment(_STATES, _BEFORE)


def downgrade() -> None:
    """Say what was said before."""
    _comment(_BEFORE, _STATES)


def _comment(new: str, old: str) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("publication", "state", existing_type=sa.String(20), existing_comment=old, comment=new)
