"""The tables of what iterates: how, and the steps that it has made."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Integer, String, Table, Text

from airflow_calib_provider.ledger.column_types import AnyText, BigId, State, UtcDateTime, metadata, name_column

iteration = Table(
    "iteration",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("plan", JSON, nullable=False, comment="its phases and their jobs, rendered"),
    Column("workers", JSON(none_as_null=True), comment="how the workers are that it reserves, if it does"),
)

refused_result = Table(
    "refused_result",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("step", Integer, comment="that it says it is of"),
    Column("job_index", Integer),
    Column("attempt", Integer),
    Column("worker", Integer),
    Column("epoch", Integer, comment="of the worker"),
    Column("file", AnyText, nullable=False, comment="what it was called in the mailbox"),
    Column("why", AnyText, nullable=False, comment="it is not used"),
    Column("seen_at", UtcDateTime, nullable=False),
)

step = Table(
    "step",
    metadata,
    Column("generation_id", BigId, ForeignKey("generation.id"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("state", State, nullable=False, comment="planned, measuring, frozen, updating, judged, discarded"),
    Column("stage", Integer, nullable=False),
    name_column("phase"),
    Column("visit", Integer, nullable=False, comment="counts within the phase, from 1"),
    Column("constants", Text, nullable=False, comment="the file, relative to the products folder"),
    Column("constants_hash", String(64), nullable=False, comment="SHA-256 in hexadecimal"),
    Column("kept", JSON, nullable=False, comment="metrics whose part of the constants is not to change"),
    Column("n_jobs", Integer, nullable=False, comment="that measure; the update is the job behind them"),
    Column("accepted", JSON, comment="jobs whose results are used, each with its attempt"),
    Column("left_out", JSON, comment="jobs whose results are not, each with why"),
    Column("updated", Text, comment="the constants that the update made, relative to the products folder"),
    Column("updated_hash", String(64), comment="SHA-256 in hexadecimal"),
    Column("events", BigId, comment="that the accepted jobs counted"),
    Column("report", JSON, comment="what the update reported: metrics, verdict"),
    Column("judged", JSON, comment="what was found, and how the phase has ended"),
    Column("spec_hash", String(64), nullable=False),
    Column("planned_at", UtcDateTime, nullable=False),
    Column("frozen_at", UtcDateTime),
    Column("judged_at", UtcDateTime),
)
