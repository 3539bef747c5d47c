"""Skipping runs: a person takes them out of what groups wait for (rule 20)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, exists, func, insert, literal, or_, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import listed
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import UNBEGUN, TaskChange, change_tasks
from airflow_calib_provider.ledger.locks.base import parameter
from airflow_calib_provider.ledger.rows import Group
from airflow_calib_provider.ledger.transitions import ManyRows, Subject, tell_all

skip = tables.skip


MOST = 20_000
"""Runs that are skipped in one transaction: two statements, whatever their number."""

AT_ONCE = 300
"""Groups whose tasks end in one transaction because all of their runs are skipped."""


def add(
    connection: Connection,
    campaign: str,
    workflow: str,
    runs: Iterable[int],
    *,
    task: str = "",
    reason: str,
    person: str,
    now: datetime,
) -> list[int]:
    """Skip these runs for one task of a workflow, or for all. Skipping again changes nothing.

    Tasks that have not ended of groups that hold nothing but skipped runs end as skipped too.

    :returns: the runs that were not skipped before.
    :raises NotFound: the ledger has no such run.
    """
    wanted = list(runs)
    new = _insert(connection, campaign, workflow, wanted, task, reason, person, now)
    end_fully_skipped(connection, campaign, workflow, _closed_with(connection, campaign, workflow, wanted), now)
    return new


def add_many(
    ledger: Ledger,
    campaign: str,
    workflow: str,
    runs: Iterable[int],
    *,
    task: str = "",
    reason: str,
    person: str,
    now: datetime,
) -> list[int]:
    """As :func:`add`, of any number of runs, so that nobody waits long to write.

    All of them are skipped at once, but for more than :data:`MOST`. What ends by that follows in parts; after a death
    in between, the same skip once more goes on with it.
    """
    wanted = sorted(set(runs))
    new: list[int] = []
    for begin in range(0, len(wanted), MOST):
        with ledger.write() as connection:
            part = wanted[begin : begin + MOST]
            new += _insert(connection, campaign, workflow, part, task, reason, person, now)
        crash_point("skip.after_commit", workflow)
    with ledger.read() as connection:
        closed = _closed_with(connection, campaign, workflow, wanted)
    for begin in range(0, len(closed), AT_ONCE):
        with ledger.write() as connection:
            end_fully_skipped(connection, campaign, workflow, closed[begin : begin + AT_ONCE], now)
        crash_point("skip.after_commit", workflow)
    return new


def _insert(
    connection: Connection,
    campaign: str,
    workflow: str,
    runs: Iterable[int],
    task: str,
    reason: str,
    person: str,
    now: datetime,
) -> list[int]:
    """:raises NotFound: the ledger has no such run."""
    run, wanted = tables.run, sorted(set(runs))
    known = set(connection.execute(select(run.c.number).where(tables.one_of(run.c.number, wanted))).scalars())
    if unknown := [number for number in wanted if number not in known]:
        raise NotFound(f"the ledger has no run {listed(unknown)}", "`calib runs list` shows those it has")
    here = (skip.c.campaign == campaign, skip.c.workflow == workflow, skip.c.task == task)
    old = set(connection.execute(select(skip.c.run).where(*here, tables.one_of(skip.c.run, wanted))).scalars())
    new = [number for number in wanted if number not in old]
    if not new:
        return []
    said = {"reason": reason, "person": person}
    values = {"campaign": campaign, "workflow": workflow, "task": task, **said, "at": now}
    fixed = [literal(value, skip.c[name].type).label(name) for name, value in values.items()]
    numbers = select(run.c.number).where(tables.one_of(run.c.number, new)).distinct().subquery()
    connection.execute(insert(skip).from_select([*values, "run"], select(*fixed, numbers.c.number)))
    about = Subject(campaign=campaign, workflow=workflow, task=task or None)
    rows = select(numbers.c.number.label("run"), literal(json.dumps(said), Text()).label("data"))
    tell_all(connection, skip.name, None, "skipped", ManyRows(about, rows, order="run"), len(new))
    return new


@dataclass(frozen=True)
class Settled:
    """What a skip would not change any more.

    :ivar done: those of the runs that are done, and that nothing waits for.
    :ivar payloads: published rows that were made with any of the runs.
    """

    done: Sequence[int]
    payloads: Sequence[Row[Any]]


def settled(connection: Connection, campaign: str, workflow: str, runs: Iterable[int], task: str = "") -> Settled:
    """What comes too late for a skip of these runs in a workflow, for one task or for all; asked before it is made."""
    member, group, group_task, payload = tables.membership, tables.run_group, tables.group_task, tables.payload
    wanted = sorted(set(runs))
    here = (member.c.campaign == campaign, tables.one_of(member.c.run, wanted))
    rows = connection.execute(
        select(member.c.run, group.c.workflow, group_task.c.group_id, group_task.c.task, group_task.c.state)
        .join(group, group.c.id == member.c.group_id)
        .join(group_task, group_task.c.group_id == group.c.id)
        .where(*here, member.c.state == "grouped")
    ).all()
    lock = tables.lock
    needing = select(lock.c.group_id, lock.c.task).where(
        tables.one_of(lock.c.group_id, {row.group_id for row in rows}), parameter("workflow") == workflow
    )
    if task:
        needing = needing.where(parameter("task") == task)
    waiting_for_it = {(row.group_id, row.task) for row in connection.execute(needing).all()}
    # What comes after a task inside its own group needs it, too.
    groups_with_it = {row.group_id for row in rows if row.workflow == workflow and task in ("", row.task)}
    open_runs = {
        row.run
        for row in rows
        if row.state not in ("done", "skipped")
        and (row.group_id in groups_with_it or (row.group_id, row.task) in waiting_for_it)
    }
    done = {row.run for row in rows if row.state == "done" and row.workflow == workflow and task in ("", row.task)}
    assigned = connection.execute(
        select(member.c.run, func.count()).where(*here, member.c.workflow == workflow).group_by(member.c.run)
    ).all()
    table = tables.grouping
    labels = connection.execute(
        select(func.count()).where(table.c.campaign == campaign, table.c.workflow == workflow)
    ).scalar_one()
    unassigned = set(wanted) - {run for run, n in assigned if n >= labels}
    made = connection.execute(
        select(payload, member.c.run)
        .join(member, member.c.group_id == payload.c.group_id)
        .where(*here, payload.c.campaign == campaign, payload.c.workflow == workflow, payload.c.state == "published")
        .order_by(payload.c.tag, payload.c.first_run)
    ).all()
    kept = {row.id: row for row in made if row.run not in (row.provenance.get("excluded_runs") or ())}
    return Settled(sorted(done - open_runs - unassigned), list(kept.values()))


def _closed_with(connection: Connection, campaign: str, workflow: str, runs: Sequence[int]) -> list[int]:
    """The closed groups of a workflow that hold any of these runs."""
    member, group = tables.membership, tables.run_group
    closed = connection.execute(
        select(group.c.id)
        .distinct()
        .join(member, member.c.group_id == group.c.id)
        .where(
            member.c.campaign == campaign,
            member.c.workflow == workflow,
            tables.one_of(member.c.run, runs),
            member.c.state == "grouped",
            group.c.state == "closed",
        )
        .order_by(group.c.id)
    ).scalars()
    return list(closed)


def end_fully_skipped(
    connection: Connection, campaign: str, workflow: str, group_ids: Sequence[int], now: datetime
) -> None:
    """End tasks as skipped where all runs of their closed groups are skipped: there is nothing left to process."""
    if not group_ids or not connection.execute(_of(campaign, workflow).limit(1)).first():
        return
    member, task = tables.membership, tables.group_task
    left = (
        select(member.c.run)
        .where(
            member.c.group_id == task.c.group_id,
            member.c.state == "grouped",
            ~exists().where(
                skip.c.campaign == campaign,
                skip.c.workflow == workflow,
                skip.c.run == member.c.run,
                or_(skip.c.task == "", skip.c.task == task.c.task),
            ),
        )
        .exists()
    )
    rows = connection.execute(
        select(task.c.group_id, task.c.task).where(
            tables.one_of(task.c.group_id, group_ids), task.c.state.in_(UNBEGUN), ~left
        )
    ).all()
    said = connection.execute(_of(campaign, workflow).order_by(skip.c.at.desc())).first()
    assert said is not None
    reason = {"code": "skipped", "reason": said.reason, "person": said.person}
    change_tasks(connection, [TaskChange(row.group_id, row.task, "skipped", reason) for row in rows], now)


def _of(campaign: str, workflow: str) -> Select[Any]:
    return select(skip).where(skip.c.campaign == campaign, skip.c.workflow == workflow)


def skipped_in(connection: Connection, campaign: str, workflow: str) -> dict[int, dict[str, object]]:
    """Runs skipped for a whole workflow, each with person and reason: its horizon passes them."""
    rows = connection.execute(_of(campaign, workflow).where(skip.c.task == "")).all()
    return {row.run: {"person": row.person, "reason": row.reason} for row in rows}


class Member(NamedTuple):
    """A run of a group.

    :ivar record: what its source said of it when it was assigned.
    :ivar skipped: whether it is skipped, or dropped, in the task or in what the task needs.
    """

    run: int
    record: Mapping[str, object]
    skipped: bool


def members_of(connection: Connection, group: Group, task: str, inside: Iterable[str] = ()) -> list[Member]:
    """A group's runs, in order; which of them are skipped for a task.

    A run skipped or dropped in a task that this one needs is skipped here too: there is nothing of it to process.

    :param inside: the tasks of its own DAG that this one needs; the others are among its locks.
    """
    member, lock, other = tables.membership, tables.lock, tables.membership.alias("other")
    of_task = (lock.c.group_id == group.id, lock.c.task == task)
    here = (skip.c.campaign == group.campaign, skip.c.run == member.c.run)
    campaign = func.coalesce(parameter("campaign"), group.campaign)  # what is taken from a base campaign names it
    needed = (skip.c.campaign == campaign, skip.c.run == member.c.run)
    there = (other.c.campaign == campaign, other.c.run == member.c.run)
    skipped = or_(
        exists().where(*here, skip.c.workflow == group.workflow, skip.c.task.in_(["", task, *inside])),
        exists().where(*of_task, *needed, skip.c.workflow == parameter("workflow"), _names(skip.c.task)),
        exists().where(
            *of_task,
            *there,
            other.c.workflow == parameter("workflow"),
            other.c.grouping == parameter("grouping"),
            other.c.state == "dropped",
        ),
    )
    query = select(member.c.run, member.c.record, skipped.label("skipped"))
    query = query.where(member.c.group_id == group.id, member.c.state == "grouped").order_by(member.c.run)
    return [Member(row.run, row.record, bool(row.skipped)) for row in connection.execute(query)]


def _names(task: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a skip of a workflow concerns what a lock needs there."""
    return or_(task == "", task == parameter("task"))
