"""Points that a target would not have: kept with the reason, and tried again now and then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import read_rows, select_of
from airflow_calib_provider.mirror.delivery import Line

aside = tables.mirror_set_aside


class Aside(NamedTuple):
    """A point that was refused.

    :ivar line: as it was refused; empty: no point could be made of the event.
    """

    id: int
    target: str
    event_id: int
    measurement: str
    line: str
    reason: str
    at: datetime


class RefusedPoints(NamedTuple):
    """How many points were refused for a reason."""

    measurement: str
    reason: str
    n: int


def put(connection: Connection, target: str, refused: Sequence[tuple[Line, str]]) -> None:
    """Keep refused lines; those that are there already are not doubled."""
    if not refused:
        return
    now = datetime.now(UTC)
    for start in range(0, len(refused), 500):
        part = refused[start : start + 500]
        here = (aside.c.target == target, tables.one_of(aside.c.event_id, (line.event for line, _ in part)))
        known = {(row.event_id, row.line) for row in connection.execute(select(aside).where(*here))}
        rows = [
            {
                "target": target,
                "event_id": line.event,
                "measurement": line.measurement,
                "line": line.text,
                "reason": reason[:2000],
                "at": now,
            }
            for line, reason in part
            if (line.event, line.text) not in known
        ]
        if rows:
            connection.execute(insert(aside), rows)


def remove(connection: Connection, target: str, events: Iterable[int]) -> None:
    """Forget what was set aside of these events: they are carried again."""
    numbers = list(events)
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        connection.execute(delete(aside).where(aside.c.target == target, tables.one_of(aside.c.event_id, part)))


def remove_from(connection: Connection, target: str, first: int, last: int) -> None:
    """As :func:`remove`, of all events of a range."""
    here = (aside.c.target == target, aside.c.event_id >= first, aside.c.event_id <= last)
    connection.execute(delete(aside).where(*here))


def event_ids(connection: Connection, target: str, limit: int, *, after: int = 0) -> list[int]:
    """Events of which points are set aside, the oldest first."""
    here = (aside.c.target == target, aside.c.event_id > after)
    query = select(aside.c.event_id).where(*here).distinct().order_by(aside.c.event_id)
    return list(connection.execute(query.limit(limit)).scalars())


def listed(connection: Connection, target: str, first: int = 0, last: int | None = None) -> list[Aside]:
    """What is set aside of a range of events."""
    query = select_of(Aside, aside).where(aside.c.target == target, aside.c.event_id >= first)
    if last is not None:
        query = query.where(aside.c.event_id <= last)
    return read_rows(connection, query.order_by(aside.c.event_id, aside.c.id), Aside)


def counted(connection: Connection, target: str) -> list[RefusedPoints]:
    """How many points are set aside, and why."""
    query = select(aside.c.measurement, aside.c.reason, func.count().label("n")).where(aside.c.target == target)
    query = query.group_by(aside.c.measurement, aside.c.reason).order_by(func.count().desc())
    return read_rows(connection, query, RefusedPoints)
