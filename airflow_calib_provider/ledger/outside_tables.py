"""The table of what was asked outside of the ledger, and what was answered."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Index, String, Table

from airflow_calib_provider.ledger.column_types import AnyText, State, UtcDateTime, metadata

outside_answer = Table(
    "outside_answer",
    metadata,
    Column("question", String(64), primary_key=True, comment="SHA-256 of the kind and of what is asked"),
    Column("kind", State, nullable=False, comment="one of the table of locks"),
    Column("asked", JSON, nullable=False, comment="what is asked"),
    Column("asked_at", UtcDateTime, nullable=False, comment="when somebody began to ask it last"),
    Column("answered_at", UtcDateTime, comment="when there was an answer last; null: never yet"),
    Column("opens", Boolean, nullable=False, comment="whether it opens locks"),
    Column("said", AnyText, nullable=False, comment="why not, for people"),
    Column("data", JSON(none_as_null=True), comment="what the kind keeps of the answer"),
    Column("changed_at", UtcDateTime, comment="since when the answer is this one"),
    Index(None, "asked_at"),
)
