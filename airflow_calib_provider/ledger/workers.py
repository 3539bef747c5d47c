"""Workers that an iteration reserves: jobs of a step of their own, whose attempts are epochs (rule 65)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Definition, Generation, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Subject, append_events

WORKERS = -1
"""The step of which the workers are the jobs."""

job, refused, iteration = tables.job, tables.refused_result, tables.iteration


class WorkerSettings(TypedDict):
    """What holds of the workers of a generation; times are in seconds.

    :ivar lost_after: without a sign of life.
    :ivar max_replacements: of all of them together.
    :ivar wall: for how long each has its place; 0: for ever.
    :ivar options: the block for the backend.
    """

    count: int
    heartbeat: float
    lost_after: float
    max_replacements: int
    wall: float
    cpus: int
    memory: int | None
    disk: int | None
    gpus: int
    options: dict[str, Any]


class StoredWorkers(TypedDict):
    """What a plan has of workers.

    :ivar definition: of each of them.
    """

    settings: WorkerSettings
    definition: Definition


def settings_of(connection: Connection, generation_ids: Iterable[int]) -> dict[int, WorkerSettings]:
    """The settings of those of these generations that reserve workers."""
    query = select(iteration.c.generation_id, iteration.c.workers)
    query = query.where(tables.one_of(iteration.c.generation_id, generation_ids), iteration.c.workers.is_not(None))
    return {row.generation_id: row.workers for row in connection.execute(query).all()}


def takes_place() -> ColumnElement[bool]:
    """Of a job: it is one that a batch system finds a place for. An order of a reserved worker needs none."""
    reserving = select(iteration.c.generation_id).where(iteration.c.workers.is_not(None))
    return or_(job.c.step <= 0, job.c.generation_id.not_in(reserving))


def create_missing(connection: Connection, row: Generation, stored: StoredWorkers) -> None:
    """Add the workers that are not there yet: all of them, or those that were added before a clear."""
    from airflow_calib_provider.ledger.generations import create_jobs

    here = (job.c.generation_id == row.id, job.c.step == WORKERS)
    known = int(connection.execute(select(func.count()).select_from(job).where(*here)).scalar_one())
    more = [stored["definition"]] * (stored["settings"]["count"] - known)
    if more:
        create_jobs(connection, row.id, WORKERS, Subject.of_generation(row), more, known)


class RefusedResult(NamedTuple):
    """A result that is not used.

    :ivar step: and what follows: as its name says; ``None``: it says nothing.
    """

    generation_id: int
    n: int
    step: int | None
    job_index: int | None
    attempt: int | None
    worker: int | None
    epoch: int | None
    file: str
    why: str
    seen_at: datetime


def refused_of(connection: Connection, generation_id: int) -> list[RefusedResult]:
    """The results of a generation that were not used, in the order in which they came."""
    query = select_of(RefusedResult, refused).where(refused.c.generation_id == generation_id)
    return read_rows(connection, query.order_by(refused.c.n), RefusedResult)


def note_refused(connection: Connection, row: Generation, items: Sequence[RefusedResult]) -> None:
    """Record results that are not used, with an event each.

    :param items: their numbers are given here.
    """
    last = connection.execute(select(func.max(refused.c.n)).where(refused.c.generation_id == row.id)).scalar() or 0
    rows = [item._replace(n=n)._asdict() for n, item in enumerate(items, start=int(last) + 1)]
    connection.execute(insert(refused), rows)
    subject = Subject.of_generation(row)
    append_events(
        connection,
        (
            {
                "entity": "step",
                "subject": Subject(**{**vars(subject), "job_index": item.job_index, "attempt": item.attempt}),
                "data": {"step": item.step, "refused": item.file, "worker": item.worker, "why": item.why},
            }
            for item in items
        ),
    )


def attempt_states(
    connection: Connection, generation_id: int, of: Iterable[tuple[int, int, int]]
) -> dict[tuple[int, int, int], str]:
    """The states of attempts, by step, job and number."""
    attempt = tables.attempt
    wanted = set(of)
    columns = (attempt.c.step, attempt.c.job_index, attempt.c.n, attempt.c.state)
    here = (attempt.c.generation_id == generation_id, attempt.c.step.in_({one[0] for one in wanted}))
    query = select(*columns).where(*here, attempt.c.job_index.in_({one[1] for one in wanted}))
    return {
        (row.step, row.job_index, row.n): row.state
        for row in connection.execute(query).all()
        if (row.step, row.job_index, row.n) in wanted
    }
