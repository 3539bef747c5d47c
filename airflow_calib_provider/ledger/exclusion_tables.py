"""The tables of runs that are left out: by a person, and as they had failed (rules 20, 49)."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Table

from airflow_calib_provider.ledger.column_types import AnyText, BigId, Name, UtcDateTime, metadata, name_column

skip = Table(
    "skip",
    metadata,
    name_column("campaign", primary_key=True),
    name_column("workflow", primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Name, primary_key=True, comment="empty: every task"),
    Column("reason", AnyText, nullable=False),
    Column("person", Name, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

excluded_run = Table(
    "excluded_run",
    metadata,
    Column("group_id", BigId, ForeignKey("run_group.id"), primary_key=True),
    name_column("task", primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", JSON, nullable=False, comment="what had failed for it, when and why"),
    Column("at", UtcDateTime, nullable=False, comment="when the task began, or published, without it"),
)
