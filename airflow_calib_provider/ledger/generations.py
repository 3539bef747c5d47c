"""Generations, their jobs and attempts in the ledger (rules 13–19)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Select, and_, cast, func, insert, literal, null, select, update

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import steps, tables, workers
from airflow_calib_provider.ledger.groups import TaskChange, change_task, set_task_states
from airflow_calib_provider.ledger.live_jobs import end_live
from airflow_calib_provider.ledger.present_jobs import BEGUN as BEGUN
from airflow_calib_provider.ledger.present_jobs import LIVE as LIVE
from airflow_calib_provider.ledger.present_jobs import at_its_step
from airflow_calib_provider.ledger.products import Kept, new_rows
from airflow_calib_provider.ledger.rows import (
    Definition,
    Generation,
    GenerationBasis,
    JobRecord,
    Product,
    Unsettled,
    first_row,
    read_rows,
    select_of,
)
from airflow_calib_provider.ledger.starting import TaskStanding, standing_of
from airflow_calib_provider.ledger.transitions import (
    ManyRows,
    Move,
    Subject,
    create_all,
    insert_one,
    job_key,
    move,
    tell_all,
)

generation, job, attempt, group = tables.generation, tables.job, tables.attempt, tables.run_group


@dataclass(frozen=True)
class NewGeneration(GenerationBasis):
    """What a generation is created with.

    :ivar plan: how it iterates, if it does, :ivar first: and its first step.
    :ivar failed_runs: what it is made without, since these have failed in what it needs, each with why (rule 49).
    """

    definitions: Sequence[Definition] = field(default=())
    failures: Sequence[Mapping[str, object]] = field(default=())
    options: Mapping[str, object] = field(default_factory=dict)
    keep: int | None = None
    spec_folder: str | None = None
    drops: Mapping[str, float] = field(default_factory=dict)
    plan: steps.StoredPlan | None = None
    first: steps.Planned | None = None
    failed_runs: Mapping[int, Reason] = field(default_factory=dict)


ALL, SAME_VERSION = "all", "same_version"
"""How a person may want the next clear: every job again; with the spec and the code of before (rule 44)."""


def want_rerun(connection: Connection, group_id: int, tasks: Iterable[str], how: str | None) -> None:
    """Remember how a person wants the tasks of a group to run again; ``None``: as usual."""
    for task in tasks:
        row = latest(connection, group_id, task)
        if row is not None:
            connection.execute(update(generation).where(generation.c.id == row.id).values(rerun=how))


def latest(connection: Connection, group_id: int, task: str, *, state: str | None = None) -> Generation | None:
    """The newest generation of a task of a group, or the newest in a state."""
    query = with_group().where(generation.c.group_id == group_id, generation.c.task == task)
    if state is not None:
        query = query.where(generation.c.state == state)
    return first_row(connection, query.order_by(generation.c.n.desc()).limit(1), Generation)


def by_id(connection: Connection, generation_id: int) -> Generation:
    """A generation with its group's campaign, workflow and name.

    :raises NotFound: there is none.
    """
    row = first_row(connection, with_group().where(generation.c.id == generation_id), Generation)
    if row is None:
        raise NotFound(f"there is no generation with the id {generation_id}")
    return row


def running(connection: Connection) -> list[Generation]:
    """All running generations with their groups' campaigns, workflows and names."""
    return read_rows(connection, with_group().where(generation.c.state == "running"), Generation)


def unsettled(connection: Connection) -> list[Unsettled]:
    """What an end that a person gave its task in Airflow may concern: what runs, and what failed and is the latest."""
    task, request, later = tables.group_task, tables.dag_run_request, generation.alias("later")
    newer = select(later.c.id).where(
        later.c.group_id == generation.c.group_id, later.c.task == generation.c.task, later.c.n > generation.c.n
    )
    columns = (generation.c.id, generation.c.task, generation.c.state, generation.c.backend)
    query = (
        select(*columns, group.c.campaign, group.c.workflow, group.c.name.label("group_name"))
        .add_columns(request.c.dag_id, request.c.run_id, generation.c.max_tries)
        .join(group, group.c.id == generation.c.group_id)
        .join(request, request.c.group_id == group.c.id)
        .join(task, and_(task.c.group_id == group.c.id, task.c.task == generation.c.task))
        .where(
            (generation.c.state == "running") | and_(generation.c.state == "failed", task.c.state == "failed"),
            ~newer.exists(),
        )
        .order_by(request.c.dag_id, generation.c.id)
    )
    return read_rows(connection, query, Unsettled)


def with_group() -> Select[Any]:
    """Generations as records, of which a query takes some."""
    columns = (group.c.campaign, group.c.workflow, group.c.name.label("group_name"))
    query = select_of(Generation, generation).add_columns(*columns)
    return query.join(group, group.c.id == generation.c.group_id)


def backends_named(connection: Connection, since: datetime) -> list[str]:
    """The backends of all generations that run, or have ended since then."""
    query = select(generation.c.backend).distinct()
    query = query.where((generation.c.state == "running") | (generation.c.ended_at >= since))
    return sorted(connection.execute(query).scalars())


_NO_COLUMNS = ("group_id", "task", "definitions", "plan", "first", "failed_runs")


def create(connection: Connection, new: NewGeneration, now: datetime, before: TaskStanding | None = None) -> int:
    """Start the next generation with its jobs; the earlier ones stay as they are.

    :param before: how the task stands, if that was read in this transaction.
    :returns: its id.
    """
    before = before or standing_of(connection, new.group_id, new.task)
    number = before.last.n + 1 if before.last else 1
    about = before.group
    subject = Subject(about.campaign, about.workflow, new.task, about.name, generation=number)
    names = [item.name for item in fields(new) if item.name not in _NO_COLUMNS]
    values: dict[str, Any] = {name: getattr(new, name) for name in names}
    for name in ("inputs", "runs", "excluded_runs", "failures"):
        values[name] = list(values[name])
    columns = {
        **values,
        "folder": f"{new.folder}/g{number}",
        "started_at": now,
        "ended_at": None,
        "reason": None,
        "ended_by": None,
        "rerun": None,
    }
    key = {"group_id": new.group_id, "task": new.task, "n": number}
    data = {"jobs": len(new.definitions), "spec_hash": new.spec_hash, "git_commit": new.git_commit}
    generation_id = insert_one(connection, generation, Move(key, None, "running", subject, columns, data))
    n_jobs = len(new.definitions)
    if new.plan is not None and new.first is not None:
        plan: steps.StoredPlan = {**new.plan, "folder": f"{new.folder}/g{number}"}
        steps.keep_plan(connection, generation_id, plan)
        made = by_id(connection, generation_id)
        steps.open_step(connection, made, plan, new.first, now)
        if "workers" in plan:
            workers.create_missing(connection, made, plan["workers"])
        n_jobs = len(new.first.definitions)
    else:
        create_jobs(connection, generation_id, 0, subject, new.definitions)
    if before.task is not None:
        states = {str(JobState.WAITING): n_jobs} if n_jobs else {}
        reason = {"code": "jobs", "generation": number, "states": states}
        change_task(connection, about, before.task, TaskChange(about.id, new.task, "processing", reason), now)
    return generation_id


_NEW_JOB = ("generation_id", "step", "job_index", "attempt", "failures", "losses", "releases", "definition")


def create_jobs(
    connection: Connection,
    generation_id: int,
    step: int,
    subject: Subject,
    definitions: Sequence[Definition],
    first: int = 0,
) -> None:
    """Add the jobs of a generation, or of a step of it, which wait.

    :param first: the index of the first of them.
    """
    numbered = enumerate(definitions, start=first)
    jobs = [(generation_id, step, index, 0, 0, 0, 0, json.dumps(item)) for index, item in numbered]
    create_all(connection, job, JobState.WAITING.value, _NEW_JOB, jobs)
    made = select(job.c.job_index, cast(null(), Integer).label("attempt"), literal("{}").label("data"))
    here = (job.c.generation_id == generation_id, job.c.step == step, job.c.job_index >= first)
    told = ManyRows(subject, made.where(*here))
    tell_all(connection, job.name, None, JobState.WAITING.value, told, len(jobs))


def _counts(connection: Connection, row: Generation) -> dict[str, object]:
    here = (job.c.generation_id == row.id, job.c.step == row.step)
    query = select(job.c.state, func.count()).where(*here).group_by(job.c.state)
    return {"generation": row.n, "states": {item[0]: item[1] for item in connection.execute(query).all()}}


def continue_failed(
    connection: Connection, row: Generation, max_tries: int, now: datetime, new: NewGeneration | None = None
) -> None:
    """A user cleared a failed generation: the jobs that are not done get a fresh retry budget (rule 14).

    :param new: what would be created now: its limits hold from here on, and its spec and code are those of the rounds
        that follow. The jobs are the same.
    """
    subject = Subject.of_generation(row)
    columns: dict[str, object] = {"max_tries": max_tries, "ended_at": None, "reason": None, "ended_by": None}
    data: dict[str, object] = {"cleared": True}
    if new is not None:
        columns |= {"retries": new.retries, "quorum": new.quorum, "dag_run_id": new.dag_run_id}
        columns |= {"spec_hash": new.spec_hash, "git_commit": new.git_commit, "spec_folder": new.spec_folder}
        columns |= {"inputs": list(new.inputs), "rerun": None}
        columns |= {"failures": list(new.failures), "options": dict(new.options), "keep": new.keep, "cleaned_at": None}
        columns["drops"] = dict(new.drops)
        data |= {"spec_hash": new.spec_hash, "git_commit": new.git_commit, "retries": new.retries, "quorum": new.quorum}
    again = job.c.step == row.step
    if row.step:
        goes_on = steps.continued(connection, row, new.plan if new is not None else None)
        columns |= goes_on.columns
        again = goes_on.again
    move(connection, generation, [Move({"id": row.id}, "failed", "running", subject, columns, data)])
    here = (job.c.generation_id == row.id, again, job.c.state.in_(["failed", "removed"]))
    found = connection.execute(select(job).where(*here)).all()
    fresh = {"failures": 0, "losses": 0, "retry_at": None}
    moves = [
        Move(
            job_key(item),
            item.state,
            JobState.WAITING,
            Subject(**{**vars(subject), "job_index": item.job_index}),
            fresh,
        )
        for item in found
    ]
    move(connection, job, moves)
    set_task_states(
        connection, row.group_id, "processing", {"code": "jobs", **_counts(connection, row)}, now, task=row.task
    )


def note_max_tries(connection: Connection, generation_id: int, max_tries: int) -> None:
    """Remember Airflow's counter, so that the next change of it is seen as a user's clear."""
    connection.execute(update(generation).where(generation.c.id == generation_id).values(max_tries=max_tries))


def jobs_of(
    connection: Connection,
    generation_ids: Iterable[int],
    indices: Iterable[int] | None = None,
    *,
    step: int | None = None,
) -> list[JobRecord]:
    """The jobs of these generations, in order.

    :param indices: only these jobs.
    :param step: of what iterates; by default that at which each of them is.
    """
    query = select_of(JobRecord, job)
    if step is None:
        query = at_its_step(query, generation_ids)
    else:
        query = query.where(tables.one_of(job.c.generation_id, generation_ids), job.c.step == step)
    if indices is not None:
        query = query.where(tables.one_of(job.c.job_index, indices))
    return read_rows(connection, query.order_by(job.c.generation_id, job.c.step, job.c.job_index), JobRecord)


def credentials(connection: Connection, generation_ids: Iterable[int]) -> dict[int, Mapping[str, str]]:
    """Kind → path of the credentials that the jobs of each generation use, which are the same for all of them."""
    query = select(job.c.generation_id, job.c.definition["credentials"].label("stated"))
    here = (tables.one_of(job.c.generation_id, generation_ids), job.c.job_index == 0)
    first = select(func.min(job.c.step)).where(*here).group_by(job.c.generation_id)
    query = query.where(*here, job.c.step.in_(first))
    stated = {row.generation_id: row.stated for row in connection.execute(query).all()}
    return {number: stated.get(number) or {} for number in generation_ids}


def ended_well(connection: Connection, generation_id: int) -> dict[int, list[int]]:
    """Job → its attempts, the newest first, whose program ended with success, accepted or not.

    What they left behind is whole, if it is there.
    """
    well = (attempt.c.state == AttemptState.SUCCEEDED) | (attempt.c.failure == FailureClass.PRODUCT)
    its_step = select(generation.c.step).where(generation.c.id == generation_id).scalar_subquery()
    here = (attempt.c.generation_id == generation_id, attempt.c.step == its_step)
    query = select(attempt.c.job_index, attempt.c.n).where(*here, well)
    found: dict[int, list[int]] = {}
    for row in connection.execute(query.order_by(attempt.c.job_index, attempt.c.n.desc())).all():
        found.setdefault(row.job_index, []).append(row.n)
    return found


def products_of(connection: Connection, generation_id: int) -> list[Product]:
    """The accepted products of a generation that were not dropped, in the order of the jobs."""
    table = tables.product
    here = (table.c.generation_id == generation_id, table.c.state == "accepted")
    query = select(table.c.job_index, table.c.name, table.c.file).where(*here)
    return read_rows(connection, query.order_by(table.c.step, table.c.job_index, table.c.name), Product)


def count_products(connection: Connection, generation_id: int) -> int:
    """How many accepted products a generation has."""
    table = tables.product
    query = select(func.count()).select_from(table).where(table.c.generation_id == generation_id)
    return int(connection.execute(query).scalar_one())


def as_job(row: JobRecord) -> Job:
    """The reducer's view of a job's row."""
    return Job(
        index=row.job_index,
        state=JobState(row.state),
        attempt=row.attempt,
        failures=row.failures,
        losses=row.losses,
        accepted_attempt=row.accepted_attempt,
        exit_code=row.exit_code,
        signal=row.signal,
        host=row.host,
        start=row.start,
        end=row.end,
        reason=row.reason,
        failure=FailureClass(row.failure) if row.failure else None,
        hold_code=row.hold_code,
        memory=row.memory,
        progress=row.progress,
        releases=row.releases,
    )


def end(
    connection: Connection,
    row: Generation,
    target: str,
    reason: Reason,
    now: datetime,
    *,
    live_jobs: JobState | None = None,
    person: str | None = None,
) -> None:
    """End a generation, with the state of its task.

    Jobs that still live get ``live_jobs``: by default left out of a done one, and removed from a failed one, which a
    clear may continue.
    """
    live_jobs = live_jobs or (JobState.LEFT_OUT if target == "done" else JobState.REMOVED)
    subject = Subject.of_generation(row)
    end_live(connection, row, live_jobs)
    columns = {"ended_at": now, "reason": reason, "ended_by": person, "trouble": None, "trouble_since": None}
    move(connection, generation, [Move({"id": row.id}, row.state, target, subject, columns, {"reason": reason})])
    set_task_states(connection, row.group_id, target, reason, now, task=row.task)


def accept(
    connection: Connection,
    row: Generation,
    accepted: Mapping[int, int],
    kept: Mapping[int, Mapping[str, Kept]],
    person: str,
    now: datetime,
) -> None:
    """A person declares a generation done: the products that lie there count, whoever made them (rule 19).

    What is accepted is on record before any folder is moved and before the generation ends: whoever comes after a
    death in between finds which attempt it was.

    :param row: the generation, running or failed.
    :param accepted: job → the attempt whose folder holds the products, for the jobs that have not succeeded.
    :param kept: job → file → what is known of it, of the declared products.
    """
    subject = Subject.of_generation(row)
    rows = {item.job_index: item for item in jobs_of(connection, [row.id])}
    moves, attempts, files = [], [], []
    for index, number in accepted.items():
        item = rows[index]
        if item.state == JobState.SUCCEEDED:
            continue
        of_job = replace(subject, job_index=index, attempt=item.attempt or None)
        columns = {"accepted_attempt": number or None, "attempt": max(item.attempt, number), "retry_at": None}
        moves.append(Move(job_key(item), item.state, JobState.SUCCEEDED, of_job, columns, {"by": person}))
        if item.state in BEGUN:
            key = {**job_key(item), "n": item.attempt}
            attempts.append(Move(key, item.state, AttemptState.REMOVED, of_job))
        files += new_rows(job_key(item), row.products, kept.get(index, {}), row.drops, now)
    move(connection, job, moves)
    move(connection, attempt, attempts)
    if files:
        connection.execute(insert(tables.product), files)
