"""The tables of the mirror."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table, Text

from airflow_calib_provider.ledger.column_types import AnyText, BigId, UtcDateTime, metadata, name_column

mirror_target = Table(
    "mirror_target",
    metadata,
    name_column("name", primary_key=True),
    Column("place", Text, nullable=False, comment="where it is, without secrets"),
    Column("cursor", BigInteger, nullable=False, comment="the last event that was carried there"),
    Column(
        "holes", JSON, nullable=False, comment="ids below the cursor that nobody could see yet: [first, last, since]"
    ),
    Column("holder", String(64), comment="who carries now"),
    Column("held_until", UtcDateTime),
    Column("last_success_at", UtcDateTime),
    Column("last_error", AnyText),
    Column("last_error_at", UtcDateTime),
    Column("skipped_by_retention", BigInteger, nullable=False, comment="points that were older than its retention"),
    Column("note", AnyText, comment="what is odd about the events, such as a clock that goes backwards"),
    Column("note_at", UtcDateTime),
    Column("sample", JSON, comment="the last figures of the system that were appended as events"),
    Column("sampled_at", UtcDateTime),
)

mirror_set_aside = Table(
    "mirror_set_aside",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    name_column("target"),
    Column("event_id", BigInteger, nullable=False),
    name_column("measurement"),
    Column("line", AnyText, nullable=False, comment="as it was refused; empty: no point could be made of the event"),
    Column("reason", AnyText, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index(None, "target", "event_id"),
)
