"""The events of a step: more than a column of 32 bits keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0029"
branch_labels = None
depends_on = None

_COMMENT = "that the accepted jobs counted"


def upgrade() -> None:
    """Widen it; SQLite keeps any number in it."""
    _change(sa.Integer(), sa.BigInteger())


def downgrade() -> None:
    """Make it narrow; what is larger becomes the largest."""
    op.execute("UPDATE step SET events = 2147483647 WHERE events > 2147483647")
    op.execute("UPDATE step SET events = -2147483648 WHERE events < -2147483648")
    _change(sa.BigInteger(), sa.Integer())


def _change(old: sa.types.TypeEngine[int], new: sa.types.TypeEngine[int]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("step", "events", existing_type=old, type_=new, existing_comment=_COMMENT)
