"""The first version of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "attempt",
        sa.Column("generation_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("job_index", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("signal", sa.Integer()),
        sa.Column("host", sa.String(length=255)),
        sa.Column("start", sa.DateTime(timezone=True)),
        sa.Column("end", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("generation_id", "step", "job_index", "n", name="pk_attempt"),
    )
    op.create_table(
        "campaign",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="streamed or finite"),
        sa.Column("state", sa.String(length=20), nullable=False, comment="open or closed"),
        sa.Column("base_campaign", sa.String(length=120)),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column(
            "spec_hashes",
            sa.JSON(),
            nullable=False,
            comment="workflow -> hash, fixed at creation; empty: all workflows",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["base_campaign"], ["campaign.name"], name="fk_campaign_base_campaign"),
        sa.PrimaryKeyConstraint("name", name="pk_campaign"),
    )
    op.create_table(
        "campaign_run",
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "source", "run", name="pk_campaign_run"),
    )
    op.create_table(
        "event",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="nanoseconds since 1970"),
        sa.Column("entity", sa.String(length=20), nullable=False),
        sa.Column("campaign", sa.String(length=120)),
        sa.Column("workflow", sa.String(length=120)),
        sa.Column("task", sa.String(length=120)),
        sa.Column("group_name", sa.String(length=120)),
        sa.Column("run", sa.BigInteger()),
        sa.Column("generation", sa.Integer()),
        sa.Column("job_index", sa.Integer()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("from_state", sa.String(length=20)),
        sa.Column("to_state", sa.String(length=20)),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_table(
        "grouping",
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("label", sa.String(length=120), nullable=False),
        sa.Column(
            "assigned_below",
            sa.BigInteger(),
            nullable=False,
            comment="runs below are assigned; what arrives there is late",
        ),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="a grouping added later takes no history (rule 10)",
        ),
        sa.PrimaryKeyConstraint("campaign", "workflow", "label", name="pk_grouping"),
    )
    op.create_table(
        "run",
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start", sa.DateTime(timezone=True)),
        sa.Column("end", sa.DateTime(timezone=True)),
        sa.Column("completed", sa.Boolean(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), comment="when it was first read as completed"),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("source", "number", name="pk_run"),
    )
    op.create_table(
        "run_group",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("grouping", sa.String(length=120), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("first_run", sa.BigInteger(), nullable=False),
        sa.Column("last_run", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False, comment="forming, closed, dropped"),
        sa.Column("policy", sa.JSON(), nullable=False, comment="frozen when the group opened (rule 11)"),
        sa.Column("amounts", sa.JSON(), nullable=False, comment="what its runs sum up to, by field"),
        sa.Column("fills", sa.JSON(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True)),
        sa.Column("end", sa.DateTime(timezone=True)),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("close_reason", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_run_group"),
        sa.UniqueConstraint(
            "campaign", "workflow", "grouping", "first_run", name="uq_run_group_campaign_workflow_grouping_first_run"
        ),
    )
    op.create_index("ix_run_group_state", "run_group", ["state"], unique=False)
    op.create_table(
        "skip",
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task", sa.String(length=120), nullable=False, comment="empty: every task"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=120), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "workflow", "run", "task", name="pk_skip"),
    )
    op.create_table(
        "spec_text",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_spec_text"),
    )
    op.create_table(
        "workflow_seen",
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workflow", name="pk_workflow_seen"),
    )
    op.create_table(
        "dag_run_request",
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("dag_id", sa.String(length=250), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False, comment="wanted, claimed, opened"),
        sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True)),
        sa.Column("claimed_by", sa.String(length=64)),
        sa.Column("opened_at", sa.DateTime(timezone=True)),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_dag_run_request_group_id"),
        sa.PrimaryKeyConstraint("group_id", name="pk_dag_run_request"),
        sa.UniqueConstraint("dag_id", "run_id", name="uq_dag_run_request_dag_id_run_id"),
    )
    op.create_index("ix_dag_run_request_state", "dag_run_request", ["state"], unique=False)
    op.create_table(
        "generation",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("task", sa.String(length=120), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False, comment="running, done, failed"),
        sa.Column(
            "max_tries", sa.Integer(), nullable=False, comment="Airflow's: a change means that a user cleared (rule 14)"
        ),
        sa.Column("backend", sa.String(length=120), nullable=False),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("git_commit", sa.String(length=64)),
        sa.Column("definitions_hash", sa.String(length=64), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False),
        sa.Column("excluded_runs", sa.JSON(), nullable=False),
        sa.Column("used", sa.JSON(), nullable=False, comment="generations and payloads whose products it reads"),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("quorum", sa.Float(), nullable=False),
        sa.Column("products", sa.JSON(), nullable=False, comment="declared: name -> file relative to CALIB_OUT"),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("dag_run_id", sa.String(length=250), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.JSON()),
        sa.Column("ended_by", sa.String(length=120), comment="a person, if one ended it"),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_generation_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_generation"),
        sa.UniqueConstraint("group_id", "task", "n", name="uq_generation_group_id_task_n"),
    )
    op.create_index("ix_generation_state", "generation", ["state"], unique=False)
    op.create_table(
        "group_task",
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("task", sa.String(length=120), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="jobs or publish"),
        sa.Column("is_root", sa.Boolean(), nullable=False, comment="nothing inside its own DAG comes before it"),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column(
            "state", sa.String(length=20), nullable=False, comment="new, waiting, processing, done, failed, skipped"
        ),
        sa.Column("reason", sa.JSON()),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_group_task_group_id"),
        sa.PrimaryKeyConstraint("group_id", "task", name="pk_group_task"),
    )
    op.create_index("ix_group_task_state_group_id", "group_task", ["state", "group_id"], unique=False)
    op.create_table(
        "lock",
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("task", sa.String(length=120), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="task or payload"),
        sa.Column("needs_workflow", sa.String(length=120)),
        sa.Column("needs_grouping", sa.String(length=120)),
        sa.Column("needs_task", sa.String(length=120)),
        sa.Column("tag", sa.String(length=120)),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_lock_group_id"),
        sa.PrimaryKeyConstraint("group_id", "task", "position", name="pk_lock"),
    )
    op.create_table(
        "membership",
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("grouping", sa.String(length=120), nullable=False),
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column(
            "state", sa.String(length=20), nullable=False, comment="grouped, late, not_selected, refused, dropped"
        ),
        sa.Column("group_id", BIG_ID),
        sa.Column("reason", sa.JSON()),
        sa.Column("record", sa.JSON(), nullable=False, comment="the run's metadata, frozen at assignment"),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_membership_group_id"),
        sa.PrimaryKeyConstraint("campaign", "workflow", "grouping", "run", name="pk_membership"),
    )
    op.create_index("ix_membership_group_id", "membership", ["group_id"], unique=False)
    op.create_table(
        "payload",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("campaign", sa.String(length=120), nullable=False),
        sa.Column("tag", sa.String(length=120), nullable=False),
        sa.Column("first_run", sa.BigInteger(), nullable=False),
        sa.Column("last_run", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False, comment="published, superseded"),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("workflow", sa.String(length=120), nullable=False),
        sa.Column("task", sa.String(length=120), nullable=False),
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["group_id"], ["run_group.id"], name="fk_payload_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_payload"),
        sa.UniqueConstraint(
            "campaign", "tag", "group_id", "task", "revision", name="uq_payload_campaign_tag_group_id_task_revision"
        ),
    )
    op.create_index("ix_payload_campaign_tag_first_run", "payload", ["campaign", "tag", "first_run"], unique=False)
    op.create_table(
        "job",
        sa.Column("generation_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("job_index", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("accepted_attempt", sa.Integer()),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("signal", sa.Integer()),
        sa.Column("host", sa.String(length=255)),
        sa.Column("start", sa.DateTime(timezone=True)),
        sa.Column("end", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text()),
        sa.Column("retry_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name="fk_job_generation_id"),
        sa.PrimaryKeyConstraint("generation_id", "step", "job_index", name="pk_job"),
    )
    op.create_table(
        "product",
        sa.Column("generation_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("job_index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="relative to the job's CALIB_OUT"),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name="fk_product_generation_id"),
        sa.PrimaryKeyConstraint("generation_id", "step", "job_index", "name", name="pk_product"),
    )
    op.create_table(
        "round",
        sa.Column("generation_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False, comment="planned, submitted, finished"),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name="fk_round_generation_id"),
        sa.PrimaryKeyConstraint("generation_id", "step", "n", name="pk_round"),
        sa.UniqueConstraint("key", name="uq_round_key"),
    )
    op.create_table(
        "value",
        sa.Column("generation_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("job_index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("error", sa.Float()),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name="fk_value_generation_id"),
        sa.PrimaryKeyConstraint("generation_id", "step", "job_index", "name", name="pk_value"),
    )


def downgrade() -> None:
    """Drop all tables."""
    op.drop_table("value")
    op.drop_table("round")
    op.drop_table("product")
    op.drop_table("job")
    op.drop_index("ix_payload_campaign_tag_first_run", table_name="payload")
    op.drop_table("payload")
    op.drop_index("ix_membership_group_id", table_name="membership")
    op.drop_table("membership")
    op.drop_table("lock")
    op.drop_index("ix_group_task_state_group_id", table_name="group_task")
    op.drop_table("group_task")
    op.drop_index("ix_generation_state", table_name="generation")
    op.drop_table("generation")
    op.drop_index("ix_dag_run_request_state", table_name="dag_run_request")
    op.drop_table("dag_run_request")
    op.drop_table("workflow_seen")
    op.drop_table("spec_text")
    op.drop_table("skip")
    op.drop_index("ix_run_group_state", table_name="run_group")
    op.drop_table("run_group")
    op.drop_table("run")
    op.drop_table("grouping")
    op.drop_table("event")
    op.drop_table("campaign_run")
    op.drop_table("campaign")
    op.drop_table("attempt")
