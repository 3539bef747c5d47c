"""When locks opened whose answers come from outside: by the waits that the ledger has recorded of their groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import KindError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.asking import may_ask_outside
from airflow_calib_provider.ledger.rows import Event, read_rows, select_of
from airflow_calib_provider.mirror.history import DeadlineChange, GroupHistory, LockChange
from airflow_calib_provider.spec.kinds import lock_kind

lock, group, group_task, event = tables.lock, tables.run_group, tables.group_task, tables.event

AT_ONCE = 400
"""Groups that are named in one statement."""

_BEGUN = ("processing", "done")


@dataclass(frozen=True)
class RecordedLock:
    """How a lock of a group stood.

    :ivar opened_at: ``None``: it is shut, or did not open in time, as :attr:`why` says.
    """

    kind: str
    parameters: Mapping[str, Any]
    opened_at: datetime | None
    why: str = ""


@dataclass
class _Waits:
    """What a task of a group has waited for, by the names of locks.

    :ivar ended: how a wait ended, and when.
    :ivar passed: locks that were shut when their deadline had passed.
    """

    waiting: set[str] = field(default_factory=set)
    ended: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

    def note(self, change: LockChange | DeadlineChange, at: datetime) -> None:
        if isinstance(change, DeadlineChange):
            if change.state == "passed":
                self.passed.add(change.lock)
            return
        name = change.awaited.name
        if change.state == "waiting":
            self.waiting.add(name)
            self.passed.discard(name)
        else:
            self.waiting.discard(name)
            self.ended[name] = (change.state, at)


def recorded_locks(
    connection: Connection, campaign: str, group_ids: Collection[int]
) -> dict[tuple[int, str], list[RecordedLock]]:
    """Group and task → how its locks stood, of those that are asked outside, as far as the ledger knows.

    A task that has begun, and never waited for a lock, found it open when its group was closed.
    """
    found: dict[tuple[int, str], list[RecordedLock]] = defaultdict(list)
    ids = sorted(group_ids)
    for begin in range(0, len(ids), AT_ONCE):
        rows = connection.execute(_LOCKS.where(tables.one_of(lock.c.group_id, ids[begin : begin + AT_ONCE]))).all()
        waits = _waits(connection, campaign, rows)
        for row in rows:
            if (one := _recorded(row, waits.get((row.workflow, row.name, row.task), _Waits()))) is not None:
                found[row.group_id, row.task].append(one)
    return found


_LOCKS = (
    select(lock.c.group_id, lock.c.task, lock.c.kind, lock.c.parameters)
    .add_columns(group.c.workflow, group.c.name, group.c.closed_at, group_task.c.state)
    .join(group, group.c.id == lock.c.group_id)
    .join(group_task, (group_task.c.group_id == lock.c.group_id) & (group_task.c.task == lock.c.task))
    .where(may_ask_outside(), group.c.state == "closed", group.c.edition == 1)
)
"""Of an amended group a task waits anew: what it waited for first is not to be told from that."""


def _waits(connection: Connection, campaign: str, rows: Collection[Any]) -> dict[tuple[str, str, str], _Waits]:
    """Workflow, group and task → what it has waited for."""
    found: dict[tuple[str, str, str], _Waits] = defaultdict(_Waits)
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        names[row.workflow].add(row.name)
    for workflow, wanted in names.items():
        histories: dict[str, GroupHistory] = defaultdict(GroupHistory)
        for told in _events(connection, campaign, workflow, wanted):
            if told.group_name is None or told.task is None:
                continue
            at = datetime.fromtimestamp(told.at / 1e9, UTC)
            for change in histories[told.group_name].apply(told):
                found[workflow, told.group_name, told.task].note(change, at)
    return found


def _events(connection: Connection, campaign: str, workflow: str, names: Collection[str]) -> Iterator[Event]:
    here = (event.c.campaign == campaign, event.c.workflow == workflow, event.c.group_name.in_(sorted(names)))
    query = select_of(Event, event).where(*here, tables.GROUP_HISTORY, event.c.entity == group_task.name)
    yield from read_rows(connection, query.order_by(event.c.id), Event)


def _recorded(row: Any, waits: _Waits) -> RecordedLock | None:
    try:
        kind = lock_kind(row.kind)
    except KindError:
        return None
    name = f"{kind.name} {kind.words(row.parameters)}"
    if name in waits.waiting:
        return RecordedLock(row.kind, row.parameters, None, "its group waits for it still")
    if name in waits.ended:
        state, at = waits.ended[name]
        if name in waits.passed:
            return RecordedLock(row.kind, row.parameters, None, "its deadline passed while it was shut")
        return RecordedLock(row.kind, row.parameters, at) if state == "open" else None
    return RecordedLock(row.kind, row.parameters, row.closed_at) if row.state in _BEGUN else None
