"""What has become of a campaign is found without reading all events."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

LIFE = sa.text("entity = 'campaign'")


def upgrade() -> None:
    """Add the index: it has few rows, however many events there are."""
    op.create_index("ix_event_campaign_life", "event", ["campaign", "id"], sqlite_where=LIFE, postgresql_where=LIFE)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_event_campaign_life", "event")
