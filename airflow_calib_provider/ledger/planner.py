"""What the database may use, and what it knows of how much there is: else its way through a large ledger is slow."""

from __future__ import annotations

from sqlalchemy import Connection

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.tables import metadata

MANY = 2000
"""New rows after which it is told at once; PostgreSQL would find out by itself after a minute or more."""

SAMPLE = 400
"""Rows of each index that SQLite looks at: enough for a choice, however large the ledger is."""


MEMORY = "64MB"
"""For each sort and each join of a question about all that there is; by PostgreSQL's default it is 4 MB, and a file."""


def allow_memory(connection: Connection) -> None:
    """Let the rest of this transaction sort and join a million rows in memory."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL work_mem = '{MEMORY}'")


def refresh(ledger: Ledger) -> None:
    """Let the database look at the tables: 0.2 s for 100,000 runs.

    :raises LedgerError: the ledger cannot be written.
    """
    with ledger.write() as connection:
        refresh_in(connection)


def refresh_in(connection: Connection) -> None:
    """As :func:`refresh`, inside a transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA analysis_limit = {SAMPLE}")
        connection.exec_driver_sql("ANALYZE")
    elif connection.dialect.name == "postgresql":
        prepare = connection.dialect.identifier_preparer
        connection.exec_driver_sql(f"ANALYZE {', '.join(map(prepare.format_table, metadata.sorted_tables))}")
