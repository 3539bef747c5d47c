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
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move


@dataclass(frozen=True)
class Recorded:
    """How many runs one read of a source brought."""

    new: int
    changed: int


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


def record_runs(connection: Connection, source: str, records: Sequence[RunRecord], now: datetime) -> Recorded:
    """Store what a complete read of a source listed. Recording the same again changes nothing.

    A run that changed keeps its row, gets the new metadata, and an event says what changed; groups that hold it are not
    touched (their metadata was frozen at assignment).
    """
    run = tables.run
    known = _known(connection, source, {record.number: content_hash(record) for record in records})
    new: list[Move] = []
    changed: list[dict[str, object]] = []
    events = []
    for record in records:
        digest = content_hash(record)
        before = known.get(record.number)
        columns = {
            "start": record.start,
            "end": record.end,
            "completed": record.completed,
            "fields": dict(record.fields),
            "files": list(record.files),
            "content_hash": digest,
        }
        if before is None:
            stamps = {"recorded_at": now, "completed_at": now if record.completed else None}
            new.append(
                Move(
                    {"source": source, "number": record.number},
                    None,
                    "recorded",
                    Subject(run=record.number),
                    {**columns, **stamps},
                    {"source": source, "completed": record.completed},
                )
            )
        elif before.content_hash != digest:
            completed_at = before.completed_at or (now if record.completed else None)
            changed.append(
                {"key_source": source, "key_number": record.number, **_bind(columns), "new_completed_at": completed_at}
            )
            events.append(_change(source, record, before))
    move(connection, run, new)
    if changed:
        names = [name.removeprefix("new_") for name in changed[0] if name.startswith("new_")]
        statement = (
            update(run)
            .where(run.c.source == bindparam("key_source"), run.c.number == bindparam("key_number"))
            .values({name: bindparam(f"new_{name}") for name in names})
        )
        connection.execute(statement, changed)
        append_events(connection, events)
    return Recorded(len(new), len(changed))


def _known(connection: Connection, source: str, digests: Mapping[int, str]) -> dict[int, Any]:
    """What is stored of these runs: the whole row where something has changed, else the hash alone."""
    run = tables.run
    stored = connection.execute(select(run.c.number, run.c.content_hash).where(run.c.source == source)).all()
    known: dict[int, Any] = {row.number: row for row in stored}
    changed = [row.number for row in stored if digests.get(row.number, row.content_hash) != row.content_hash]
    if changed:
        query = select(run).where(run.c.source == source, tables.one_of(run.c.number, changed))
        known.update((row.number, row) for row in connection.execute(query))
    return known


def _bind(columns: Mapping[str, object]) -> dict[str, object]:
    return {f"new_{name}": value for name, value in columns.items()}


def _change(source: str, record: RunRecord, before: Any) -> dict[str, object]:
    after = {"start": record.start, "end": record.end, "completed": record.completed, "files": list(record.files)}
    differences = {
        name: [_text(old), _text(value)] for name, value in after.items() if (old := getattr(before, name)) != value
    }
    old_fields = before.fields
    for name in sorted(old_fields.keys() | record.fields.keys()):
        if old_fields.get(name) != record.fields.get(name):
            differences[name] = [old_fields.get(name), record.fields.get(name)]
    return {
        "entity": "run",
        "from_state": "recorded",
        "to_state": "changed",
        "subject": Subject(run=record.number),
        "data": {"source": source, "changes": differences},
    }


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
