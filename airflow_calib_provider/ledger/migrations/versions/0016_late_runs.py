"""Groups of late runs, editions of groups, candidates among the payloads."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table: no group of before is late, or was amended."""
    for column in _columns():
        op.add_column("run_group", column)
    op.create_table(
        "group_edition",
        sa.Column("group_id", _ID, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, comment="the first of a group has no row"),
        sa.Column(
            "state", sa.String(20), nullable=False, comment="to_clear, settled: whether Airflow runs its tasks again"
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.String(120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False, comment="all that it has"),
        sa.Column("added", sa.JSON(), nullable=False),
        sa.Column("removed", sa.JSON(), nullable=False),
        sa.Column("tasks", sa.JSON(), nullable=False, comment="those that are to run again"),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name=op.f("fk_group_edition_group_id_run_group")),
        sa.PrimaryKeyConstraint("group_id", "n", name=op.f("pk_group_edition")),
    )
    op.create_index("ix_group_edition_state", "group_edition", ["state"])
    for table, name, old, new in _COMMENTS:
        _comment(table, name, old, new)


def downgrade() -> None:
    """Drop them. Of candidates, and of runs that a person removed, that version knows nothing: they go, too."""
    for table, name, old, new in _COMMENTS:
        _comment(table, name, new, old)
    op.execute("DELETE FROM payload WHERE state IN ('candidate', 'expired')")
    op.execute("UPDATE membership SET state = 'late', group_id = NULL WHERE state = 'removed'")
    op.drop_index("ix_group_edition_state", "group_edition")
    op.drop_table("group_edition")
    with op.batch_alter_table("run_group", recreate="never") as batch:
        for column in reversed(_columns()):
            batch.drop_column(column.name)


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "late", sa.Boolean(), nullable=False, server_default=sa.false(), comment="its runs arrived late (rule 50)"
        ),
        sa.Column(
            "edition",
            sa.Integer(),
            nullable=False,
            server_default="1",
            comment="grows when the group is amended",
        ),
        sa.Column("lowest_run", sa.BigInteger(), comment="of its edition, where that is not the run it is named by"),
    ]


_GROUPED = "grouped, late, not_selected, refused, dropped"
_COMMENTS: tuple[tuple[str, str, str | None, str], ...] = (
    ("membership", "state", _GROUPED, f"{_GROUPED}, removed"),
    ("payload", "state", "published, superseded", "candidate, published, superseded, expired"),
    ("payload", "published_at", None, "of a candidate: when it was made"),
)


def _comment(table: str, name: str, old: str | None, new: str | None) -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        kind: sa.types.TypeEngine[Any] = sa.DateTime(timezone=True) if name == "published_at" else sa.String(20)
        op.alter_column(table, name, existing_type=kind, existing_comment=old, comment=new)
