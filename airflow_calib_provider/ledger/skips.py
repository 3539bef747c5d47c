"""Skipping runs: a person takes them out of what groups wait for (rule 20)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.transitions import Move, Subject, move

skip = tables.skip


def add(
    connection: Connection,
    campaign: str,
    workflow: str,
    runs: Iterable[int],
    *,
    task: str = "",
    reason: str,
    person: str,
    at: datetime,
) -> list[int]:
    """Skip these runs for one task of a workflow, or for all. Skipping again changes nothing.

    Tasks that have not ended of groups that hold nothing but skipped runs end as skipped too.

    :returns: the runs that were not skipped before.
    :raises NotFound: the ledger has no such run.
    """
    wanted = sorted(set(runs))
    known = set(connection.execute(select(tables.run.c.number).where(tables.run.c.number.in_(wanted))).scalars())
    if unknown := [run for run in wanted if run not in known]:
        raise NotFound(f"the ledger has no run {', '.join(map(str, unknown))}", "`calib runs list` shows those it has")
    here = (skip.c.campaign == campaign, skip.c.workflow == workflow, skip.c.task == task)
    old = set(connection.execute(select(skip.c.run).where(*here, skip.c.run.in_(wanted))).scalars())
    new = [run for run in wanted if run not in old]
    said = {"reason": reason, "person": person}
    moves = [
        Move(
            {"campaign": campaign, "workflow": workflow, "run": run, "task": task},
            None,
            "skipped",
            Subject(campaign=campaign, workflow=workflow, task=task or None, run=run),
            {**said, "at": at},
            said,
        )
        for run in new
    ]
    move(connection, skip, moves)
    _end_fully_skipped_groups(connection, campaign, workflow, new, task, said, at)
    return new


def _end_fully_skipped_groups(
    connection: Connection,
    campaign: str,
    workflow: str,
    runs: Sequence[int],
    task: str,
    said: dict[str, str],
    at: datetime,
) -> None:
    member = tables.membership
    held = select(member.c.group_id).where(
        member.c.campaign == campaign,
        member.c.workflow == workflow,
        member.c.run.in_(list(runs)),
        member.c.state == "grouped",
    )
    closed = connection.execute(
        select(tables.run_group.c.id).where(tables.run_group.c.id.in_(held), tables.run_group.c.state == "closed")
    ).scalars()
    for group_id in closed:
        names = connection.execute(
            select(tables.group_task.c.task).where(tables.group_task.c.group_id == group_id)
        ).scalars()
        for name in [name for name in names if task in ("", name)]:
            if not remaining_runs(connection, group_id, name)[0]:
                set_task_states(
                    connection,
                    group_id,
                    "skipped",
                    {"code": "skipped", **said},
                    at,
                    task=name,
                    only=("new", "waiting", "failed"),
                )


def skipped_runs(connection: Connection, campaign: str) -> frozenset[int]:
    """Runs skipped for some whole workflow of a campaign: the horizon passes them."""
    rows = connection.execute(select(skip.c.run).where(skip.c.campaign == campaign, skip.c.task == "")).scalars()
    return frozenset(rows)


def remaining_runs(connection: Connection, group_id: int, task: str) -> tuple[list[int], list[int]]:
    """A group's runs without and with a skip that concerns this task.

    A run skipped in a task that this one needs is skipped here too: there is nothing of it to process.
    """
    member, group, lock = tables.membership, tables.run_group, tables.lock
    about = connection.execute(select(group.c.campaign, group.c.workflow).where(group.c.id == group_id)).one()
    members = connection.execute(
        select(member.c.run).where(member.c.group_id == group_id, member.c.state == "grouped").order_by(member.c.run)
    ).scalars()
    needed = connection.execute(
        select(lock.c.needs_workflow, lock.c.needs_task).where(
            lock.c.group_id == group_id, lock.c.task == task, lock.c.kind == "task"
        )
    ).all()
    concerned = {(about.workflow, ""), (about.workflow, task)}
    concerned |= {(row.needs_workflow, name) for row in needed for name in ("", row.needs_task)}
    rows = connection.execute(
        select(skip.c.workflow, skip.c.task, skip.c.run).where(skip.c.campaign == about.campaign)
    ).all()
    skipped = {row.run for row in rows if (row.workflow, row.task) in concerned}
    listed = list(members)
    return [run for run in listed if run not in skipped], [run for run in listed if run in skipped]
