"""The tables of messages to people: how far each channel is, what is amiss now, and deadlines of publications."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table

from airflow_calib_provider.ledger.column_types import AnyText, BigId, Name, State, UtcDateTime, metadata, name_column

message_channel = Table(
    "message_channel",
    metadata,
    name_column("name", primary_key=True),
    Column("cursor", BigInteger, nullable=False, comment="the last event that was told there, or is not to be"),
    Column("holder", String(64), comment="who sends now"),
    Column("held_until", UtcDateTime),
    Column("sent", BigInteger, nullable=False, comment="messages"),
    Column("last_sent_at", UtcDateTime),
    Column("last_success_at", UtcDateTime, comment="when nothing was left, or a message was sent"),
    Column("last_error", AnyText),
    Column("last_error_at", UtcDateTime),
)

alarm = Table(
    "alarm",
    metadata,
    Column("key", String(300), primary_key=True, comment="what is amiss, and where"),
    Column("code", State, nullable=False),
    Column("state", State, nullable=False, comment="raised, cleared"),
    Column("reason", JSON, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("campaign", Name),
    Column("workflow", Name),
    Column("task", Name),
    Column("group_name", Name),
    Index(None, "state"),
)

publication_deadline = Table(
    "publication_deadline",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    name_column("task", primary_key=True),
    Column("at_most", Integer, nullable=False, comment="seconds"),
    Column("since", State, nullable=False, comment="run_end, group_closed"),
    Column("remind", Integer, nullable=False, comment="seconds before its end at which it is near"),
    Column("then", State, nullable=False, comment="alarm, fallback"),
    Column("state", State, nullable=False, comment="counting, near, passed, met"),
    Column("due", UtcDateTime, comment="null: the group takes runs"),
    Column("look_at", UtcDateTime, comment="when something is to be said next; null: never again, or not known yet"),
    Index(None, "look_at"),
    Index(None, "state"),
)
