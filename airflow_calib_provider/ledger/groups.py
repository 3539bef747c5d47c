"""Groups in the ledger: storing what :mod:`.grouping` decided, with the tasks and locks of each group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    select,
    update,
)

from airflow_calib_provider.domain.grouping import GroupDraft
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.kinds import NEEDS
from airflow_calib_provider.ledger import publication_deadlines, tables
from airflow_calib_provider.ledger.bulk import insert_rows
from airflow_calib_provider.ledger.rows import Group, GroupTask, first_row, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import Task, Workflow
from airflow_calib_provider.spec.problems import nearest

UNFINISHED = ("new", "waiting")
_OF_RUNS = ("last_run", "amounts", "fills", "start", "end", "marks")
"""Columns of a group that follow from its runs."""
_NEAR = 5
"""How many groups the hint of an unknown one names."""
UNBEGUN = (*UNFINISHED, "failed")
"""States from which a task starts anew, with what the spec says then."""


def group_name(grouping: str, first_run: int) -> str:
    """Rule 4: nothing depends on the group's end, or on later fills."""
    return f"{grouping}-r{first_run}"


def store(
    connection: Connection, campaign: str, workflow: Workflow, drafts: Sequence[GroupDraft], now: datetime
) -> None:
    """Write new groups with their tasks and locks, and what changed of the forming one. Fills in ``draft.id``."""
    new = [draft for draft in drafts if draft.id is None]
    grown = [draft for draft in drafts if draft.id is not None and (draft.added or draft.state != "forming")]
    for grouping in sorted({draft.policy.label for draft in new}):
        _insert(
            connection, campaign, workflow, grouping, [draft for draft in new if draft.policy.label == grouping], now
        )
    ended = [draft for draft in new if draft.state != "forming"]
    moves = [_update(campaign, workflow.name, draft, now, {"runs": draft.added}) for draft in grown]
    moves += [_update(campaign, workflow.name, draft, now, {}) for draft in ended]
    move(connection, tables.run_group, moves)
    dropped = [draft.id for draft in drafts if draft.state == "dropped" and draft.id is not None]
    _skip_tasks(connection, dropped, {"code": "dropped"}, now)


def _columns(draft: GroupDraft, now: datetime | None) -> dict[str, object]:
    return {
        "last_run": draft.last_run,
        "amounts": draft.amounts,
        "fills": draft.fills,
        "start": draft.start,
        "end": draft.end,
        "closed_at": None if draft.state == "forming" else now,
        "close_reason": draft.close_reason,
        "marks": draft.marks or None,
    }


def _subject(campaign: str, workflow: str, draft: GroupDraft) -> Subject:
    name = group_name(draft.policy.label, draft.first_run)
    return Subject(campaign=campaign, workflow=workflow, group_name=name)


def _insert(
    connection: Connection,
    campaign: str,
    workflow: Workflow,
    grouping: str,
    drafts: Sequence[GroupDraft],
    now: datetime,
) -> None:
    table = tables.run_group
    here = {"campaign": campaign, "workflow": workflow.name, "grouping": grouping}
    # Most have the very same one.
    policies = {
        id(one): one.rules.stored(one).model_dump(mode="json")
        for one in {id(one.policy): one.policy for one in drafts}.values()
    }
    subjects = {draft.first_run: _subject(campaign, workflow.name, draft) for draft in drafts}
    moves = [
        Move(
            {**here, "first_run": draft.first_run},
            None,
            "forming",
            subjects[draft.first_run],
            {
                **_columns(draft, now),
                "name": subjects[draft.first_run].group_name,
                "policy": policies[id(draft.policy)],
                "opened_at": now,
                "closed_at": None,
                "close_reason": None,
                "opening": "queued",
                "late": draft.late,
                "open_reason": draft.open_reason,
            },
            {"runs": draft.added, **_started(draft), **({"late": True} if draft.late else {})},
        )
        for draft in drafts
    ]
    move(connection, table, moves)
    rows = connection.execute(
        select(table.c.id, table.c.first_run).where(
            *(table.c[column] == value for column, value in here.items()), tables.one_of(table.c.first_run, subjects)
        )
    ).all()
    ids = {row.first_run: row.id for row in rows}
    for draft in drafts:
        draft.id = ids[draft.first_run]
    tasks = workflow.tasks_of(grouping)
    add_tasks(connection, workflow, [(ids[run], subject, tasks) for run, subject in subjects.items()], now)


def store_less(
    connection: Connection, campaign: str, workflow: str, draft: GroupDraft, gone: Sequence[int], reason: Reason
) -> None:
    """Write a group that is forming with the runs that are left to it.

    :param gone: the others, about which somebody decides anew.
    """
    columns = {name: value for name, value in _columns(draft, None).items() if name in _OF_RUNS}
    said = {"runs": [], "removed": list(gone), "reason": reason, **_started(draft)}
    subject = _subject(campaign, workflow, draft)
    move(connection, tables.run_group, [Move({"id": draft.id}, "forming", "forming", subject, columns, said)])


def _started(draft: GroupDraft) -> dict[str, object]:
    """What an event says of the time of a group's data."""
    return {"start": draft.start.isoformat() if draft.start else None}


def _update(campaign: str, workflow: str, draft: GroupDraft, now: datetime, data: Mapping[str, object]) -> Move:
    said = {**data, **_started(draft), **({"reason": draft.close_reason} if draft.close_reason else {})}
    subject = _subject(campaign, workflow, draft)
    return Move({"id": draft.id}, "forming", draft.state, subject, _columns(draft, now), said)


def _skip_tasks(connection: Connection, group_ids: Sequence[int], reason: Mapping[str, object], now: datetime) -> None:
    if not group_ids:
        return
    table = tables.group_task
    rows = connection.execute(
        select(table.c.group_id, table.c.task).where(
            tables.one_of(table.c.group_id, group_ids), table.c.state.in_(UNFINISHED)
        )
    ).all()
    change_tasks(connection, [TaskChange(row.group_id, row.task, "skipped", reason) for row in rows], now)


def drop_members(
    connection: Connection, campaign: str, workflow: str, group_ids: Sequence[int], limit: int | None = None
) -> int:
    """The runs of dropped groups are in no group any more; the ledger remembers which one it was.

    :param limit: only so many of them.
    :returns: how many were left.
    """
    if not group_ids:
        return 0
    member, group = tables.membership, tables.run_group
    rows = connection.execute(
        select(member.c.grouping, member.c.run, group.c.name)
        .join(group, group.c.id == member.c.group_id)
        .where(tables.one_of(member.c.group_id, group_ids), member.c.state == "grouped")
        .limit(limit)
    ).all()
    reason = {"code": "dropped"}
    moves = [
        Move(
            {"campaign": campaign, "workflow": workflow, "grouping": row.grouping, "run": row.run},
            "grouped",
            "dropped",
            Subject(campaign=campaign, workflow=workflow, run=row.run, group_name=row.name),
            {"reason": reason},
            {"reason": reason},
        )
        for row in rows
    ]
    move(connection, member, moves)
    return len(rows)


def add_tasks(
    connection: Connection,
    workflow: Workflow,
    wanted: Sequence[tuple[int, Subject, Sequence[Task]]],
    now: datetime,
) -> None:
    """Write the rows of these tasks of groups, and their locks.

    :param wanted: for each group its id, whom its events are about, and the tasks.
    """
    columns = {
        task.name: {**columns_of_spec(workflow, task), "reason": None, "since": now, "looked_at": None}
        for task in {task.name: task for _, _, tasks in wanted for task in tasks}.values()
    }
    moves = [
        Move(
            {"group_id": group_id, "task": task.name},
            None,
            "new",
            Subject(about.campaign, about.workflow, task.name, about.group_name),
            columns[task.name],
        )
        for group_id, about, tasks in wanted
        for task in tasks
    ]
    move(connection, tables.group_task, moves)
    add_locks(connection, workflow, [(group_id, task) for group_id, _, tasks in wanted for task in tasks])
    publication_deadlines.declare(connection, wanted)


def columns_of_spec(workflow: Workflow, task: Task) -> dict[str, object]:
    """What the row of a group's task says of the spec."""
    return {
        "position": list(workflow.tasks).index(task.name),
        "kind": "jobs" if task.jobs else "publish",
        "is_root": not workflow.inside_needs(task),
        "spec_hash": workflow.hash,
        "after": workflow.names_inside(task),
    }


def add_locks(connection: Connection, workflow: Workflow, wanted: Sequence[tuple[int, Task]]) -> None:
    """Write the locks of tasks of groups, each with the group's id."""
    of_task = {task.name: _locks(workflow, task) for _, task in wanted}
    rows = [{"group_id": group_id, "task": task.name, **row} for group_id, task in wanted for row in of_task[task.name]]
    insert_rows(connection, tables.lock, rows)


def _locks(workflow: Workflow, task: Task) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for need in workflow.outside_needs(task):
        grouping = workflow.tasks[need.task].policy.label if need.workflow == workflow.name else need.grouping
        parameters = {"workflow": need.workflow, "grouping": grouping, "task": need.task}
        if (base := workflow.base_of(need)) is not None:
            parameters["campaign"] = base
        rows.append({"kind": NEEDS, "parameters": parameters, "choice": None, "limits": None})
    for item in task.locks:
        choice = len(rows) if item.alternatives else None
        rows += [
            {"kind": leaf.kind, "parameters": dict(leaf.parameters), "choice": choice, "limits": item.limits or None}
            for leaf in item.leaves()
        ]
    return [{"position": position, "deadline": None, **row} for position, row in enumerate(rows)]


def ensure_task(connection: Connection, workflow: Workflow, group_id: int, task: Task, now: datetime) -> None:
    """Write the row of a task that was added to the spec after its group was opened, and runs there nevertheless."""
    if not has_task(connection, group_id, task.name):
        row = group_by_id(connection, group_id)
        subject = Subject(campaign=row.campaign, workflow=row.workflow, group_name=row.name)
        add_tasks(connection, workflow, [(group_id, subject, [task])], now)


def has_task(connection: Connection, group_id: int, task: str) -> bool:
    """Whether the group has a row for this task."""
    table = tables.group_task
    here = (table.c.group_id == group_id, table.c.task == task)
    return connection.execute(select(table.c.task).where(*here)).first() is not None


@dataclass(frozen=True)
class TaskChange:
    """A task of a group that is to get a state and a reason."""

    group_id: int
    task: str
    target: str
    reason: Mapping[str, object] | None


def change_tasks(
    connection: Connection, changes: Sequence[TaskChange], now: datetime, *, only: Sequence[str] | None = None
) -> None:
    """Give tasks of groups their new states by one statement. What is as wanted, or not in ``only``, stays as it is."""
    if not changes:
        return
    table, group = tables.group_task, tables.run_group
    wanted = {(change.group_id, change.task): change for change in changes}
    rows = connection.execute(
        select(table, group.c.campaign, group.c.workflow, group.c.name)
        .join(group, group.c.id == table.c.group_id)
        .where(tables.one_of(table.c.group_id, {change.group_id for change in changes}))
    ).all()
    moves = []
    for row in rows:
        change = wanted.get((row.group_id, row.task))
        if change is None or (only is not None and row.state not in only):
            continue
        subject = Subject(campaign=row.campaign, workflow=row.workflow, task=row.task, group_name=row.name)
        moves += _task_moves(row, subject, change, now)
    move(connection, table, moves)


def change_task(connection: Connection, group: Group, row: GroupTask, change: TaskChange, now: datetime) -> None:
    """As :func:`change_tasks`, of one whose row was read in this transaction."""
    subject = Subject(group.campaign, group.workflow, row.task, group.name)
    move(connection, tables.group_task, _task_moves(row, subject, change, now))


def _task_moves(row: Any, subject: Subject, change: TaskChange, now: datetime) -> list[Move]:
    """None, if it is as wanted."""
    if row.state == change.target and row.reason == change.reason:
        return []
    since = row.since if row.state == change.target else now
    columns = {"reason": change.reason, "since": since, "looked_at": now}
    key = {"group_id": row.group_id, "task": row.task}
    return [Move(key, row.state, change.target, subject, columns, {"reason": change.reason})]


def set_task_states(
    connection: Connection,
    group_id: int,
    target: str,
    reason: Mapping[str, object] | None,
    now: datetime,
    *,
    task: str | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Move one task of a group, or all, to a state. Rows outside ``only`` stay as they are."""
    table = tables.group_task
    names = [task]
    if task is None:
        names = list(connection.execute(select(table.c.task).where(table.c.group_id == group_id)).scalars())
    change_tasks(connection, [TaskChange(group_id, name, target, reason) for name in names if name], now, only=only)


def touch_looked_at(connection: Connection, group_ids: Iterable[int], now: datetime) -> None:
    """Note that somebody looked at what these groups wait for, without an event: nothing changed."""
    table = tables.group_task
    here = (tables.one_of(table.c.group_id, group_ids), table.c.state == "waiting")
    connection.execute(update(table).where(*here).values(looked_at=now))


def no_group(connection: Connection, campaign: str, name: str, of: str = "") -> NotFound:
    """That a campaign has no group of this name, with those that are meant by a run's number or nearly this name.

    :param of: what more was asked of the group.
    """
    group, member = tables.run_group, tables.membership
    query = select(group.c.name).where(group.c.campaign == campaign).limit(_NEAR)
    if re.fullmatch(r"[0-9]{1,15}", name):
        query = query.join(member, member.c.group_id == group.c.id).order_by(group.c.workflow, group.c.first_run)
        query = query.where(member.c.campaign == campaign, member.c.run == int(name), member.c.state == "grouped")
        said = "the run {} is in {}; "
    else:
        likely = name.lower(), re.sub(r"-r?(?=[0-9]+$)", "-r", name.lower())
        query, said = query.where(group.c.name.in_(likely)), "did you mean {1!r}? "
    near = dict.fromkeys(connection.execute(query).scalars())
    hint = said.format(name, ", ".join(near)) if near else ""
    return NotFound(f"the campaign {campaign} has no group {name}{of}", f"{hint}`calib groups` lists them")


def find_group(connection: Connection, campaign: str, workflow: str | None, name: str) -> Group:
    """The one group of this name in a campaign.

    :raises NotFound: there is none, or several workflows have one and none was named.
    """
    table = tables.run_group
    query = select_of(Group, table).where(table.c.campaign == campaign, table.c.name == name)
    if workflow is not None:
        query = query.where(table.c.workflow == workflow)
    found = read_rows(connection, query, Group)
    if not found:
        raise no_group(connection, campaign, name)
    if len(found) > 1:
        listed = ", ".join(sorted(row.workflow for row in found))
        raise NotFound(f"several workflows have a group {name}: {listed}", "name one with --workflow")
    return found[0]


def task_of(connection: Connection, group: Group, task: str) -> GroupTask:
    """A group's task.

    :raises NotFound: the group has none of this name.
    """
    table = tables.group_task
    query = select_of(GroupTask, table).where(table.c.group_id == group.id).order_by(table.c.position)
    found = read_rows(connection, query, GroupTask)
    for row in found:
        if row.task == task:
            return row
    hint = nearest(task, [row.task for row in found])
    listed = f"it has {', '.join(row.task for row in found)}" if found else "it has none"
    raise NotFound(f"the group {group.name} has no task {task}", f"{hint} {listed}".strip())


def group_by_id(connection: Connection, group_id: int) -> Group:
    """A group.

    :raises NotFound: there is none.
    """
    query = select_of(Group, tables.run_group).where(tables.run_group.c.id == group_id)
    row = first_row(connection, query, Group)
    if row is None:
        raise NotFound(f"there is no group with the id {group_id}")
    return row
