"""Connections as Airflow would tell them, and databases that they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from airflow_calib_provider.outside import connections
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from tests.postgres.fixture import Database


@contextmanager
def connected(*known: OutsideConnection) -> Iterator[None]:
    """Within it, these are the connections of this process."""
    before = list(connections._lookups)
    look_up_with({item.name: item for item in known}.get)
    try:
        yield
    finally:
        connections._lookups[:] = before


def connection_to(database: Database, name: str = "daq", **more: object) -> OutsideConnection:
    """An Airflow connection to a database of a test."""
    parts = psycopg.conninfo.conninfo_to_dict(address(database))
    given = {
        "host": str(parts["host"]),
        "port": int(str(parts["port"])),
        "schema": str(parts["dbname"]),
        "login": str(parts.get("user") or ""),
        "password": str(parts.get("password") or ""),
    }
    return OutsideConnection(name, "postgres", **{**given, **more})  # type: ignore[arg-type]


def address(database: Database) -> str:
    """For psycopg."""
    return database.url.replace("postgresql+psycopg://", "postgresql://")


def run_script(database: Database, text: str) -> None:
    """Run statements, and commit."""
    with psycopg.connect(address(database), autocommit=True) as connection:
        connection.execute(text.encode())
