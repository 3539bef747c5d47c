"""What was known of runs, and from when on: as the ledger learnt of them, or as their source tells their times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.run_ranges import RunRanges
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Run, read_rows, select_of
from airflow_calib_provider.ledger.runs import content_hash


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run, and from when on it was listed, and read as completed (``None``: never)."""

    row: Run
    listed_at: datetime
    completed_at: datetime | None

    def incomplete(self) -> Run:
        """As it was before it was completed."""
        return replace(self.row, completed=False, completed_at=None, end=None) if self.row.completed else self.row


def of_ledger(
    connection: Connection, source: str, ranges: RunRanges | None, last: int, *, between: bool = False
) -> list[KnownRun]:
    """Runs as the ledger learnt of them, by ascending number.

    :param ranges: only these; ``None``: all.
    :param last: only so many, the highest; 0: all.
    :param between: also those between them.
    """
    run = tables.run
    query = select_of(Run, run).where(run.c.source == source)
    if ranges is not None and ranges.ranges:
        query = query.where(run.c.number >= ranges.ranges[0][0], run.c.number <= ranges.ranges[-1][1])
    query = query.order_by(run.c.number.desc())
    rows = read_rows(connection, query.limit(last) if last and ranges is None else query, Run)
    if ranges is not None and not between:
        rows = [row for row in rows if row.number in ranges]
    wanted = rows[:last] if last else rows
    return [_as_recorded(row) for row in reversed(wanted)]


def _as_recorded(row: Run) -> KnownRun:
    completed = (row.completed_at or row.recorded_at) if row.completed else None
    return KnownRun(row, row.recorded_at, completed)


def of_source(
    source: str, records: Iterable[RunRecord], ranges: RunRanges | None, last: int, now: datetime
) -> list[KnownRun]:
    """Runs as if each was listed from its start on, and completed from its end on, by ascending number.

    A run of which no time is told is known with the one before it.

    :param ranges: as for :func:`of_ledger`, as ``last``.
    """
    chosen = [record for record in records if ranges is None or record.number in ranges]
    chosen = chosen[-last:] if last else chosen
    told = next((time for record in chosen for time in (record.start, record.end) if time is not None), now)
    before = min(told, now)
    found = []
    for record in chosen:
        listed = min(record.start or record.end or before, now)
        completed = min(max(listed, record.end or listed), now) if record.completed else None
        before = completed or listed
        found.append(KnownRun(_row(source, record, listed, completed), listed, completed))
    return found


def at_once(runs: Sequence[KnownRun], now: datetime) -> list[KnownRun]:
    """The same runs as if all that is known of them was known from now on, and nothing before."""
    return [KnownRun(one.row, now, now if one.row.completed else None) for one in runs]


def sources_of(connection: Connection) -> set[str]:
    """The sources of which the ledger knows runs."""
    return set(connection.execute(select(tables.run_source.c.name)).scalars())


def _row(source: str, record: RunRecord, listed: datetime, completed: datetime | None) -> Run:
    return Run(
        source=source,
        number=record.number,
        start=record.start,
        end=record.end,
        completed=record.completed,
        fields=dict(record.fields),
        files=list(record.files),
        recorded_at=listed,
        completed_at=completed,
        content_hash=content_hash(record),
        listed=True,
    )
