"""The tables of actions from chat: what is declared, and what was asked for."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, String, Table

from airflow_calib_provider.ledger.column_types import AnyText, Name, State, UtcDateTime, metadata, name_column

chat_endpoint = Table(
    "chat_endpoint",
    metadata,
    name_column("team", primary_key=True),
    Column("declared", JSON, nullable=False, comment="what messages.yaml says"),
    Column("seen_at", UtcDateTime, nullable=False, comment="when it was last said; long ago: it is said no more"),
)

chat_action = Table(
    "chat_action",
    metadata,
    Column("nonce", String(64), primary_key=True),
    Column("state", State, nullable=False, comment="asked, wanted, carrying, done, failed, refused"),
    Column("action", State, nullable=False, comment="retry, skip, pause, resume"),
    Column("wanted", JSON, nullable=False, comment="what the button said: ids, and the state of then"),
    name_column("person"),
    Column("user_id", Name, nullable=False, comment="Mattermost's"),
    Column("at", UtcDateTime, nullable=False, comment="when it came into its state"),
    Column("outcome", AnyText),
    Index(None, "state", "at"),
)
