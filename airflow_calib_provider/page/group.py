"""A group: its runs, what its tasks wait for or came to, their jobs, steps and payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, select

from airflow_calib_provider.domain.locks.deadlines import Limits
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.errors import KindError, NotFound
from airflow_calib_provider.hooks.assets import as_ranges
from airflow_calib_provider.jobsets.convergence import picture_of
from airflow_calib_provider.jobsets.folders import log_files
from airflow_calib_provider.ledger import publication_deadlines, steps, tables
from airflow_calib_provider.ledger.dag_groups import airflow_task_id
from airflow_calib_provider.ledger.explain import Scope, explain_group
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.publication_deadlines import PublicationDeadline
from airflow_calib_provider.ledger.rows import Group, first_row, read_rows, select_of
from airflow_calib_provider.ledger.waiting import lock_looks
from airflow_calib_provider.page.decisions import decisions
from airflow_calib_provider.page.rights import Reader, Rights
from airflow_calib_provider.spec.kinds import lock_kind

membership, group, group_task = tables.membership, tables.run_group, tables.group_task
generation, job, lock, payload, request = (
    tables.generation,
    tables.job,
    tables.lock,
    tables.payload,
    tables.dag_run_request,
)

MOST_GENERATIONS, MOST_JOBS, MOST_RANGES, MOST_PICTURES = 50, 100, 200, 4
"""Of a group that are shown; the newest generations, the first jobs, ranges of runs and pictures."""


@dataclass(frozen=True)
class LockLine:
    """A lock of a task.

    :ivar look: how it stands; ``None``: its task does not wait any more.
    :ivar choice: the position of the first of those of which one is enough.
    :ivar due: until when it is waited for, :ivar then: and what happens after that.
    """

    task: str
    kind: str
    what: str
    look: Look | None
    choice: int | None
    due: datetime | None
    then: str


@dataclass(frozen=True)
class JobLog:
    """A job that failed or is held, with where its standard error lies."""

    row: Any
    file: Path


@dataclass(frozen=True)
class Iterated:
    """The steps of a task that iterates, with the picture of its metrics: SVG."""

    task: str
    generation: int
    steps: Sequence[steps.StepRow]
    picture: str


@dataclass(frozen=True)
class GroupView:
    """All that is shown of a group.

    :ivar causes: why it does not move.
    :ivar life: why it opened, and why it closed.
    :ivar request: its DAG run; ``None``: it was not asked for yet.
    :ivar decisions: about its payloads.
    :ivar jobs: generation's id → state → how many of its present step.
    :ivar deadlines: task → until when it is to publish.
    """

    group: Group
    dag_id: str
    n_runs: int
    runs: str
    causes: Sequence[Cause]
    life: str
    request: Any
    tasks: Sequence[Any]
    locks: Sequence[LockLine]
    generations: Sequence[Any]
    jobs: Mapping[int, Mapping[str, int]]
    logs: Sequence[JobLog]
    iterated: Sequence[Iterated]
    payloads: Sequence[Any]
    decisions: Sequence[Any]
    task_ids: Mapping[str, str] = field(default_factory=dict)
    deadlines: Mapping[str, PublicationDeadline] = field(default_factory=dict)


def found_groups(connection: Connection, rights: Rights, campaign: str, workflow: str, name: str) -> list[Group]:
    """The groups of this name that a person may see; several workflows may have one.

    :param workflow: only of this one; empty: of any.
    :raises NotFound: there is none, or none that they may see.
    """
    query = select_of(Group, group).where(group.c.campaign == campaign, group.c.name == name, rights.of_group())
    if workflow:
        query = query.where(group.c.workflow == workflow)
    found = read_rows(connection, query.order_by(group.c.workflow), Group)
    if not found:
        raise NotFound(f"there is no group {name} in {campaign}, or none that you may read")
    return found


def group_of_dag_run(connection: Connection, reader: Reader, dag_id: str, run_id: str) -> Group | None:
    """The group of a DAG run; ``None``: the ledger has none.

    :raises NotFound: the person may not read the DAG, or there is none.
    """
    if dag_id not in reader.dag_ids:
        raise NotFound(f"there is no DAG {dag_id}, or you may not read it")
    query = select_of(Group, group).join(request, request.c.group_id == group.c.id)
    return first_row(connection, query.where(request.c.dag_id == dag_id, request.c.run_id == run_id), Group)


def group_view(connection: Connection, found: Group, now: datetime) -> GroupView:
    """What is shown of a group, in a number of statements that does not depend on its size."""
    explained = explain_group(connection, Scope(found.campaign, now, found.workflow), found.name)
    asked = connection.execute(select(request).where(request.c.group_id == found.id)).first()
    of_group = (membership.c.group_id == found.id, membership.c.state == "grouped")
    runs = list(connection.execute(select(membership.c.run).where(*of_group).order_by(membership.c.run)).scalars())
    ranges = as_ranges(runs)
    more = f" and {len(ranges) - MOST_RANGES} more ranges" if len(ranges) > MOST_RANGES else ""
    tasks = connection.execute(
        select(group_task).where(group_task.c.group_id == found.id).order_by(group_task.c.position)
    ).all()
    made = _generations(connection, found.id)
    query = select(payload).where(payload.c.group_id == found.id)
    payloads = connection.execute(query.order_by(payload.c.task, payload.c.revision.desc())).all()
    return GroupView(
        group=found,
        dag_id=asked.dag_id if asked is not None else f"{found.workflow}__{found.grouping}",
        n_runs=len(runs),
        runs=", ".join(ranges[:MOST_RANGES]) + more,
        causes=explained.causes,
        life=explained.life,
        request=asked,
        tasks=tasks,
        locks=_locks(connection, found, [row.task for row in tasks if row.state in ("new", "waiting")]),
        generations=made,
        jobs=_job_states(connection, [row.id for row in made]),
        logs=_logs(connection, made),
        iterated=_iterated(connection, found.id, made),
        payloads=payloads,
        decisions=decisions(connection, [row.id for row in payloads]),
        task_ids={row.task: airflow_task_id(row.task) for row in tasks},
        deadlines=publication_deadlines.of_group(connection, found.id),
    )


def _locks(connection: Connection, found: Group, waiting: Sequence[str]) -> list[LockLine]:
    """:param waiting: tasks that have not begun."""
    query = select(lock).where(lock.c.group_id == found.id).order_by(lock.c.task, lock.c.position)
    rows = connection.execute(query).all()
    looks = lock_looks(connection, found.id, waiting) if rows and waiting else {}
    return [_lock(row, found, looks.get((row.task, row.position))) for row in rows]


def _lock(row: Any, found: Group, look: Look | None) -> LockLine:
    limits = Limits.of_json(row.limits) if row.limits else None
    due = limits.due(found.end, found.closed_at, row.deadline) if limits else None
    then = limits.then.replace("_", " ") if limits else ""
    return LockLine(row.task, row.kind, _words(row), look, row.choice, due, then)


def _words(row: Any) -> str:
    """What a lock waits for, in its kind's words, else by its parameters."""
    try:
        words = lock_kind(row.kind).words(row.parameters)
    except (KindError, KeyError):
        words = row.kind
    if words != row.kind:
        return words
    if {"workflow", "task"} <= set(row.parameters):
        return f"{row.parameters['workflow']}.{row.parameters['task']}"
    return ", ".join(f"{name} {value}" for name, value in row.parameters.items() if value not in (None, "", [], {}))


def _generations(connection: Connection, group_id: int) -> Sequence[Any]:
    """The newest ones, without what they were made from, which is long."""
    names = ("id", "task", "n", "state", "backend", "git_commit", "folder", "started_at", "ended_at", "reason")
    columns = [generation.c[name] for name in (*names, "ended_by", "trouble", "step")]
    query = select(*columns).where(generation.c.group_id == group_id)
    return connection.execute(query.order_by(generation.c.id.desc()).limit(MOST_GENERATIONS)).all()


def _of_step() -> Any:
    return and_(generation.c.id == job.c.generation_id, generation.c.step == job.c.step)


def _job_states(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, int]]:
    query = select(job.c.generation_id, job.c.state, func.count()).join(generation, _of_step())
    query = query.where(tables.one_of(generation.c.id, ids)).group_by(job.c.generation_id, job.c.state)
    found: dict[int, dict[str, int]] = {}
    for number, state, n in connection.execute(query.order_by(job.c.state)).all():
        found.setdefault(number, {})[state] = n
    return found


def _logs(connection: Connection, made: Sequence[Any]) -> list[JobLog]:
    """Jobs of the latest generation of each task that have failed or are held."""
    latest: dict[str, Any] = {}
    for row in made:
        latest.setdefault(row.task, row)
    by_id = {row.id: row for row in latest.values()}
    query = (
        select(generation.c.task, generation.c.n, generation.c.folder, *_about_jobs())
        .join(generation, _of_step())
        .where(tables.one_of(generation.c.id, by_id), job.c.state.in_(["failed", "held"]))
        .order_by(generation.c.id.desc(), job.c.job_index)
        .limit(MOST_JOBS)
    )
    rows = connection.execute(query).all()
    return [JobLog(row, log_files(row.folder, row.job_index, row.attempt, row.accepted_attempt)[1]) for row in rows]


def _about_jobs() -> list[Any]:
    names = ("step", "job_index", "state", "attempt", "accepted_attempt", "exit_code", "signal", "host", "reason")
    return [job.c[name] for name in (*names, "end", "retry_at")]


def _iterated(connection: Connection, group_id: int, made: Sequence[Any]) -> list[Iterated]:
    by_id = {row.id: row for row in made}
    found = []
    for number in steps.iterating(connection, [group_id], None)[:MOST_PICTURES]:
        if number in by_id:
            rows = steps.steps_of(connection, number)
            picture = picture_of(steps.plan_of(connection, number), rows)
            found.append(Iterated(by_id[number].task, by_id[number].n, rows, picture))
    return found
