"""Payloads, and what was decided about them (rules 25, 66, 69)."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from airflow_calib_provider.ledger.column_types import AnyText, BigId, Name, State, UtcDateTime, metadata, name_column

STATES = "as the graph of payloads says"

payload = Table(
    "payload",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    name_column("campaign"),
    name_column("tag"),
    Column("first_run", BigInteger, nullable=False),
    Column("last_run", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", State, nullable=False, comment=STATES),
    Column("content_hash", String(64), nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    name_column("workflow"),
    name_column("task"),
    Column("group_id", BigId, ForeignKey("run_group.id"), nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("published_at", UtcDateTime, nullable=False, comment="of what is not: when it was made"),
    Column("superseded_at", UtcDateTime, comment="or withdrawn, rejected, expired"),
    Column("reason", JSON(none_as_null=True), comment="why it goes no further"),
    Column("asked_at", UtcDateTime, comment="when its approvers were asked"),
    Column("remind_at", UtcDateTime, comment="when they are to be reminded"),
    Column("expires_at", UtcDateTime, comment="until when they may answer"),
    UniqueConstraint("campaign", "tag", "group_id", "task", "revision"),
    Index("ix_payload_interval", "campaign", "tag", "state", "first_run", "last_run"),
    Index(None, "group_id", "task"),
    Index("ix_payload_state_remind_at", "state", "remind_at"),
)

payload_decision = Table(
    "payload_decision",
    metadata,
    Column("payload_id", BigId, ForeignKey("payload.id"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("kind", State, nullable=False, comment="validation, request, approval, withdrawal, rollback"),
    Column("outcome", State, nullable=False, comment="passed, failed, asked, approved, rejected, expired, void, done"),
    Column("content_hash", String(64), nullable=False, comment="of what it was decided about"),
    Column("person", Name, comment="null: a rule, or nobody"),
    Column("comment", AnyText, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("details", JSON, nullable=False),
)
