"""Groups in the ledger: storing what :mod:`.grouping` decided, with the tasks and locks of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.grouping import GroupDraft
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move
from airflow_calib_provider.spec.models import Grouping, Task, Workflow

UNFINISHED = ("new", "waiting")


def group_name(label: str, first_run: int) -> str:
    """Rule 4: nothing depends on the group's end, or on later fills."""
    return f"{label}-r{first_run}"


def forming_group(connection: Connection, campaign: str, workflow: str, label: str) -> GroupDraft | None:
    """The group that still takes runs, as :func:`~airflow_calib_provider.ledger.grouping.assign` wants it."""
    table = tables.run_group
    row = connection.execute(
        select(table).where(
            table.c.campaign == campaign,
            table.c.workflow == workflow,
            table.c.grouping == label,
            table.c.state == "forming",
        )
    ).first()
    if row is None:
        return None
    members = connection.execute(
        select(tables.membership.c.run).where(
            tables.membership.c.group_id == row.id, tables.membership.c.state == "grouped"
        )
    ).all()
    return GroupDraft(
        policy=Grouping.model_validate_json(row.policy["json"]),
        id=row.id,
        first_run=row.first_run,
        last_run=row.last_run,
        n_runs=len(members),
        start=row.start,
        end=row.end,
        amounts=dict(row.amounts),
        fills=list(row.fills),
    )


def store(connection: Connection, campaign: str, workflow: Workflow, drafts: Sequence[GroupDraft], at: datetime) -> None:
    """Write new groups with their tasks and locks, and what changed of the forming one. Fills in ``draft.id``."""
    for draft in drafts:
        if draft.id is None:
            _insert(connection, campaign, workflow, draft, at)
        elif draft.added or draft.state != "forming":
            _update(connection, campaign, workflow, draft, at)


def _columns(draft: GroupDraft, at: datetime) -> dict[str, Any]:
    return {
        "last_run": draft.last_run,
        "amounts": draft.amounts,
        "fills": draft.fills,
        "start": draft.start,
        "end": draft.end,
        "closed_at": None if draft.state == "forming" else at,
        "close_reason": draft.close_reason,
    }


def _insert(connection: Connection, campaign: str, workflow: Workflow, draft: GroupDraft, at: datetime) -> None:
    label = draft.policy.label
    name = group_name(label, draft.first_run)
    subject = Subject(campaign=campaign, workflow=workflow.name, group_name=name)
    key = {"campaign": campaign, "workflow": workflow.name, "grouping": label, "first_run": draft.first_run}
    columns = {
        **_columns(draft, at),
        "name": name,
        "policy": {"json": draft.policy.model_dump_json()},
        "opened_at": at,
    }
    data = {"runs": draft.added}
    opened = Move(key, None, "forming", subject, {**columns, "closed_at": None, "close_reason": None}, data)
    move(connection, tables.run_group, [opened])
    table = tables.run_group
    draft.id = connection.execute(
        select(table.c.id).where(*(table.c[column] == value for column, value in key.items()))
    ).scalar_one()
    add_tasks(connection, draft.id, subject, workflow, workflow.tasks_of(label), at)
    if draft.state != "forming":
        _end(connection, draft, subject, at, data={})


def _update(connection: Connection, campaign: str, workflow: Workflow, draft: GroupDraft, at: datetime) -> None:
    assert draft.id is not None
    name = group_name(draft.policy.label, draft.first_run)
    subject = Subject(campaign=campaign, workflow=workflow.name, group_name=name)
    _end(connection, draft, subject, at, data={"runs": draft.added})


def _end(connection: Connection, draft: GroupDraft, subject: Subject, at: datetime, data: Mapping[str, Any]) -> None:
    assert draft.id is not None
    said = {**data, **({"reason": draft.close_reason} if draft.close_reason else {})}
    target = Move({"id": draft.id}, "forming", draft.state, subject, _columns(draft, at), said)
    move(connection, tables.run_group, [target])
    if draft.state == "dropped":
        set_task_states(connection, draft.id, "skipped", {"code": "dropped"}, at, only=UNFINISHED)


def drop_members(connection: Connection, campaign: str, workflow: str, group_id: int) -> None:
    """The runs of a dropped group are in no group any more; the ledger remembers which one it was."""
    member = tables.membership
    rows = connection.execute(
        select(member).where(member.c.group_id == group_id, member.c.state == "grouped")
    ).all()
    keys = ("campaign", "workflow", "grouping", "run")
    reason = {"code": "dropped"}
    moves = [
        Move(
            {name: row._mapping[name] for name in keys},
            "grouped",
            "dropped",
            Subject(campaign=campaign, workflow=workflow, run=row.run),
            {"reason": reason},
        )
        for row in rows
    ]
    move(connection, member, moves)


def add_tasks(
    connection: Connection, group_id: int, subject: Subject, workflow: Workflow, tasks: Sequence[Task], at: datetime
) -> None:
    """Write the rows of these tasks of a group, and their locks."""
    positions = {name: position for position, name in enumerate(workflow.tasks)}
    moves = [
        Move(
            {"group_id": group_id, "task": task.name},
            None,
            "new",
            Subject(**{**vars(subject), "task": task.name}),
            {
                "position": positions[task.name],
                "kind": "jobs" if task.jobs else "publish",
                "is_root": not workflow.inside_needs(task),
                "spec_hash": workflow.hash,
                "reason": None,
                "since": at,
                "looked_at": None,
            },
        )
        for task in tasks
    ]
    move(connection, tables.group_task, moves)
    locks = [{"group_id": group_id, "task": task.name, **row} for task in tasks for row in _locks(workflow, task)]
    if locks:
        connection.execute(insert(tables.lock), locks)


def _locks(workflow: Workflow, task: Task) -> list[dict[str, Any]]:
    empty = {"needs_workflow": None, "needs_grouping": None, "needs_task": None, "tag": None}
    rows: list[dict[str, Any]] = []
    for need in workflow.outside_needs(task):
        label = workflow.tasks[need.task].grouping.label if need.workflow == workflow.name else need.grouping
        rows.append(
            {**empty, "kind": "task", "needs_workflow": need.workflow, "needs_grouping": label, "needs_task": need.task}
        )
    rows.extend({**empty, "kind": "payload", "tag": item.tag} for item in task.payload_locks)
    return [{**row, "position": position} for position, row in enumerate(rows)]


def sync_tasks(connection: Connection, campaign: str, workflow: Workflow, at: datetime) -> None:
    """After an edit of the spec, let groups wait for what it says now (rule 11: their runs and policy stay).

    Tasks that have not begun get the new locks; tasks that the spec no longer has are taken out of the groups where
    they have not begun; new tasks are added to groups that have anything left to do.
    """
    table, group = tables.group_task, tables.run_group
    stale = connection.execute(
        select(table.c.group_id, table.c.task, group.c.name, group.c.grouping)
        .join(group, group.c.id == table.c.group_id)
        .where(
            group.c.campaign == campaign,
            group.c.workflow == workflow.name,
            table.c.state.in_(UNFINISHED),
            table.c.spec_hash != workflow.hash,
        )
    ).all()
    by_group: dict[tuple[int, str, str], set[str]] = {}
    for row in stale:
        by_group.setdefault((row.group_id, row.name, row.grouping), set()).add(row.task)
    for (group_id, name, label), names in by_group.items():
        subject = Subject(campaign=campaign, workflow=workflow.name, group_name=name)
        here = (table.c.group_id == group_id, table.c.task.in_(names))
        connection.execute(
            delete(tables.lock).where(tables.lock.c.group_id == group_id, tables.lock.c.task.in_(names))
        )
        connection.execute(delete(table).where(*here))
        known = set(connection.execute(select(table.c.task).where(table.c.group_id == group_id)).scalars())
        tasks = [task for task in workflow.tasks_of(label) if task.name not in known]
        add_tasks(connection, group_id, subject, workflow, tasks, at)
        data = {"spec_hash": workflow.hash}
        append_events(connection, [{"entity": "group_task", "subject": subject, "data": data}])


def set_task_states(
    connection: Connection,
    group_id: int,
    target: str,
    reason: Mapping[str, Any] | None,
    at: datetime,
    *,
    task: str | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Move one task of a group, or all, to a state. Rows outside ``only`` stay as they are."""
    table, group = tables.group_task, tables.run_group
    query = select(table, group.c.campaign, group.c.workflow, group.c.name).join(group, group.c.id == table.c.group_id)
    query = query.where(table.c.group_id == group_id)
    if task is not None:
        query = query.where(table.c.task == task)
    if only is not None:
        query = query.where(table.c.state.in_(only))
    moves = []
    for row in connection.execute(query).all():
        same = row.state == target and row.reason == reason
        if same:
            continue
        subject = Subject(campaign=row.campaign, workflow=row.workflow, task=row.task, group_name=row.name)
        since = row.since if row.state == target else at
        columns = {"reason": reason, "since": since, "looked_at": at}
        moves.append(
            Move({"group_id": group_id, "task": row.task}, row.state, target, subject, columns, {"reason": reason})
        )
    move(connection, table, moves)


def touch_looked_at(connection: Connection, keys: Sequence[tuple[int, str]], at: datetime) -> None:
    """Note that somebody looked, without an event: nothing changed."""
    table = tables.group_task
    for group_id in {key[0] for key in keys}:
        names = [name for other, name in keys if other == group_id]
        connection.execute(
            update(table).where(table.c.group_id == group_id, table.c.task.in_(names)).values(looked_at=at)
        )


def find_group(connection: Connection, campaign: str, workflow: str | None, name: str) -> Row[Any]:
    """The one group of this name in a campaign.

    :raises NotFound: there is none, or several workflows have one and none was named.
    """
    table = tables.run_group
    query = select(table).where(table.c.campaign == campaign, table.c.name == name)
    if workflow is not None:
        query = query.where(table.c.workflow == workflow)
    rows = connection.execute(query).all()
    if not rows:
        raise NotFound(f"the campaign {campaign} has no group {name}", "`calib groups` lists them")
    if len(rows) > 1:
        listed = ", ".join(sorted(row.workflow for row in rows))
        raise NotFound(f"several workflows have a group {name}: {listed}", "name one with --workflow")
    return rows[0]


def group_by_id(connection: Connection, group_id: int) -> Row[Any]:
    """The group's row.

    :raises NotFound: there is none.
    """
    row = connection.execute(select(tables.run_group).where(tables.run_group.c.id == group_id)).first()
    if row is None:
        raise NotFound(f"there is no group with the id {group_id}")
    return row
