"""Ending the jobs that live: of a step that is frozen, or of a generation that ends."""

from __future__ import annotations

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.ledger import rounds, tables
from airflow_calib_provider.ledger.present_jobs import BEGUN, LIVE
from airflow_calib_provider.ledger.rows import Generation
from airflow_calib_provider.ledger.transitions import Move, Subject, job_key, move


def end_live(connection: Connection, row: Generation, state: JobState, step: int | None = None) -> None:
    """Let jobs that live be in this state, their attempts removed, and their rounds finished.

    :param step: only the jobs of this one.
    :raises IllegalTransition: another process was faster.
    """
    job, attempt = tables.job, tables.attempt
    here = [job.c.generation_id == row.id, job.c.state.in_(LIVE)]
    if step is not None:
        here.append(job.c.step == step)
    subject = Subject.of_generation(row)
    jobs, attempts = [], []
    for one in connection.execute(select(job).where(*here)).all():
        of_job = Subject(**{**vars(subject), "job_index": one.job_index})
        jobs.append(Move(job_key(one), one.state, state, of_job))
        if one.state in BEGUN:
            of_attempt = Subject(**{**vars(of_job), "attempt": one.attempt})
            attempts.append(Move({**job_key(one), "n": one.attempt}, one.state, AttemptState.REMOVED, of_attempt))
    move(connection, job, jobs)
    move(connection, attempt, attempts)
    rounds.finish_all(connection, row, step)
