"""The watcher's step: submit, look, resubmit, end (rules 13–17).

One call serves all job sets of a process: one query for the generations, one for their rounds, one for their jobs, and
one poll of each backend. Any number of processes may do it at the same time for the same job sets: whoever stores news
first wins, the others look again at the next step.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_calib_provider.backends.base import AttemptState, Backend, Observation, RoundKey, RoundObservations
from airflow_calib_provider.backends.reducer import Job, JobState, Limits, reduce, retry_delay
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import IllegalTransition, ProductError
from airflow_calib_provider.jobsets.folders import attempt_folder, promote
from airflow_calib_provider.jobsets.render import submission
from airflow_calib_provider.jobsets.reports import Report, read_outcome
from airflow_calib_provider.ledger import generations
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.reasons import Reason

RETRY_DELAY = 10.0
"""Seconds before a job's second attempt; doubled for each further one."""


@dataclass(frozen=True)
class Standing:
    """How a generation stands after a step."""

    generation_id: int
    state: str
    reason: Reason | None
    counts: Mapping[str, int]


@dataclass
class _Watched:
    row: Any
    rounds: list[Any]
    jobs: dict[int, Job]


def advance(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    generation_ids: Iterable[int],
    now: datetime,
    base_delay: float = RETRY_DELAY,
) -> dict[int, Standing]:
    """Take every one of these generations as far as it goes now.

    :param backend_of: a backend by name.
    :param base_delay: seconds before the second attempt of a job.
    :raises BackendError: a backend does not answer; what was done until then is stored.
    """
    ids = sorted(set(generation_ids))
    for watched in _load(ledger, ids):
        _submit_due(ledger, backend_of(watched.row.backend), watched.row, now)
    for backend_name, watched_here in _by_backend(_load(ledger, ids)).items():
        backend = backend_of(backend_name)
        cursors = {RoundKey.parse(item.key): item.cursor for watched in watched_here for item in watched.rounds}
        news = backend.poll(cursors) if cursors else {}
        for watched in watched_here:
            _apply_all(ledger, watched, news, now, base_delay)
    for watched in _load(ledger, ids):
        _end_if_complete(ledger, backend_of(watched.row.backend), watched, now)
    return _standings(ledger, ids)


def _load(ledger: Ledger, ids: Sequence[int]) -> list[_Watched]:
    with ledger.read() as connection:
        rows = generations.running(connection, ids)
        live = [row.id for row in rows]
        rounds, jobs = defaultdict(list), defaultdict(dict)
        for item in generations.rounds_of(connection, live, ["planned", "submitted"]):
            rounds[item.generation_id].append(item)
        for item in generations.jobs_of(connection, live):
            jobs[item.generation_id][item.job_index] = generations.as_job(item)
    return [_Watched(row, rounds[row.id], jobs[row.id]) for row in rows]


def _by_backend(watched: Iterable[_Watched]) -> dict[str, list[_Watched]]:
    result = defaultdict(list)
    for item in watched:
        result[item.row.backend].append(item)
    return result


def _submit_due(ledger: Ledger, backend: Backend, row: Any, now: datetime) -> None:
    """Plan a round of the jobs that are due, and submit every planned round: first the ledger, then the backend."""
    try:
        with ledger.write() as connection:
            generations.plan_round(connection, row, now)
    except IllegalTransition:
        return  # another watcher planned it; it, or the next step, submits
    with ledger.read() as connection:
        planned = generations.rounds_of(connection, [row.id], ["planned"])
    for item in planned:
        with ledger.read() as connection:
            listed = generations.jobs_of_round(connection, row.id, item.step, item.n)
        jobs = [submission(row, job.job_index, job.attempt_n, job.definition) for job in listed]
        crash_point("round.before_submit", row.group_name)
        backend.submit(RoundKey.parse(item.key), jobs)
        crash_point("round.after_submit", row.group_name)
        with ledger.write() as connection:
            generations.round_submitted(connection, row, item, now)
        crash_point("round.after_record", row.group_name)


def _apply_all(
    ledger: Ledger, watched: _Watched, news: Mapping[RoundKey, RoundObservations], now: datetime, base_delay: float
) -> None:
    limits = Limits(retries=watched.row.retries)
    for item in watched.rounds:
        seen = news.get(RoundKey.parse(item.key))
        if seen is None or item.state != "submitted":
            continue
        if not seen.observations and seen.cursor == item.cursor and not seen.finished:
            continue
        changes = _changes(watched, seen.observations, limits, base_delay)
        crash_point("jobs.before_apply", watched.row.group_name)
        with ledger.write() as connection:
            if generations.apply(connection, watched.row, item, changes, seen.cursor, now) and seen.finished:
                generations.finish_round(connection, watched.row, item)
        crash_point("jobs.after_apply", watched.row.group_name)


def _changes(
    watched: _Watched, observations: Sequence[Observation], limits: Limits, base_delay: float
) -> list[generations.JobChange]:
    """The net change of each job: what several observations made of it counts once."""
    changes: dict[int, generations.JobChange] = {}
    for observation in observations:
        job = watched.jobs.get(observation.index)
        if job is None:
            continue
        report = Report()
        if observation.state is AttemptState.SUCCEEDED and not job.state.final and observation.attempt == job.attempt:
            observation, report = _checked(watched.row, observation)
        after = reduce(job, observation, limits)
        if after == job:
            continue
        watched.jobs[job.index] = after
        before = changes[job.index].before if job.index in changes else job
        delay = retry_delay(after.failures + after.losses, base_delay)
        changes[job.index] = generations.JobChange(
            before, after, observation, timedelta(seconds=delay), report.values, report.products
        )
    return [change for change in changes.values() if change.before.state != change.after.state]


def _checked(row: Any, observation: Observation) -> tuple[Observation, Report]:
    """A job that ended well has succeeded only if its products and its report are as declared."""
    folder = attempt_folder(row.folder, observation.index, observation.attempt)
    try:
        return observation, read_outcome(folder, row.products)
    except ProductError as error:
        return replace(observation, state=AttemptState.FAILED, reason=str(error)), Report()
    except OSError as error:
        return replace(observation, state=AttemptState.FAILED, reason=f"its products cannot be read: {error}"), Report()


def _end_if_complete(ledger: Ledger, backend: Backend, watched: _Watched, now: datetime) -> None:
    row, jobs = watched.row, list(watched.jobs.values())
    accepted = [job for job in jobs if job.state is JobState.SUCCEEDED]
    for job in accepted:
        assert job.accepted_attempt is not None
        promote(row.folder, job.index, job.accepted_attempt, row.group_name)
    live = [job for job in jobs if not job.state.final]
    # 0.9 × 10 is 9.000000000000002 in floating point: it must not ask for a tenth job.
    needed = math.ceil(row.quorum * len(jobs) - 1e-9)
    if len(accepted) >= needed:
        if live:
            remove_jobs(backend, watched.rounds)
        left_out = [job.index for job in jobs if job.state is not JobState.SUCCEEDED]
        _end(ledger, row, "done", {"code": "done", "n_jobs": len(jobs), "left_out": left_out}, now)
    elif not live:
        failed = [job for job in jobs if job.state is not JobState.SUCCEEDED]
        reason = {
            "code": "jobs_failed",
            "n_failed": len(failed),
            "n_jobs": len(jobs),
            "failed": [[job.index, describe(job)] for job in failed[:20]],
        }
        _end(ledger, row, "failed", reason, now)


def _end(ledger: Ledger, row: Any, target: str, reason: Reason, now: datetime) -> None:
    crash_point("generation.before_done", row.group_name)
    try:
        with ledger.write() as connection:
            generations.end(connection, row, target, reason, now)
    except IllegalTransition:
        return  # another watcher, or a person's kill, ended it first
    crash_point("generation.after_done", row.group_name)


def describe(job: Job) -> str:
    """Why a job is not done, in a few words."""
    if job.reason:
        return job.reason
    if job.signal is not None:
        return f"killed by signal {job.signal}"
    if job.exit_code is not None:
        return f"exit code {job.exit_code}"
    return str(job.state)


def remove_jobs(backend: Backend, rounds: Iterable[Any]) -> None:
    """Remove what is left of these rounds.

    :raises BackendError: they could not be removed.
    """
    for item in rounds:
        backend.remove(RoundKey.parse(item.key))


def _standings(ledger: Ledger, ids: Sequence[int]) -> dict[int, Standing]:
    result = {}
    with ledger.read() as connection:
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        for item in generations.jobs_of(connection, ids):
            counts[item.generation_id][item.state] += 1
        for generation_id in ids:
            row = generations.by_id(connection, generation_id)
            result[generation_id] = Standing(generation_id, row.state, row.reason, dict(counts[generation_id]))
    return result
