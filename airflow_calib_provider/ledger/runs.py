"""Runs as a source lists them: recorded once, changes noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.source_changes import Changes
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move


@dataclass(frozen=True)
class Recorded:
    """How many runs one read of a source brought.

    :ivar changes: the numbers of which the source says something else than before; that it lists them no more, or
        again, included.
    """

    new: int
    changes: Sequence[int]

    @property
    def changed(self) -> int:
        """How many runs changed."""
        return len(self.changes)


def content_hash(record: RunRecord) -> str:
    """SHA-256 of all that the source says about a run."""
    content = [
        record.start and record.start.isoformat(),
        record.end and record.end.isoformat(),
        record.completed,
        dict(sorted(record.fields.items())),
        list(record.files),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


AT_ONCE = 1_000
"""Runs that are recorded in one transaction, and named in one statement."""


def record_listing(ledger: Ledger, source: str, records: Sequence[RunRecord], now: datetime) -> Recorded:
    """As :func:`record_runs` of all that a source lists, in parts, so that nobody waits long to write.

    What differs is found, and hashed, while others write; a death between two parts leaves the rest to the next read.
    """
    digests = {record.number: content_hash(record) for record in records}
    with ledger.read() as connection:
        table = tables.run
        query = select(table.c.number, table.c.content_hash).where(table.c.source == source)
        stored = {row.number: row.content_hash for row in connection.execute(query)}
    news = [record for record in records if stored.get(record.number) != digests[record.number]]
    new, changed = 0, set[int]()
    for begin in range(0, max(0, len(news) - AT_ONCE), AT_ONCE):
        with ledger.write() as connection:
            part = news[begin : begin + AT_ONCE]
            done = record_runs(connection, source, part, now, complete=False, listed=True, digests=digests)
        new, changed = new + done.new, changed | set(done.changes)
    with ledger.write() as connection:
        done = record_runs(connection, source, records, now, digests=digests)
    return Recorded(new + done.new, sorted(changed | set(done.changes)))


def record_runs(
    connection: Connection,
    source: str,
    records: Sequence[RunRecord],
    now: datetime,
    *,
    complete: bool = True,
    listed: bool | None = None,
    digests: Mapping[int, str] | None = None,
) -> Recorded:
    """Store what a source listed. Recording the same again changes nothing.

    A run that changed keeps its row, gets the new metadata, and an event says what changed; groups that hold it are not
    touched (their metadata was frozen at assignment). So it is with one that is listed no more.

    :param complete: this is all that the source lists now.
    :param listed: these are of such a list; as ``complete`` if left out.
    :param digests: what :func:`content_hash` says of each, if that is known.
    """
    listed = complete if listed is None else listed
    digests = {record.number: (digests or {}).get(record.number) or content_hash(record) for record in records}
    known = _known(connection, source, digests)
    new: list[Move] = []
    changed: list[dict[str, object]] = []
    events: list[dict[str, Any]] = []
    for record in records:
        before, digest = known.get(record.number), digests[record.number]
        if before is None:
            new.append(_new(source, record, digest, now, listed))
        elif before.content_hash != digest:
            completed_at = before.completed_at or (now if record.completed else None)
            columns = _bind(_columns(record, digest))
            changed.append(
                {"key_source": source, "key_number": record.number, **columns, "new_completed_at": completed_at}
            )
            events.append(_event(source, record.number, _differences(record, before)))
    move(connection, tables.run, new)
    _update(connection, changed)
    if complete:
        events += _note_listed(connection, source, digests, known)
    append_events(connection, events)
    return Recorded(len(new), sorted({event["subject"].run for event in events}))


def _new(source: str, record: RunRecord, digest: str, now: datetime, complete: bool) -> Move:
    stamps = {"recorded_at": now, "completed_at": now if record.completed else None, "listed": complete or None}
    return Move(
        {"source": source, "number": record.number},
        None,
        "recorded",
        Subject(run=record.number),
        {**_columns(record, digest), **stamps},
        {"source": source, "completed": record.completed},
    )


def _columns(record: RunRecord, digest: str) -> dict[str, object]:
    return {
        "start": record.start,
        "end": record.end,
        "completed": record.completed,
        "fields": dict(record.fields),
        "files": list(record.files),
        "content_hash": digest,
    }


def _update(connection: Connection, changed: Sequence[dict[str, object]]) -> None:
    if not changed:
        return
    run = tables.run
    names = [name.removeprefix("new_") for name in changed[0] if name.startswith("new_")]
    statement = (
        update(run)
        .where(run.c.source == bindparam("key_source"), run.c.number == bindparam("key_number"))
        .values({name: bindparam(f"new_{name}") for name in names})
    )
    connection.execute(statement, changed)


def _note_listed(
    connection: Connection, source: str, digests: Mapping[int, str], known: Mapping[int, Any]
) -> list[dict[str, Any]]:
    """Note which of the known runs a complete read lists.

    :returns: an event for each that it lists no more, or again; not for those that were added by hand.
    """
    run = tables.run
    shown = [number for number, row in known.items() if number in digests and row.listed is not True]
    gone = [number for number, row in known.items() if number not in digests and row.listed]
    for numbers, value in ((shown, True), (gone, False)):
        for start in range(0, len(numbers), AT_ONCE):
            some = tables.one_of(run.c.number, numbers[start : start + AT_ONCE])
            connection.execute(update(run).where(run.c.source == source, some).values(listed=value))
    again = [number for number in shown if known[number].listed is False]
    return [_event(source, number, {"listed": [False, True]}) for number in again] + [
        _event(source, number, {"listed": [True, False]}) for number in gone
    ]


def _known(connection: Connection, source: str, digests: Mapping[int, str]) -> dict[int, Any]:
    """What is stored of these runs: the whole row where something has changed, else the hash alone."""
    run = tables.run
    stored = connection.execute(
        select(run.c.number, run.c.content_hash, run.c.listed).where(run.c.source == source)
    ).all()
    known: dict[int, Any] = {row.number: row for row in stored}
    changed = [row.number for row in stored if digests.get(row.number, row.content_hash) != row.content_hash]
    if changed:
        query = select(run).where(run.c.source == source, tables.one_of(run.c.number, changed))
        known.update((row.number, row) for row in connection.execute(query))
    return known


def _bind(columns: Mapping[str, object]) -> dict[str, object]:
    return {f"new_{name}": value for name, value in columns.items()}


def _differences(record: RunRecord, before: Any) -> Changes:
    after = {"start": record.start, "end": record.end, "completed": record.completed, "files": list(record.files)}
    differences: Changes = {
        name: [_text(old), _text(value)] for name, value in after.items() if (old := getattr(before, name)) != value
    }
    old_fields = before.fields
    for name in sorted(old_fields.keys() | record.fields.keys()):
        if old_fields.get(name) != record.fields.get(name):
            differences[name] = [old_fields.get(name), record.fields.get(name)]
    return differences


def _event(source: str, number: int, changes: Changes) -> dict[str, Any]:
    return {
        "entity": "run",
        "from_state": "recorded",
        "to_state": "changed",
        "subject": Subject(run=number),
        "data": {"source": source, "changes": changes},
    }


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
