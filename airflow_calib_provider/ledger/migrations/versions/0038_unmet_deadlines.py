"""Deadlines of publications by state: those that are near or have passed are few among those that were met."""

from alembic import op

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f("ix_publication_deadline_state"), "publication_deadline", ["state"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index(op.f("ix_publication_deadline_state"), "publication_deadline")
