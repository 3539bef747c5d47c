"""The tables of the ledger.

Keys follow rule 13. Who may change a ``state`` column, and how, stands in :mod:`.transitions` alone.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from airflow_calib_provider.ledger.chat_tables import chat_action as chat_action
from airflow_calib_provider.ledger.chat_tables import chat_endpoint as chat_endpoint
from airflow_calib_provider.ledger.column_types import AnyText, BigId, KeyOfRound, Name, State, UtcDateTime, name_column
from airflow_calib_provider.ledger.column_types import metadata as metadata
from airflow_calib_provider.ledger.exclusion_tables import excluded_run as excluded_run
from airflow_calib_provider.ledger.exclusion_tables import skip as skip
from airflow_calib_provider.ledger.ids import one_of as one_of
from airflow_calib_provider.ledger.message_tables import alarm as alarm
from airflow_calib_provider.ledger.message_tables import message_channel as message_channel
from airflow_calib_provider.ledger.message_tables import publication_deadline as publication_deadline
from airflow_calib_provider.ledger.mirror_tables import mirror_set_aside as mirror_set_aside
from airflow_calib_provider.ledger.mirror_tables import mirror_target as mirror_target
from airflow_calib_provider.ledger.outside_tables import outside_answer as outside_answer
from airflow_calib_provider.ledger.payload_tables import payload as payload
from airflow_calib_provider.ledger.payload_tables import payload_decision as payload_decision
from airflow_calib_provider.ledger.publication_tables import conditions_tag as conditions_tag
from airflow_calib_provider.ledger.publication_tables import placement as placement
from airflow_calib_provider.ledger.publication_tables import publication as publication
from airflow_calib_provider.ledger.step_tables import iteration as iteration
from airflow_calib_provider.ledger.step_tables import refused_result as refused_result
from airflow_calib_provider.ledger.step_tables import step as step

run = Table(
    "run",
    metadata,
    name_column("source", primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("start", UtcDateTime),
    Column("end", UtcDateTime),
    Column("completed", Boolean, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime, comment="when it was first read as completed"),
    Column("content_hash", String(64), nullable=False),
    Column("listed", Boolean, comment="whether its source lists it; null: added by hand, or not read since"),
    Index(None, "number"),
)

run_source = Table(
    "run_source",
    metadata,
    name_column("name", primary_key=True),
    Column("serial", BigInteger, nullable=False, comment="grows with all that is recorded of its runs"),
    Column("identity", String(64), comment="of what was read last, completely; null: it is to be read"),
    Column("mark", JSON(none_as_null=True), comment="what the last read has left, from which the next goes on"),
    Column("trouble", AnyText, comment="why it could not be read when it was tried last"),
    Column("trouble_since", UtcDateTime),
)

campaign = Table(
    "campaign",
    metadata,
    name_column("name", primary_key=True),
    Column("kind", State, nullable=False, comment="streamed or finite"),
    Column("state", State, nullable=False, comment="collecting, grouping, open, paused, closed, cancelled"),
    Column("base_campaign", Name, ForeignKey("campaign.name")),
    Column("overrides", JSON, nullable=False),
    Column("spec_hashes", JSON, nullable=False, comment="workflow -> hash, fixed at creation; empty: all workflows"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("first_tasks", JSON, nullable=False, server_default="{}", comment="workflow -> tasks"),
    Column("run_order", State, comment="newest; null: ascending"),
    Column("priority", Integer, nullable=False, server_default="0", comment="higher ones open first"),
    Column("max_groups", Integer, comment="how many groups may be open; null: any number"),
    Column("max_jobs", Integer, comment="how many jobs may be submitted; null: any number"),
    Column("since", UtcDateTime, comment="when it came into its state"),
    Column("grouped_at", UtcDateTime, comment="when a finite one was grouped completely"),
    Column("created_by", Name),
)

campaign_run = Table(
    "campaign_run",
    metadata,
    name_column("campaign", primary_key=True),
    name_column("source", primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
)

spec_text = Table(
    "spec_text",
    metadata,
    Column("hash", String(64), primary_key=True),
    name_column("workflow"),
    Column("text", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)

spec_file = Table(
    "spec_file",
    metadata,
    name_column("workflow", primary_key=True),
    Column("file", Text, nullable=False, comment="its name in the folder of the specs"),
    Column("hash", String(64), nullable=False, comment="of the last good text"),
    Column("good_at", UtcDateTime, nullable=False),
    Column("trouble", JSON, comment="why the file cannot be used now"),
    Column("trouble_since", UtcDateTime),
    Column("held", Boolean, nullable=False, comment="nothing is decided under this name for now"),
    Column("team", Text, nullable=False, server_default="", comment="whose folder it is from"),
    Column("bundle", Text, comment="Airflow's name of where the folder came from last"),
    Column("version", Text, comment="of the bundle, when the file was good last"),
)

workflow_seen = Table(
    "workflow_seen",
    metadata,
    name_column("workflow", primary_key=True),
    Column("first_seen_at", UtcDateTime, nullable=False),
)

grouping = Table(
    "grouping",
    metadata,
    name_column("campaign", primary_key=True),
    name_column("workflow", primary_key=True),
    name_column("label", primary_key=True),
    Column("assigned_below", BigInteger, nullable=False, comment="runs below are assigned; what arrives there is late"),
    Column("first_seen_at", UtcDateTime, nullable=False, comment="a grouping added later takes no history (rule 10)"),
    Column("spec_hash", String(64), comment="all that has not begun follows it"),
    Column("source_serial", BigInteger, comment="what its source had told when all of that was assigned"),
    Column(
        "spec_changed",
        JSON(none_as_null=True),
        comment="why the tasks of the campaign's own spec do not fit the DAG any more; null: they do",
    ),
)

run_group = Table(
    "run_group",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    name_column("campaign"),
    name_column("workflow"),
    name_column("grouping"),
    name_column("name"),
    Column("first_run", BigInteger, nullable=False),
    Column("last_run", BigInteger, nullable=False),
    Column("state", State, nullable=False, comment="forming, closed, dropped"),
    Column("policy", JSON, nullable=False, comment="frozen when the group opened (rule 11)"),
    Column("amounts", JSON, nullable=False, comment="what its runs sum up to, by field"),
    Column("fills", JSON, nullable=False),
    Column("start", UtcDateTime),
    Column("end", UtcDateTime),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("close_reason", JSON),
    Column("opening", State, comment="queued, asked; null: nothing is left to do"),
    Column("late", Boolean, nullable=False, server_default=false(), comment="its runs arrived late (rule 50)"),
    Column("edition", Integer, nullable=False, server_default="1", comment="grows when the group is amended"),
    Column("lowest_run", BigInteger, comment="of its edition, where that is not the run it is named by"),
    Column("open_reason", JSON(none_as_null=True), comment="why it opened"),
    Column("marks", JSON(none_as_null=True), comment="what its grouping remembers of its runs while it forms"),
    UniqueConstraint("campaign", "workflow", "grouping", "first_run"),
    Index(None, "campaign", "first_run"),
    Index(None, "state"),
    Index(None, "campaign", "workflow", "name"),
)

group_edition = Table(
    "group_edition",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    Column("n", Integer, primary_key=True, comment="the first of a group has no row"),
    Column("state", State, nullable=False, comment="to_clear, stuck, settled: whether Airflow runs its tasks again"),
    Column("at", UtcDateTime, nullable=False),
    Column("person", Name, nullable=False),
    Column("reason", AnyText, nullable=False),
    Column("runs", JSON, nullable=False, comment="all that it has"),
    Column("added", JSON, nullable=False),
    Column("removed", JSON, nullable=False),
    Column("tasks", JSON, nullable=False, comment="those that are to run again"),
    Column("asked", Integer, nullable=False, server_default="0", comment="how often Airflow was asked to clear them"),
    Column("not_before", UtcDateTime, comment="when it is asked again"),
    Column("error", AnyText, comment="why it refused the last time"),
    Index(None, "state"),
)

membership = Table(
    "membership",
    metadata,
    name_column("campaign", primary_key=True),
    name_column("workflow", primary_key=True),
    name_column("grouping", primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    name_column("source"),
    Column("state", State, nullable=False, comment="grouped, late, not_selected, refused, dropped, removed"),
    Column("group_id", BigId, ForeignKey("run_group.id"), index=True),
    Column("reason", JSON),
    Column("record", JSON, nullable=False, comment="the run's metadata, frozen at assignment"),
    Column("assigned_at", UtcDateTime, nullable=False),
    Index(None, "campaign", "run"),
)

group_task = Table(
    "group_task",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    name_column("task", primary_key=True),
    Column("position", Integer, nullable=False),
    Column("kind", State, nullable=False, comment="jobs or publish"),
    Column("is_root", Boolean, nullable=False, comment="nothing inside its own DAG comes before it"),
    Column("spec_hash", String(64), nullable=False),
    Column("state", State, nullable=False, comment="new, waiting, processing, done, failed, skipped"),
    Column("reason", JSON),
    Column("since", UtcDateTime, nullable=False),
    Column("looked_at", UtcDateTime),
    Column("after", JSON(none_as_null=True), comment="the tasks of its own DAG that it needs"),
    Index(None, "state", "group_id"),
)

lock = Table(
    "lock",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    name_column("task", primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", State, nullable=False, comment="one of the table of locks"),
    Column("parameters", JSON, nullable=False, server_default="{}", comment="what the kind needs to know"),
    Column("deadline", UtcDateTime, comment="until when it is waited for, where that counts from when it began to be"),
    Column("choice", Integer, comment="the first position of the locks of which one is enough; null: it stands alone"),
    Column("limits", JSON(none_as_null=True), comment="how long it is waited for, and what then; null: for ever"),
)

generation = Table(
    "generation",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("group_id", BigId, ForeignKey("run_group.id"), nullable=False),
    name_column("task"),
    Column("n", Integer, nullable=False),
    Column("state", State, nullable=False, comment="running, done, failed"),
    Column("max_tries", Integer, nullable=False, comment="Airflow's: a change means that a user cleared (rule 14)"),
    Column("backend", Name, nullable=False),
    Column("spec_hash", String(64), nullable=False),
    Column("git_commit", String(64)),
    Column("definitions_hash", String(64), nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("runs", JSON, nullable=False),
    Column("excluded_runs", JSON, nullable=False),
    Column("used", JSON, nullable=False, comment="generations and payloads whose products it reads"),
    Column("retries", Integer, nullable=False),
    Column("quorum", Float, nullable=False),
    Column("products", JSON, nullable=False, comment="declared: name -> file relative to CALIB_OUT"),
    Column("folder", Text, nullable=False),
    Column("dag_run_id", String(250), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("reason", JSON),
    Column("ended_by", Name, comment="a person, if one ended it"),
    Column("failures", JSON, nullable=False, server_default="[]", comment="the spec's failure policy"),
    Column("options", JSON, nullable=False, server_default="{}", comment="the backend's block of the spec, rendered"),
    Column("keep", BigInteger, comment="seconds for which logs and failed attempts are kept after its end"),
    Column("trouble", AnyText, comment="why the last look could not take it further"),
    Column("trouble_since", UtcDateTime),
    Column("cleaned_at", UtcDateTime, comment="when logs and failed attempts were removed"),
    Column("spec_folder", Text, comment="what {{ spec.folder }} stands for"),
    Column("rerun", State, comment="how a person wants the next clear"),
    Column("drops", JSON, nullable=False, server_default="{}", comment="product -> seconds for which it is kept"),
    Column("step", Integer, nullable=False, server_default="0", comment="whose jobs the row describes; 0: the result"),
    UniqueConstraint("group_id", "task", "n"),
    Index(None, "state", "group_id", "task"),
)

round_ = Table(
    "round",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("key", KeyOfRound, nullable=False, unique=True),
    Column("state", State, nullable=False, comment="planned, submitted, finished"),
    Column("cursor", Text, nullable=False),
    Column("planned_at", UtcDateTime, nullable=False),
    Column("submitted_at", UtcDateTime),
    Column("git_commit", String(64)),
)

job = Table(
    "job",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("job_index", Integer, primary_key=True),
    Column("state", State, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("accepted_attempt", Integer),
    Column("definition", JSON, nullable=False),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("host", String(255)),
    Column("start", UtcDateTime),
    Column("end", UtcDateTime),
    Column("reason", AnyText),
    Column("retry_at", UtcDateTime),  # of a waiting job its next attempt, of a held one its release or removal
    Column("failure", State, comment="class of the failure, loss or hold"),
    Column("hold_code", Integer),
    Column("memory", BigInteger, comment="peak in bytes"),
    Column("request_memory", BigInteger, comment="bytes; what its next attempt asks for instead of the definition's"),
    Column("releases", Integer, nullable=False, server_default="0", comment="of its present attempt"),
    Column("progress", Float, comment="0 to 1"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("generation_id", BigId, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("job_index", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("state", State, nullable=False),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("host", String(255)),
    Column("start", UtcDateTime),
    Column("end", UtcDateTime),
    Column("reason", AnyText),
    Column("failure", State),
    Column("hold_code", Integer),
    Column("memory", BigInteger, comment="peak in bytes"),
    Column("request_memory", BigInteger, comment="bytes"),
)

value = Table(
    "value",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("job_index", Integer, primary_key=True),
    name_column("name", primary_key=True),
    Column("value", Float, nullable=False),
    Column("error", Float),
)

product = Table(
    "product",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("job_index", Integer, primary_key=True),
    name_column("name", primary_key=True),
    Column("file", Text, nullable=False, comment="relative to the job's CALIB_OUT"),
    Column("size", BigInteger, comment="bytes when it was accepted, of a folder those of its files"),
    Column("checksum", String(64), comment="SHA-256 in hexadecimal; null: nobody has made it yet"),
    Column("state", State, nullable=False, server_default="accepted", comment="accepted, dropped"),
    Column("drop_at", UtcDateTime, comment="when its files may be removed; null: never"),
    Column("removed_at", UtcDateTime, comment="when the files of a dropped one were removed"),
)

dag_run_request = Table(
    "dag_run_request",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    Column("dag_id", String(250), nullable=False),
    Column("run_id", String(250), nullable=False),
    Column("run_after", UtcDateTime, nullable=False),
    Column("note", AnyText, nullable=False),
    Column("state", State, nullable=False, comment="wanted, claimed, opened"),
    Column("wanted_at", UtcDateTime, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("claimed_at", UtcDateTime),
    Column("claimed_by", String(64)),
    Column("opened_at", UtcDateTime),
    Column("refusals", Integer, nullable=False),
    Column("error", AnyText),
    UniqueConstraint("dag_id", "run_id"),
    Index(None, "state"),
)

event = Table(
    "event",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, comment="nanoseconds since 1970"),
    Column("entity", State, nullable=False),
    Column("campaign", Name),
    Column("workflow", Name),
    Column("task", Name),
    Column("group_name", Name),
    Column("run", BigInteger),
    Column("generation", Integer),
    Column("job_index", Integer),
    Column("attempt", Integer),
    Column("from_state", State),
    Column("to_state", State),
    Column("data", JSON, nullable=False),
)

GROUP_HISTORY = text("entity IN ('membership', 'group_task', 'run_group')")
"""The events that say what a group was when; written into statements as it is, since the index is of these only."""

CAMPAIGN_LIFE = text("entity = 'campaign'")
"""The events of campaigns themselves; likewise."""
