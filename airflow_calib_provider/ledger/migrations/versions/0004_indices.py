"""Quick ways to what locks ask for, and to what campaigns decided about a run, however many there are."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indices, and one that the first of them makes superfluous goes."""
    op.create_index("ix_generation_state_group_id_task", "generation", ["state", "group_id", "task"])
    op.drop_index("ix_generation_state", "generation")
    op.create_index("ix_payload_group_id_task", "payload", ["group_id", "task"])
    op.create_index("ix_membership_campaign_run", "membership", ["campaign", "run"])


def downgrade() -> None:
    """Drop them."""
    op.create_index("ix_generation_state", "generation", ["state"])
    op.drop_index("ix_membership_campaign_run", "membership")
    op.drop_index("ix_payload_group_id_task", "payload")
    op.drop_index("ix_generation_state_group_id_task", "generation")
