"""Reading the events in order; and those that become visible late.

On PostgreSQL a transaction that commits later may hold lower ids. So the ids that are missing between those that can be
seen are *holes*, which are looked at again until they fill, or are so old that they are a transaction's that was rolled
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, TextClause, and_, func, or_, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Event, read_rows, select_of
from airflow_calib_provider.mirror.points import AT_ONCE, HISTORY, GroupKey, group_of

HOLE_LIVES = 3600.0
"""Seconds after which a hole is no longer looked at: no transaction of ours lives so long."""

MOST_HOLES = 5_000

LOOK_BACK = 100_000
"""Events among which one of a wrong clock hides no others."""

Holes = list[list[float]]
"""First id, last id, since when in seconds since 1970."""

event = tables.event


def after(connection: Connection, cursor: int, limit: int) -> list[Event]:
    """The next events."""
    query = select_of(Event, event).where(event.c.id > cursor).order_by(event.c.id).limit(limit)
    return read_rows(connection, query, Event)


def last_id(connection: Connection) -> int:
    """The id of the newest event; 0: there is none."""
    return int(connection.execute(select(func.max(event.c.id))).scalar() or 0)


def first_since(connection: Connection, at: int) -> int:
    """The id of the first event at or after a time in nanoseconds; one more than the last if there is none.

    Found by halving, since times grow with ids but for clocks that are wrong. An event of such a one may mislead it, so
    the events before are looked at, too.
    """
    low, high = 1, last_id(connection) + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            select(event.c.id, event.c.at).where(event.c.id >= middle).order_by(event.c.id)
        ).first()
        if row is None or row.at >= at:
            high = middle
        else:
            low = int(row.id) + 1
    earlier = select(func.min(event.c.id)).where(event.c.at >= at)
    while found := connection.execute(earlier.where(event.c.id.between(low - LOOK_BACK, low - 1))).scalar():
        low = int(found)
    return low


def gaps(cursor: int, ids: Iterable[int], now: float) -> Holes:
    """The ids that are missing after the cursor."""
    found: Holes = []
    for number in ids:
        if number > cursor + 1:
            found.append([cursor + 1, number - 1, now])
        cursor = number
    return found


def still_open(holes: Sequence[Sequence[float]], filled: Iterable[int], now: float) -> Holes:
    """The holes without the ids that were seen meanwhile, and without those that are too old."""
    seen = sorted(filled)
    left: Holes = []
    for first, last, since in holes:
        if now - since > HOLE_LIVES:
            continue
        start = first
        for number in seen:
            if start <= number <= last:
                if number > start:
                    left.append([start, number - 1, since])
                start = number + 1
        if start <= last:
            left.append([start, last, since])
    return left[-MOST_HOLES:]


def in_holes(connection: Connection, holes: Sequence[Sequence[float]]) -> list[Event]:
    """The events that have turned up in holes."""
    rows: list[Event] = []
    for start in range(0, len(holes), AT_ONCE):
        part = [event.c.id.between(int(first), int(last)) for first, last, _ in holes[start : start + AT_ONCE]]
        rows += read_rows(connection, select_of(Event, event).where(or_(*part)).order_by(event.c.id), Event)
    return rows


def with_what_follows(connection: Connection, rows: Sequence[Event], cursor: int) -> list[Event]:
    """These events, and those up to the cursor of the same groups whose points depend on them, or overwrite theirs."""
    found = {row.id: row for row in rows}
    of_history = [row for row in rows if row.entity in HISTORY]
    _add_later(connection, found, of_history, cursor, tables.GROUP_HISTORY)
    told = [row for row in rows if row.entity in ("job", "value") and row.data.get("values")]
    same_jobs = and_(
        or_(event.c.entity == "value", and_(event.c.entity == "job", event.c.to_state == "succeeded")),
        tables.one_of(event.c.job_index, (row.job_index or 0 for row in told)),
    )
    _add_later(connection, found, told, cursor, same_jobs)
    return [found[number] for number in sorted(found)]


def _add_later(
    connection: Connection,
    found: dict[int, Event],
    rows: Sequence[Event],
    cursor: int,
    which: ColumnElement[bool] | TextClause,
) -> None:
    """Add the events of some kind that come after the first of these in its group."""
    first: dict[GroupKey, int] = {}
    for row in rows:
        if key := group_of(row):
            first[key] = min(row.id, first.get(key, row.id))
    keys = sorted(first)
    for start in range(0, len(keys), AT_ONCE // 4):
        part = keys[start : start + AT_ONCE // 4]
        here = [
            and_(event.c.campaign == key[0], event.c.workflow == key[1], event.c.group_name == key[2]) for key in part
        ]
        least = min(first[key] for key in part)
        query = select_of(Event, event).where(which, event.c.id > least, event.c.id <= cursor, or_(*here))
        found.update({row.id: row for row in read_rows(connection, query, Event) if row.id > first[group_of(row)]})  # type: ignore[index]
