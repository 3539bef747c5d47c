"""Why the tasks of one group do not move: their locks, their jobs, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, select

from airflow_calib_provider.credentials.standing import is_lapse
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.ledger import publication_deadlines, steps, tables
from airflow_calib_provider.ledger.editions import is_stale, why_stale
from airflow_calib_provider.ledger.explain_outside import asked_outside
from airflow_calib_provider.ledger.generations import with_group
from airflow_calib_provider.ledger.live_reasons import LiveReason, live_reasons
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.rows import Generation, Group, GroupTask, JobRecord, read_rows, select_of
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.spec.kinds import backend_kind
from airflow_calib_provider.spec.models import Workflow

generation, job = tables.generation, tables.job

SHOWN_JOBS = 20

SHOWN_REASONS = 5
"""How many distinct reasons of living jobs are told, those of most jobs first."""


@dataclass
class TaskCauses:
    """The causes, and the tasks that nothing in the ledger holds back: only Airflow has to begin them."""

    causes: list[Cause] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)


def task_causes(
    connection: Connection,
    group: Group,
    tasks: Sequence[GroupTask],
    chosen: Sequence[str],
    spec: Workflow | None,
    now: datetime,
) -> TaskCauses:
    """Say what holds each of a group's tasks.

    :param tasks: all rows of ``group_task`` of the group, in order.
    :param chosen: the names of those that are asked for.
    :param spec: tells which tasks of the group come before which; without it every earlier one does.
    """
    result = TaskCauses()
    open_tasks = [row.task for row in tasks if row.state in ("new", "waiting") and row.task in chosen]
    looks = look(connection, [(group.id, name) for name in open_tasks])
    shut = [name for name in open_tasks if looks[group.id, name].state != "open"]
    asked = asked_outside(connection, group.id, shut) if shut else {}
    states = {row.task: row.state for row in tasks}
    counts = _jobs(connection, group.id, now)
    stale = [row for row in tasks if row.task in chosen and is_stale(row.state, row.reason)]
    why = why_stale(connection, group.id, group.edition) if stale else {}
    gone = {row.task for row in stale if spec is not None and row.task not in spec.tasks}
    deadlines = publication_deadlines.of_group(connection, group.id) if group.state == "closed" else {}
    result.causes += [_cause(group, row, {**why, "code": "stale_gone"} if row.task in gone else why) for row in stale]
    for row in tasks:
        if row.task not in chosen:
            continue
        if row.state in ("new", "waiting"):
            n_before = len(result.causes)
            _waiting(group, row, looks[group.id, row.task], _before(row, tasks, spec), states, result)
            if row.task in asked:
                result.causes[n_before] = replace(result.causes[n_before], asked=asked[row.task])
        elif row.state == "processing":
            result.causes += _processing(group, row, counts.get(row.task))
        else:
            result.causes.append(_ended(group, row))
        if row.task in deadlines and (reason := deadlines[row.task].reason(now)):
            result.causes.append(_cause(group, row, reason))
    return result


def _cause(group: Group, row: GroupTask, reason: Mapping[str, object], state: str | None = None) -> Cause:
    about = f"{group.workflow}.{row.task} of {group.name}"
    # Of what runs, the sensors that waited for it do not look any more.
    looked_at = row.looked_at if row.state in ("new", "waiting") else None
    return Cause(about, dict(reason), state or row.state, row.since, looked_at, group.workflow, group.name, row.task)


def _before(row: GroupTask, tasks: Sequence[GroupTask], spec: Workflow | None) -> list[str]:
    """The tasks of the same DAG that must be done before."""
    known = spec.tasks.get(row.task) if spec is not None else None
    if spec is not None and known is not None:
        return [need.task for need in spec.inside_needs(known)]
    return [] if row.is_root else [item.task for item in tasks if item.position < row.position]


def _waiting(
    group: Group,
    row: GroupTask,
    seen: Look,
    before: Sequence[str],
    states: Mapping[str, str],
    result: TaskCauses,
) -> None:
    held = is_stale(row.state, row.reason)
    if seen.state != "open":
        held = True
        result.causes.append(_cause(group, row, seen.reason or {}, "failed" if seen.state == "never" else "waiting"))
    ended = [name for name in before if states.get(name) in ("failed", "skipped")]
    pending = [name for name in before if states.get(name) in ("new", "waiting", "processing")]
    if ended:
        reason = {"code": "upstream_ended", "tasks": [[name, states[name]] for name in ended]}
        result.causes.append(_cause(group, row, reason, "waiting"))
    if pending:
        result.causes.append(_cause(group, row, {"code": "upstream", "tasks": pending}, "waiting"))
    if (
        row.state == "waiting"
        and (row.reason or {}).get("code") == "awaits_approval"
        and not (held or ended or pending)
    ):
        held = True
        result.causes.append(_cause(group, row, row.reason or {}))
    if not held and not ended and not pending and group.state == "closed":
        result.ready.append(row.task)


@dataclass
class _Counts:
    generation: Generation
    states: dict[str, int] = field(default_factory=dict)
    retrying: list[JobRecord] = field(default_factory=list)
    failed: list[JobRecord] = field(default_factory=list)
    live: list[LiveReason] = field(default_factory=list)
    place: Mapping[str, object] = field(default_factory=dict)


def _of_its_step() -> ColumnElement[bool]:
    return and_(generation.c.id == job.c.generation_id, generation.c.step == job.c.step)


def _jobs(connection: Connection, group_id: int, now: datetime) -> dict[str, _Counts]:
    """Per task: the jobs of its latest generation, counted, and those that failed or wait for another attempt."""
    latest = (
        select(generation.c.task, func.max(generation.c.n).label("n"))
        .where(generation.c.group_id == group_id)
        .group_by(generation.c.task)
        .subquery()
    )
    newest = with_group().join(latest, and_(latest.c.task == generation.c.task, latest.c.n == generation.c.n))
    rows = read_rows(connection, newest.where(generation.c.group_id == group_id), Generation)
    result = {row.task: _Counts(row) for row in rows}
    by_id = {row.id: result[row.task] for row in rows}
    counted = select(job.c.generation_id, job.c.state, func.count()).join(generation, _of_its_step())
    counted = counted.where(job.c.generation_id.in_(by_id))
    for generation_id, state, n in connection.execute(counted.group_by(job.c.generation_id, job.c.state)).all():
        by_id[generation_id].states[state] = n
    notable = (
        select_of(JobRecord, job)
        .join(generation, _of_its_step())
        .where(
            job.c.generation_id.in_(by_id),
            (job.c.state == "failed") | ((job.c.state == "waiting") & (job.c.retry_at > now)),
        )
    )
    for item in read_rows(connection, notable.order_by(job.c.job_index), JobRecord):
        counts = by_id[item.generation_id]
        (counts.failed if item.state == "failed" else counts.retrying).append(item)
    said = live_reasons(connection, [row.id for row in rows if row.state == "running"])
    places = steps.places(connection, [row.id for row in rows if row.step])
    for row in rows:
        result[row.task].live = said.get(row.id, [])
        result[row.task].place = places.get(row.id, {})
    return result


def _awaited(backend: str) -> str:
    """What all submitted jobs of a backend wait for; empty: it differs, or this installation has no such backend."""
    try:
        return backend_kind(backend).awaited
    except KindError:
        return ""


def _processing(group: Group, row: GroupTask, counts: _Counts | None) -> list[Cause]:
    stored = row.reason or {}
    reason: dict[str, object]
    causes = []
    if stored.get("code") == "marked_success_without_products":
        causes.append(_cause(group, row, stored))
    if counts is None:
        return causes or [_cause(group, row, stored or {"code": "running"})]
    number = counts.generation.n
    waits = _awaited(counts.generation.backend) if "submitted" in counts.states else ""
    reason = {"code": "jobs", "generation": number, "states": counts.states, **counts.place}
    causes.append(_cause(group, row, {**reason, "awaited": waits} if waits else reason))
    if counts.generation.trouble:
        said = counts.generation.trouble
        reason = {"code": "backend_trouble", "backend": counts.generation.backend, "message": said}
        if is_lapse(said):
            reason = {"code": "credential", "message": said}
        since = counts.generation.trouble_since
        causes.append(replace(_cause(group, row, reason), since=since or row.since))
    for item in counts.live[:SHOWN_REASONS]:
        until = item.until.isoformat(timespec="seconds") if item.until and item.state == "held" else None
        reason = {"code": "live_jobs", "state": item.state, "n_jobs": item.n_jobs, "message": item.text, "until": until}
        causes.append(_cause(group, row, reason))
    if more := counts.live[SHOWN_REASONS:]:
        n = sum(item.n_jobs for item in more)
        causes.append(_cause(group, row, {"code": "more_live_jobs", "n_jobs": n, "n_reasons": len(more)}))
    if counts.retrying:
        reason = {
            "code": "retry_pending",
            "n_jobs": len(counts.retrying),
            "until": min(item.retry_at for item in counts.retrying if item.retry_at).isoformat(timespec="seconds"),
            "jobs": [[item.job_index, job_problem(item)] for item in counts.retrying[:SHOWN_JOBS]],
        }
        causes.append(_cause(group, row, reason))
    if counts.failed:
        failed = [[item.job_index, job_problem(item)] for item in counts.failed[:SHOWN_JOBS]]
        total = sum(counts.states.values())
        reason = {"code": "jobs_failed", "n_failed": len(counts.failed), "n_jobs": total, "failed": failed}
        causes.append(_cause(group, row, reason))
    return causes


def job_problem(row: JobRecord) -> str:
    """What the last attempt of a job came to, in a few words."""
    if row.reason:
        return str(row.reason)
    if row.signal is not None:
        return f"killed by signal {row.signal}"
    return f"exit code {row.exit_code}" if row.exit_code is not None else str(row.state)


def _ended(group: Group, row: GroupTask) -> Cause:
    reason = dict(row.reason or {"code": row.state})
    if row.kind == "publish" and row.state == "failed" and reason.get("code") == "error":
        reason["code"] = "publish_failed"
    return _cause(group, row, reason)
