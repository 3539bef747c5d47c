"""The tables of publications to outside stores: what is on its way, and what the ledger says that each tag has."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from airflow_calib_provider.ledger.column_types import AnyText, BigId, State, UtcDateTime, metadata, name_column

STORE_LENGTH = 250
"""Characters of a store, as ``kind:place``."""

publication = Table(
    "publication",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("group_id", BigId, ForeignKey("run_group.id"), nullable=False),
    name_column("task"),
    Column("n", Integer, nullable=False, comment="of the group's task: all stores of a set have the same"),
    Column("position", Integer, nullable=False, comment="of the store among those of the set"),
    Column("key", AnyText, nullable=False, comment="what the store is told of the set"),
    Column("store", String(STORE_LENGTH), nullable=False, comment="kind:place"),
    Column(
        "state", State, nullable=False, comment="intended, planned, applied, published or withdrawn, returning, refused"
    ),
    Column("wanted", JSON, nullable=False, comment="what is to hold under which tags"),
    Column("plan", JSON(none_as_null=True), comment="what is changed there"),
    Column("receipt", JSON(none_as_null=True), comment="what it has said"),
    Column("reason", JSON(none_as_null=True), comment="why it is not whole yet, or was refused"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    UniqueConstraint("group_id", "task", "n", "position"),
    Index(None, "state"),
)

conditions_tag = Table(
    "conditions_tag",
    metadata,
    Column("store", String(STORE_LENGTH), primary_key=True),
    name_column("tag", primary_key=True),
    name_column("campaign"),
    name_column("workflow"),
    name_column("task"),
    Column("listed_at", UtcDateTime, comment="when it was first seen what it has; null: not yet"),
    Column("publication", AnyText, comment="the key of the set that is on its way there; null: none"),
    Column("holder", String(120), comment="the process that writes; null: none"),
    Column("held_until", UtcDateTime, comment="then another may"),
)

placement = Table(
    "placement",
    metadata,
    Column("store", String(STORE_LENGTH), primary_key=True),
    name_column("tag", primary_key=True),
    Column("first_run", BigInteger, primary_key=True, autoincrement=False),
    Column("last_run", BigInteger, comment="null: open"),
    Column("file", Text, nullable=False, comment="where it is in the store"),
    Column("hash", String(200), nullable=False),
    Column("firm_last", BigInteger, comment="the last run that it is meant for; null: last_run"),
    Column("group_id", BigId, ForeignKey("run_group.id"), comment="null: it was there before"),
)
