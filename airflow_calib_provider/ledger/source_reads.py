"""How far run sources were read, and which could not be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from airflow_calib_provider.ledger import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.engine import Ledger

run_source = tables.run_source

LONGEST = 2_000
"""Characters that are kept of what is wrong."""


@dataclass(frozen=True)
class SourceTrouble:
    """Why a source could not be read when it was tried last.

    :ivar said: what is wrong, for people.
    :ivar since: when it could not be read for the first time since it could.
    """

    source: str
    said: str
    since: datetime


def mark_of(connection: Connection, source: str) -> tuple[Mapping[str, object] | None, bool]:
    """What the last read has left, from which the next goes on; and whether the source could not be read since."""
    query = select(run_source.c.mark, run_source.c.trouble).where(run_source.c.name == source)
    row = connection.execute(query).first()
    return (None, False) if row is None else (row.mark, row.trouble is not None)


def note_read(ledger: Ledger, source: str, mark: Mapping[str, object] | None) -> None:
    """All that this read has found is recorded."""
    _note(ledger, source, {"mark": None if mark is None else dict(mark), "trouble": None, "trouble_since": None})


def note_unreadable(ledger: Ledger, source: str, said: str, now: datetime) -> None:
    """A source could not be read."""
    with ledger.read() as connection:
        query = select(run_source.c.trouble_since).where(run_source.c.name == source)
        since = connection.execute(query).scalar()
    _note(ledger, source, {"trouble": said[:LONGEST], "trouble_since": since or now})


def _note(ledger: Ledger, source: str, values: Mapping[str, object]) -> None:
    """Nothing is written that is so already."""
    query = select(*(run_source.c[name] for name in values)).where(run_source.c.name == source)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    if (row is None and not any(values.values())) or (row is not None and dict(row._mapping) == dict(values)):
        return
    with ledger.write() as connection:
        if connection.execute(query).first() is None:
            connection.execute(insert(run_source).values(name=source, serial=0, identity=None, **values))
        else:
            connection.execute(update(run_source).where(run_source.c.name == source).values(**values))


def unreadable(connection: Connection, names: Collection[str] | None = None) -> list[SourceTrouble]:
    """The sources that could not be read when they were tried last, by name.

    :param names: only these.
    """
    query = select(run_source).where(run_source.c.trouble.is_not(None)).order_by(run_source.c.name)
    if names is not None:
        query = query.where(run_source.c.name.in_(sorted(names)))
    return [SourceTrouble(row.name, row.trouble, row.trouble_since) for row in connection.execute(query).all()]
