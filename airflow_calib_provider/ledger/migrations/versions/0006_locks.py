"""Locks of any kind: name, parameters as JSON, deadline. The policy of a group is JSON, and no text inside of it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NEEDS = ("needs_workflow", "needs_grouping", "needs_task")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _comment(text: str) -> None:
    """SQLite keeps no comments."""
    if not _is_sqlite():
        op.alter_column("lock", "kind", comment=text)


def upgrade() -> None:
    """Write the parameters of each lock, drop what they stood in; take policies out of their texts."""
    with op.batch_alter_table("lock", recreate="never") as batch:
        batch.add_column(sa.Column("parameters", sa.JSON(), nullable=False, server_default="{}", comment=_PARAMETERS))
        batch.add_column(sa.Column("deadline", sa.DateTime(timezone=True), comment=_DEADLINE))
    made = "json_object" if _is_sqlite() else "json_build_object"
    task = ", ".join(f"'{name.removeprefix('needs_')}', {name}" for name in NEEDS)
    op.execute(f"UPDATE lock SET parameters = {made}({task}) WHERE kind = 'task'")  # noqa: S608
    op.execute(f"UPDATE lock SET parameters = {made}('tag', tag) WHERE kind = 'payload'")  # noqa: S608
    with op.batch_alter_table("lock", recreate="never") as batch:
        for name in (*NEEDS, "tag"):
            batch.drop_column(name)
    _comment("one of the table of locks")
    if _is_sqlite():
        op.execute(
            "UPDATE run_group SET policy = json_extract(policy, '$.json') WHERE json_type(policy, '$.json') = 'text'"
        )
    else:
        op.execute("UPDATE run_group SET policy = (policy ->> 'json')::json WHERE policy ->> 'json' IS NOT NULL")


def downgrade() -> None:
    """Back again. Locks of other kinds stay without what they wait for: that version does not know them."""
    with op.batch_alter_table("lock", recreate="never") as batch:
        for name in (*NEEDS, "tag"):
            batch.add_column(sa.Column(name, sa.String(length=120)))
    value = "json_extract(parameters, '$.{}')" if _is_sqlite() else "parameters ->> '{}'"
    columns = ", ".join(f"{name} = {value.format(name.removeprefix('needs_'))}" for name in (*NEEDS, "tag"))
    op.execute(f"UPDATE lock SET {columns}")  # noqa: S608
    with op.batch_alter_table("lock", recreate="never") as batch:
        batch.drop_column("deadline")
        batch.drop_column("parameters")
    _comment("task or payload")
    if _is_sqlite():
        op.execute(
            "UPDATE run_group SET policy = json_object('json', policy) WHERE json_type(policy, '$.kind') = 'text'"
        )
    else:
        op.execute(
            "UPDATE run_group SET policy = json_build_object('json', policy::text) WHERE policy ->> 'kind' IS NOT NULL"
        )


_PARAMETERS = "what the kind needs to know"
_DEADLINE = "until when it is waited for; null: for ever"
