"""Publications to outside stores."""

import sqlalchemy as sa
from alembic import op

from airflow_calib_provider.ledger.column_types import AnyText, BigId, UtcDateTime

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their tables."""
    op.create_table(
        "publication",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("group_id", BigId, nullable=False),
        sa.Column("task", sa.String(120), nullable=False),
        sa.Column("n", sa.Integer, nullable=False, comment="of the group's task: all stores of a set have the same"),
        sa.Column("position", sa.Integer, nullable=False, comment="of the store among those of the set"),
        sa.Column("key", AnyText, nullable=False, comment="what the store is told of the set"),
        sa.Column("store", sa.String(250), nullable=False, comment="kind:place"),
        sa.Column(
            "state",
            sa.String(20),
            nullable=False,
            comment="intended, planned, applied, published, returning, refused",
        ),
        sa.Column("wanted", sa.JSON, nullable=False, comment="what is to hold under which tags"),
        sa.Column("plan", sa.JSON(none_as_null=True), comment="what is changed there"),
        sa.Column("receipt", sa.JSON(none_as_null=True), comment="what it has said"),
        sa.Column("reason", sa.JSON(none_as_null=True), comment="why it is not whole yet, or was refused"),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name=op.f("fk_publication_group_id_run_group")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication")),
        sa.UniqueConstraint("group_id", "task", "n", "position", name=op.f("uq_publication_group_id_task_n_position")),
    )
    op.create_index(op.f("ix_publication_state"), "publication", ["state"])
    op.create_table(
        "conditions_tag",
        sa.Column("store", sa.String(250), nullable=False),
        sa.Column("tag", sa.String(120), nullable=False),
        sa.Column("campaign", sa.String(120), nullable=False),
        sa.Column("workflow", sa.String(120), nullable=False),
        sa.Column("task", sa.String(120), nullable=False),
        sa.Column("listed_at", UtcDateTime, comment="when it was first seen what it has; null: not yet"),
        sa.Column("publication", AnyText, comment="the key of the set that is on its way there; null: none"),
        sa.Column("holder", sa.String(120), comment="the process that writes; null: none"),
        sa.Column("held_until", UtcDateTime, comment="then another may"),
        sa.PrimaryKeyConstraint("store", "tag", name=op.f("pk_conditions_tag")),
    )
    op.create_table(
        "placement",
        sa.Column("store", sa.String(250), nullable=False),
        sa.Column("tag", sa.String(120), nullable=False),
        sa.Column("first_run", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("last_run", sa.BigInteger, comment="null: open"),
        sa.Column("file", sa.Text, nullable=False, comment="where it is in the store"),
        sa.Column("hash", sa.String(200), nullable=False),
        sa.Column("firm_last", sa.BigInteger, comment="the last run that it is meant for; null: last_run"),
        sa.Column("group_id", BigId, comment="null: it was there before"),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name=op.f("fk_placement_group_id_run_group")),
        sa.PrimaryKeyConstraint("store", "tag", "first_run", name=op.f("pk_placement")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("placement")
    op.drop_table("conditions_tag")
    op.drop_table("publication")
