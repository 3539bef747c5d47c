"""Groups after an edit of their spec: what is left to do in them follows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, delete, exists, or_, select, update

from airflow_calib_provider.domain.locks.deadlines import WAITING, Limits
from airflow_calib_provider.ledger import publication_deadlines, tables
from airflow_calib_provider.ledger.groups import UNBEGUN, add_locks, add_tasks, columns_of_spec
from airflow_calib_provider.ledger.rows import EditedTask, read_rows
from airflow_calib_provider.ledger.transitions import Subject, append_events
from airflow_calib_provider.spec.models import Task, Workflow

lock = tables.lock

_LockKey = tuple[int, str, str, str]
"""A lock by group, task, kind and parameters."""


class _Clock(NamedTuple):
    """From when on a lock's deadline counts.

    :ivar amended: as its group was amended then, and not as the wait began.
    """

    since: datetime
    amended: bool


AT_ONCE = 500
"""Groups that follow an edit of their spec in one transaction."""


@dataclass(frozen=True)
class Followed:
    """How far an edit of a spec was followed.

    :ivar last: the id of the last group that was treated; ``None``: there is no further one.
    :ivar left: whether a task is left that an older text wrote, as it runs now, or ran and is in the spec no more.
    """

    last: int | None
    left: bool


def sync_tasks(connection: Connection, campaign: str, workflow: Workflow, now: datetime, after: int = 0) -> Followed:
    """After an edit of the spec, let groups wait for what it says now (rule 11: their runs and policy stay).

    Tasks that are not running or done get the new locks; tasks that the spec no longer has are taken out of the groups
    where they never ran; new tasks are added to groups that have anything left to do. Groups of a grouping that the
    spec no longer has stay as they are: taking them out in silence would lose their runs.

    :param after: the id of a group, behind which the next ones are treated.
    """
    table = tables.group_task
    wanted = {grouping: {task.name: task for task in workflow.tasks_of(grouping)} for grouping in workflow.groupings()}
    removed, edited = [], []
    events: list[tuple[Subject, str, str | None]] = []
    added: list[tuple[int, Subject, Sequence[Task]]] = []
    edits = _edited_groups(connection, campaign, workflow, after)
    for rows in edits.values():
        first, tasks = rows[0], wanted[rows[0].grouping]
        subject = Subject(campaign=campaign, workflow=workflow.name, group_name=first.name)
        missing = [task for name, task in tasks.items() if name not in {row.task for row in rows}]
        old = [row for row in rows if row.state in UNBEGUN and row.spec_hash != workflow.hash]
        gone = [row for row in old if row.task not in tasks and not row.begun]
        stay = [row for row in old if row.task in tasks]
        added += [(first.group_id, subject, missing)] if missing else []
        removed += [{"key_group_id": row.group_id, "key_task": row.task} for row in gone]
        edited += [(row.group_id, tasks[row.task]) for row in stay]
        events += [(replace(subject, task=row.task), row.state, None) for row in gone]
        events += [(replace(subject, task=row.task), row.state, row.state) for row in stay]
    clocks = _clocks(connection, [group_id for group_id, _ in edited])
    _delete_locks(connection, [*removed, *({"key_group_id": i, "key_task": task.name} for i, task in edited)])
    if removed:
        connection.execute(delete(table).where(*_key(table)), removed)
    if edited:
        columns = [
            {f"new_{name}": value for name, value in columns_of_spec(workflow, task).items()} for _, task in edited
        ]
        values: dict[str, object] = {name.removeprefix("new_"): bindparam(name) for name in columns[0]}
        keys = [{"key_group_id": group_id, "key_task": task.name} for group_id, task in edited]
        statement = update(table).where(*_key(table)).values(values)
        connection.execute(statement, [{**key, **row} for key, row in zip(keys, columns, strict=True)])
        add_locks(connection, workflow, edited)
        _go_on(connection, clocks)
        publication_deadlines.follow(connection, edited)
    add_tasks(connection, workflow, added, now)
    data = {"spec_hash": workflow.hash}
    append_events(
        connection,
        [
            {"entity": "group_task", "subject": subject, "from_state": before, "to_state": after, "data": data}
            for subject, before, after in events
        ],
    )
    older = [row for rows in edits.values() for row in rows if row.spec_hash != workflow.hash]
    awaited = sum(row.state in (*UNBEGUN, "processing") for row in older)
    return Followed(max(edits, default=None) if len(edits) >= AT_ONCE else None, awaited > len(removed) + len(edited))


def _key(table: Table) -> tuple[ColumnElement[bool], ...]:
    return table.c.group_id == bindparam("key_group_id"), table.c.task == bindparam("key_task")


def _delete_locks(connection: Connection, keys: Sequence[Mapping[str, object]]) -> None:
    if keys:
        connection.execute(delete(tables.lock).where(*_key(tables.lock)), keys)


def _clocks(connection: Connection, group_ids: Sequence[int]) -> dict[_LockKey, _Clock]:
    """Since when locks have been waited for, whose deadlines count from then, or are of an amended group."""
    found = {}
    for row in connection.execute(_limited(group_ids).where(lock.c.deadline.is_not(None))):
        limits = Limits.of_json(row.limits)
        found[_lock_key(row)] = _Clock(row.deadline - limits.at_most, limits.since != WAITING)
    return found


def _go_on(connection: Connection, clocks: Mapping[_LockKey, _Clock]) -> None:
    """Let them have been so since then: an edit of the file is no reason to wait anew for the same."""
    if not clocks:
        return
    for row in connection.execute(_limited({key[0] for key in clocks})).all():
        limits, clock = Limits.of_json(row.limits), clocks.get(_lock_key(row))
        if clock is not None and (clock.amended or limits.since == WAITING):
            own = (lock.c.group_id == row.group_id, lock.c.task == row.task, lock.c.position == row.position)
            connection.execute(update(lock).where(*own).values(deadline=clock.since + limits.at_most))


def _limited(group_ids: Iterable[int]) -> Select[Any]:
    columns = (lock.c.group_id, lock.c.task, lock.c.position, lock.c.kind, lock.c.parameters, lock.c.limits)
    here = (tables.one_of(lock.c.group_id, group_ids), lock.c.limits.is_not(None))
    return select(*columns, lock.c.deadline).where(*here)


def _lock_key(row: Any) -> _LockKey:
    return row.group_id, row.task, row.kind, json.dumps(row.parameters, sort_keys=True)


def _edited_groups(
    connection: Connection, campaign: str, workflow: Workflow, after: int
) -> dict[int, list[EditedTask]]:
    """All task rows of the next groups in which something is left to do that an older text of the spec wrote."""
    table, group = tables.group_task, tables.run_group
    old = table.alias("old")
    stale = (
        select(old.c.group_id)
        .join(group, group.c.id == old.c.group_id)
        .where(
            group.c.campaign == campaign,
            group.c.workflow == workflow.name,
            group.c.grouping.in_(list(workflow.groupings())),
            old.c.state.in_([*UNBEGUN, "processing"]),
            old.c.spec_hash != workflow.hash,
            group.c.id > after,
        )
        .distinct()
        .order_by(old.c.group_id)
        .limit(AT_ONCE)
        .subquery()
    )
    ran, published = tables.generation, tables.payload
    begun = or_(
        exists().where(ran.c.group_id == table.c.group_id, ran.c.task == table.c.task),
        exists().where(published.c.group_id == table.c.group_id, published.c.task == table.c.task),
    )
    columns = (table.c.group_id, table.c.task, table.c.state, table.c.spec_hash, group.c.name, group.c.grouping)
    query = (
        select(*columns, begun.label("begun"))
        .join(group, group.c.id == table.c.group_id)
        .where(table.c.group_id.in_(select(stale.c.group_id)))
        .order_by(table.c.group_id, table.c.position)
    )
    result: dict[int, list[EditedTask]] = {}
    for row in read_rows(connection, query, EditedTask):
        result.setdefault(row.group_id, []).append(row)
    return result
