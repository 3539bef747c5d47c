"""The jobs of the steps at which generations are; of what does not iterate these are all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import JobCount, ReportingJob, read_rows

generation, job = tables.generation, tables.job

LIVE = ("waiting", "submitted", "running", "held")
BEGUN = ("submitted", "running", "held")
"""The states of jobs of which an attempt lives, which is in the state of the same name."""


def at_its_step(query: Select[Any], ids: Iterable[int]) -> Select[Any]:
    """A query of jobs, of those of the step at which each of these generations is."""
    query = query.join(generation, and_(generation.c.id == job.c.generation_id, generation.c.step == job.c.step))
    return query.where(tables.one_of(generation.c.id, ids))


def running_jobs(connection: Connection, generation_ids: Iterable[int]) -> list[ReportingJob]:
    """The jobs of these generations that run now, in order."""
    query = select(job.c.generation_id, job.c.job_index, job.c.attempt, job.c.progress)
    query = at_its_step(query.select_from(job), generation_ids).where(job.c.state == "running")
    return read_rows(connection, query.order_by(job.c.generation_id, job.c.job_index), ReportingJob)


def jobs_by_state(connection: Connection, generation_ids: Iterable[int], now: datetime) -> list[JobCount]:
    """How many jobs of these generations are in which state, and of how many of those that wait or are held it is time.

    A waiting job without a time is due; a held one without a time is a person's.
    """
    waits = and_(job.c.state == "waiting", job.c.retry_at.is_(None) | (job.c.retry_at <= now))
    due = case((waits | and_(job.c.state == "held", job.c.retry_at <= now), 1), else_=0)
    query = select(job.c.generation_id, job.c.state, func.count().label("n"), func.sum(due).label("n_due"))
    query = at_its_step(query.select_from(job), generation_ids)
    return read_rows(connection, query.group_by(job.c.generation_id, job.c.state), JobCount)


def held_due(connection: Connection, generation_ids: Iterable[int], now: datetime) -> list[tuple[int, int]]:
    """Generation and index of each held job of which the time has come."""
    query = at_its_step(select(job.c.generation_id, job.c.job_index).select_from(job), generation_ids)
    query = query.where(job.c.state == "held", job.c.retry_at <= now)
    return [(row.generation_id, row.job_index) for row in connection.execute(query).all()]
