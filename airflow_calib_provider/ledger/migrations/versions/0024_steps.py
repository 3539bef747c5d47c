"""Steps of what iterates."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import BigId, State, UtcDateTime, name_column

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; what is there does not iterate."""
    op.create_table(
        "iteration",
        sa.Column("generation_id", BigId, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False, comment="its phases and their jobs, rendered"),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generation.id"], name=op.f("fk_iteration_generation_id_generation")
        ),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_iteration")),
    )
    op.create_table(
        "step",
        sa.Column("generation_id", BigId, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("state", State, nullable=False, comment="planned, measuring, frozen, updating, judged, discarded"),
        sa.Column("stage", sa.Integer, nullable=False),
        name_column("phase"),
        sa.Column("visit", sa.Integer, nullable=False, comment="counts within the phase, from 1"),
        sa.Column("constants", sa.Text, nullable=False, comment="the file, relative to the products folder"),
        sa.Column("constants_hash", sa.String(64), nullable=False, comment="SHA-256 in hexadecimal"),
        sa.Column("kept", sa.JSON, nullable=False, comment="metrics whose part of the constants is not to change"),
        sa.Column("n_jobs", sa.Integer, nullable=False, comment="that measure; the update is the job behind them"),
        sa.Column("accepted", sa.JSON, comment="jobs whose results are used, each with its attempt"),
        sa.Column("left_out", sa.JSON, comment="jobs whose results are not, each with why"),
        sa.Column("updated", sa.Text, comment="the constants that the update made, relative to the products folder"),
        sa.Column("updated_hash", sa.String(64), comment="SHA-256 in hexadecimal"),
        sa.Column("events", sa.Integer, comment="that the accepted jobs counted"),
        sa.Column("report", sa.JSON, comment="what the update reported: metrics, verdict"),
        sa.Column("judged", sa.JSON, comment="what was found, and how the phase has ended"),
        sa.Column("spec_hash", sa.String(64), nullable=False),
        sa.Column("planned_at", UtcDateTime, nullable=False),
        sa.Column("frozen_at", UtcDateTime),
        sa.Column("judged_at", UtcDateTime),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_step_generation_id_generation")),
        sa.PrimaryKeyConstraint("generation_id", "n", name=op.f("pk_step")),
    )
    whose = "whose jobs the row describes; 0: the result"
    op.add_column("generation", sa.Column("step", sa.Integer, nullable=False, server_default="0", comment=whose))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("generation", recreate="never") as batch:
        batch.drop_column("step")
    op.drop_table("step")
    op.drop_table("iteration")
