"""Runs as a source lists them: recorded once, changes noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, false, func, insert, or_, select, update

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.source_changes import Changes
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Run, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move


@dataclass(frozen=True)
class Recorded:
    """How many runs one read of a source brought.

    :ivar changes: the numbers of which the source says something else than before; that it lists them no more, or
        again, included.
    :ivar parts: transactions in which anything was recorded.
    """

    new: int
    changes: Sequence[int]
    parts: int = 0

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


def record_listing(
    ledger: Ledger, source: str, records: Sequence[RunRecord], now: datetime, identity: str | None = None
) -> Recorded:
    """As :func:`record_runs` of all that a source lists, in parts, so that nobody waits long to write.

    What differs is found, and hashed, while others write; a death between two parts leaves the rest to the next read.

    :param identity: of what was read: as long as the source has it, it need not be read again.
    """
    digests = {record.number: content_hash(record) for record in records}
    with ledger.read() as connection:
        known, serial = _known(connection, source), serial_of(connection, source)
    news = [record for record in records if record.number not in known or _differs(known[record.number], digests)]
    done = _record_parts(ledger, source, news, now, digests, listed=True)
    changed, serial = set(done.changes), serial + done.parts
    shown = [number for number, row in known.items() if number in digests and row.listed is not True]
    gone = [number for number, row in known.items() if number not in digests and row.listed]
    for numbers, value in ((shown, True), (gone, False)):
        for begin in range(0, len(numbers), AT_ONCE):
            with ledger.write() as connection:
                changed.update(_note_listed(connection, source, numbers[begin : begin + AT_ONCE], value))
            serial += 1
    _note_read(ledger, source, identity, serial)
    return Recorded(done.new, sorted(changed))


def record_news(ledger: Ledger, source: str, records: Sequence[RunRecord], now: datetime) -> Recorded:
    """As :func:`record_listing` of runs that a source lists beside others, which it was not asked for."""
    digests = {record.number: content_hash(record) for record in records}
    known: dict[int, Any] = {}
    with ledger.read() as connection:
        for begin in range(0, len(records), AT_ONCE):
            numbers = [record.number for record in records[begin : begin + AT_ONCE]]
            known |= _known(connection, source, numbers)
    news = [record for record in records if record.number not in known or _differs(known[record.number], digests)]
    done = _record_parts(ledger, source, news, now, digests, listed=True)
    changed = set(done.changes)
    shown = [number for number, row in known.items() if row.listed is not True]
    for begin in range(0, len(shown), AT_ONCE):
        with ledger.write() as connection:
            changed.update(_note_listed(connection, source, shown[begin : begin + AT_ONCE], True))
    return Recorded(done.new, sorted(changed))


def record_by_hand(ledger: Ledger, source: str, records: Sequence[RunRecord], now: datetime) -> Recorded:
    """As :func:`record_runs` of runs that a person lists, in parts."""
    return _record_parts(ledger, source, records, now, {}, listed=False)


def _record_parts(
    ledger: Ledger,
    source: str,
    records: Sequence[RunRecord],
    now: datetime,
    digests: Mapping[int, str],
    *,
    listed: bool,
) -> Recorded:
    new, changed, parts = 0, set[int](), 0
    for begin in range(0, len(records), AT_ONCE):
        with ledger.write() as connection:
            part = records[begin : begin + AT_ONCE]
            done = record_runs(connection, source, part, now, complete=False, listed=listed, digests=digests)
        new, changed, parts = new + done.new, changed | set(done.changes), parts + bool(done.new or done.changes)
    return Recorded(new, sorted(changed), parts)


def is_as_read(connection: Connection, source: str, identity: str | None) -> bool:
    """Whether the ledger knows all that a source lists, since it is what it was when it was read last."""
    table = tables.run_source
    query = select(table.c.name).where(table.c.name == source, table.c.identity == identity)
    return identity is not None and connection.execute(query).first() is not None


def serial_of(connection: Connection, source: str) -> int:
    """A number that grows with all that is recorded of the runs of a source."""
    table = tables.run_source
    return connection.execute(select(table.c.serial).where(table.c.name == source)).scalar() or 0


def _note_news(connection: Connection, source: str) -> None:
    """Something of a source's runs was recorded. What it lists is not known to be so any more."""
    table = tables.run_source
    counted = update(table).where(table.c.name == source).values(serial=table.c.serial + 1, identity=None)
    if connection.execute(counted).rowcount == 0:
        connection.execute(insert(table).values(name=source, serial=1, identity=None))


def _note_read(ledger: Ledger, source: str, identity: str | None, serial: int) -> None:
    """All that a source lists is recorded, unless somebody has recorded anything else of it meanwhile."""
    table = tables.run_source
    query = select(table.c.serial, table.c.identity).where(table.c.name == source)
    with ledger.read() as connection:
        known = connection.execute(query).first()
    if (known.identity if known else None) == identity:
        return
    with ledger.write() as connection:
        known = connection.execute(query).first()
        if known is None and serial == 0:
            connection.execute(insert(table).values(name=source, serial=0, identity=identity))
        elif known is not None and known.serial == serial:
            connection.execute(update(table).where(table.c.name == source).values(identity=identity))


def at_the_horizon(
    connection: Connection, source: str, settled_before: datetime | None, campaign: str | None
) -> list[tuple[int, bool, datetime | None, datetime | None]]:
    """The listed runs of a source that decide how far runs are assigned: number, completed, start and end of each.

    Those are the ones that are not completed, or have ended too recently, and the highest of all others.

    :param campaign: only the runs of this one, which is finite.
    """
    run, listed = tables.run, tables.campaign_run
    here: tuple[ColumnElement[bool], ...] = (run.c.source == source, run.c.listed)
    if campaign is not None:
        named = (listed.c.campaign == campaign, listed.c.source == source, listed.c.run == run.c.number)
        here = (*here, exists().where(*named))
    settling = false() if settled_before is None else and_(run.c.end.is_not(None), run.c.end > settled_before)
    columns = (run.c.number, run.c.completed, run.c.start, run.c.end)
    rows = connection.execute(select(*columns).where(*here, or_(~run.c.completed, settling))).all()
    highest = connection.execute(select(func.max(run.c.number)).where(*here, run.c.completed, ~settling)).scalar()
    found = [(row.number, row.completed, row.start, row.end) for row in rows]
    return found if highest is None else [*found, (highest, True, None, None)]


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
    known = _known(connection, source, None if complete else digests, digests)
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
    append_events(connection, events)
    changes = {event["subject"].run for event in events}
    if complete:
        shown = [number for number, row in known.items() if number in digests and row.listed is not True]
        gone = [number for number, row in known.items() if number not in digests and row.listed]
        changes.update(_note_listed(connection, source, shown, True), _note_listed(connection, source, gone, False))
    if new or events:
        _note_news(connection, source)
    return Recorded(len(new), sorted(changes))


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


def _note_listed(connection: Connection, source: str, numbers: Sequence[int], value: bool) -> list[int]:
    """Note that a complete read lists known runs, or lists them no more.

    :returns: those of which that is news, with an event each; not those that were added by hand.
    """
    if not numbers:
        return []
    run = tables.run
    told: list[int] = []
    for begin in range(0, len(numbers), AT_ONCE):
        here = (run.c.source == source, tables.one_of(run.c.number, numbers[begin : begin + AT_ONCE]))
        told += connection.execute(select(run.c.number).where(*here, run.c.listed.is_(not value))).scalars().all()
        connection.execute(update(run).where(*here).values(listed=value))
    append_events(connection, [_event(source, number, {"listed": [not value, value]}) for number in told])
    _note_news(connection, source)
    return told


def _known(
    connection: Connection, source: str, numbers: Iterable[int] | None = None, digests: Mapping[int, str] | None = None
) -> dict[int, Any]:
    """What is stored of these runs, or of all: the whole row where something has changed, else the hash alone.

    :param digests: what the hashes are now; ``None``: nobody asks what has changed.
    """
    run = tables.run
    query = select(run.c.number, run.c.content_hash, run.c.listed).where(run.c.source == source)
    if numbers is not None:
        query = query.where(tables.one_of(run.c.number, numbers))
    known: dict[int, Any] = {row.number: row for row in connection.execute(query)}
    changed = [number for number, row in known.items() if digests is not None and _differs(row, digests)]
    if changed:
        full = select(run).where(run.c.source == source, tables.one_of(run.c.number, changed))
        known.update((row.number, row) for row in connection.execute(full))
    return known


def _differs(row: Any, digests: Mapping[int, str]) -> bool:
    return bool(digests.get(row.number, row.content_hash) != row.content_hash)


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


def runs_numbered(connection: Connection, number: int) -> list[Run]:
    """The runs of a number: one of each source that has it."""
    query = select_of(Run, tables.run).where(tables.run.c.number == number)
    return read_rows(connection, query.order_by(tables.run.c.source), Run)


def is_any_known(connection: Connection) -> bool:
    """Whether the ledger has a run of any source."""
    return connection.execute(select(tables.run.c.number).limit(1)).first() is not None
