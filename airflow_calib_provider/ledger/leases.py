"""What belongs to one process at a time, and what was in its way: the targets of the mirror, the channels of messages.

A row has a ``name``, a ``holder`` with the time until which it is its own, and the last success and the last error with
their times.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, Table, or_, update

from airflow_calib_provider.ledger.engine import Ledger

TOLD_AGAIN = timedelta(seconds=60)
"""How old the time of the same error may become in the ledger."""


class Worked(Protocol):
    """How the work with a row goes."""

    @property
    def last_success_at(self) -> datetime | None:
        """When something went well last."""

    @property
    def last_error(self) -> str | None:
        """What was in the way last."""

    @property
    def last_error_at(self) -> datetime | None:
        """When that was."""


def take(
    connection: Connection, table: Table, name: str, holder: str, now: datetime, values: Mapping[str, object]
) -> bool:
    """Take a row that nobody else has, or keep it.

    :param values: what is written then, ``holder`` and ``held_until`` among it.
    :returns: False if somebody else has it.
    """
    free = or_(table.c.holder.is_(None), table.c.holder == holder, table.c.held_until < now)
    return connection.execute(update(table).where(table.c.name == name, free).values(**values)).rowcount == 1


def release(ledger: Ledger, table: Table, name: str, holder: str) -> None:
    """Let somebody else have the row at once."""
    with ledger.write() as connection:
        here = (table.c.name == name, table.c.holder == holder)
        connection.execute(update(table).where(*here).values(holder=None, held_until=None))


def is_news(row: Worked, error: str, now: datetime) -> bool:
    """Whether an error is to be written: the same one once a minute."""
    return row.last_error != error or row.last_error_at is None or now - row.last_error_at >= TOLD_AGAIN


def is_in_trouble(row: Worked) -> bool:
    """Whether the last thing heard of the row was an error."""
    return row.last_error_at is not None and (row.last_success_at is None or row.last_error_at > row.last_success_at)
