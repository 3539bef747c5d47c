"""The watcher's step: submit, look, resubmit, end (rules 13–17).

One call serves all job sets of a process: one query for the generations, one for their rounds, one for their jobs, and
one poll of each backend. Any number of processes may do it at the same time for the same job sets: whoever stores news
first wins, the others look again at the next step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from airflow_calib_provider.backends.base import AttemptState, Backend, Observation, RoundKey, RoundObservations
from airflow_calib_provider.backends.reducer import Job, JobState, Limits, reduce, retry_delay
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import BackendError, CalibError, IllegalTransition, LedgerError, ProductError
from airflow_calib_provider.jobsets.folders import attempt_folder, promote
from airflow_calib_provider.jobsets.render import submission
from airflow_calib_provider.jobsets.reports import Report, read_outcome
from airflow_calib_provider.ledger import generations, observed
from airflow_calib_provider.ledger.engine import Ledger, take_turns
from airflow_calib_provider.ledger.reasons import Reason

RETRY_DELAY = 10.0
"""Seconds before a job's second attempt; doubled for each further one."""


@dataclass(frozen=True)
class Standing:
    """How a generation stands after a step.

    :ivar state: ``running``, ``done``, ``failed``; ``unknown`` to this ledger.
    :ivar trouble: why this step could not take it further; empty if it could. The next one tries again.
    """

    generation_id: int
    state: str
    reason: Reason | None
    counts: Mapping[str, int]
    trouble: str = ""


@dataclass
class _Watched:
    """A running generation.

    :ivar due: whether a job waits whose delay is over.
    """

    row: Any
    rounds: list[Any]
    jobs: dict[int, Job]
    due: bool


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
    :raises BackendError: a backend does not answer, for none of these generations; what was done until then is stored.
        Where others could be taken further, it stands in ``trouble``.
    """
    ids = sorted(set(generation_ids))
    troubles: dict[int, BackendError] = {}
    for watched in _load(ledger, ids, now):
        if watched.due or any(item.state == "planned" for item in watched.rounds):
            with _own_trouble(troubles, watched.row.id):
                _submit_due(ledger, backend_of(watched.row.backend), watched.row, now)
    for name, watched_here in _by_backend(_load(ledger, ids, now)).items():
        with _own_trouble(troubles, *(watched.row.id for watched in watched_here)):
            backend = backend_of(name)
            try:
                _poll(ledger, backend, watched_here, now, base_delay)
            except BackendError:
                if len(watched_here) == 1:
                    raise
                # One round that is damaged must not hide the news of all others.
                for watched in watched_here:
                    with _own_trouble(troubles, watched.row.id):
                        _poll(ledger, backend, [watched], now, base_delay)
    for watched in _load(ledger, ids, now):
        with _own_trouble(troubles, watched.row.id):
            _end_if_complete(ledger, backend_of, watched, now)
    if ids and len(troubles) == len(ids):
        raise next(iter(troubles.values()))
    return _standings(ledger, ids, troubles)


@contextmanager
def _own_trouble(troubles: dict[int, BackendError], *ids: int) -> Iterator[None]:
    """Let one generation's trouble be its own: the others go on."""
    try:
        yield
    except IllegalTransition:
        pass  # another watcher was faster
    except LedgerError:
        raise  # concerns all
    except BackendError as error:
        troubles.update(dict.fromkeys(ids, error))
    except OSError as error:
        troubles.update(dict.fromkeys(ids, BackendError(f"the files of the job set cannot be used: {error}")))
    except Exception as error:  # noqa: BLE001 - a job set that nothing can be done with must not hold up the others
        said = str(error) if isinstance(error, CalibError) else f"{type(error).__name__}: {error}"
        troubles.update(dict.fromkeys(ids, BackendError(said)))


def _load(ledger: Ledger, ids: Sequence[int], now: datetime) -> list[_Watched]:
    with ledger.read() as connection:
        rows = generations.running(connection, ids)
        live = [row.id for row in rows]
        rounds: dict[int, list[Any]] = defaultdict(list)
        jobs: dict[int, dict[int, Job]] = defaultdict(dict)
        due = set()
        for item in generations.rounds_of(connection, live, ["planned", "submitted"]):
            rounds[item.generation_id].append(item)
        for item in generations.job_states_of(connection, live):
            jobs[item.generation_id][item.job_index] = generations.as_job(item)
            if item.state == "waiting" and (item.retry_at is None or item.retry_at <= now):
                due.add(item.generation_id)
    return [_Watched(row, rounds[row.id], jobs[row.id], row.id in due) for row in rows]


def _by_backend(watched: Iterable[_Watched]) -> dict[str, list[_Watched]]:
    result = defaultdict(list)
    for item in watched:
        result[item.row.backend].append(item)
    return result


def _submit_due(ledger: Ledger, backend: Backend, row: Any, now: datetime) -> None:
    """Plan a round of the jobs that are due, and submit every planned round: first the ledger, then the backend."""
    with suppress(IllegalTransition, IntegrityError), ledger.write() as connection:
        # Another watcher may have planned it, or somebody have ended the generation: then there is nothing to plan.
        take_turns(connection, f"generation {row.id}")
        if generations.states_of(connection, [row.id])[row.id].state == "running":
            generations.plan_round(connection, row, now)
    with ledger.read() as connection:
        planned = generations.rounds_of(connection, [row.id], ["planned"])
    for item in planned:
        with ledger.read() as connection:
            listed = generations.jobs_of_round(connection, row.id, item.step, item.n)
        jobs = [submission(row, job.job_index, job.attempt_n, job.definition, job.request_memory) for job in listed]
        crash_point("round.before_submit", row.group_name)
        backend.submit(RoundKey.parse(item.key), jobs, row.options)
        crash_point("round.after_submit", row.group_name)
        _record_submission(ledger, backend, row, item, now)
        crash_point("round.after_record", row.group_name)


def _record_submission(ledger: Ledger, backend: Backend, row: Any, item: Any, now: datetime) -> None:
    with ledger.write() as connection:
        if generations.round_submitted(connection, row, item, now):
            return
        state = generations.round_state(connection, item)
    if state == "finished":
        # A kill, or the end of the generation, came between plan and submission, and found nothing to remove.
        backend.remove(RoundKey.parse(item.key))


def _poll(ledger: Ledger, backend: Backend, watched: Sequence[_Watched], now: datetime, base_delay: float) -> None:
    cursors = {
        RoundKey.parse(item.key): item.cursor for one in watched for item in one.rounds if item.state == "submitted"
    }
    if not cursors:
        return
    news = backend.poll(cursors)
    for one in watched:
        with suppress(IllegalTransition):  # another watcher was faster, or a person's kill; the next step sees it
            _apply_all(ledger, one, news, now, base_delay)


def _apply_all(
    ledger: Ledger, watched: _Watched, news: Mapping[RoundKey, RoundObservations], now: datetime, base_delay: float
) -> None:
    limits = Limits(retries=watched.row.retries)
    for item in watched.rounds:
        seen = news.get(RoundKey.parse(item.key))
        if seen is None:
            continue
        if not seen.observations and seen.cursor == item.cursor and not seen.finished:
            continue
        observations = [*seen.observations, *(_vanished(ledger, item, now) if seen.finished else [])]
        changes = _changes(watched, observations, limits, base_delay, now)
        crash_point("jobs.before_apply", watched.row.group_name)
        with ledger.write() as connection:
            if not observed.apply(connection, watched.row, item, changes, seen.cursor):
                return  # another watcher stored these news
            if seen.finished:
                generations.finish_round(connection, watched.row, item)
        crash_point("jobs.after_apply", watched.row.group_name)
        for change in changes:
            if change.after.state is JobState.SUCCEEDED and change.after.accepted_attempt is not None:
                with suppress(ProductError):  # told when the generation ends
                    promote(
                        watched.row.folder, change.after.index, change.after.accepted_attempt, watched.row.group_name
                    )


def _vanished(ledger: Ledger, item: Any, now: datetime) -> list[Observation]:
    """What to think of the attempts of a round of which no news will come: lost, unless their end is known already."""
    with ledger.read() as connection:
        attempts = generations.attempts_of_round(connection, item)
    reason = "the backend does not know of it any more"
    return [Observation(index, number, AttemptState.LOST, now, reason=reason) for index, number in attempts]


def _changes(
    watched: _Watched, observations: Sequence[Observation], limits: Limits, base_delay: float, now: datetime
) -> list[observed.JobChange]:
    """The net change of each job: what several observations made of it counts once."""
    changes: dict[int, observed.JobChange] = {}
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
        changes[job.index] = observed.JobChange(
            before, after, observation, now + timedelta(seconds=delay), None, report.values, report.products
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


def jobs_needed(quorum: float, n_jobs: int) -> int:
    """How many jobs must succeed (rule 17)."""
    # 0.07 × 100 is 7.000000000000001 in floating point: it must not ask for an eighth job.
    return max(1, math.ceil(quorum * n_jobs - 1e-9))


def _end_if_complete(ledger: Ledger, backend_of: Callable[[str], Backend], watched: _Watched, now: datetime) -> None:
    row, jobs = watched.row, list(watched.jobs.values())
    accepted = [job for job in jobs if job.state is JobState.SUCCEEDED]
    live = [job for job in jobs if not job.state.final]
    complete = len(accepted) >= jobs_needed(row.quorum, len(jobs))
    if not complete and live:
        return
    try:
        for job in accepted:
            if job.accepted_attempt is not None:
                promote(row.folder, job.index, job.accepted_attempt, row.group_name)
    except ProductError as error:
        remove_jobs(backend_of(row.backend), watched.rounds)
        _end(ledger, row, "failed", {"code": "error", "message": str(error)}, now)
        return
    if complete:
        if live:
            remove_jobs(backend_of(row.backend), watched.rounds)
        left_out = [job.index for job in jobs if job.state is not JobState.SUCCEEDED]
        _end(ledger, row, "done", {"code": "done", "n_jobs": len(jobs), "left_out": left_out}, now)
    else:
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


def _standings(ledger: Ledger, ids: Sequence[int], troubles: Mapping[int, BackendError]) -> dict[int, Standing]:
    with ledger.read() as connection:
        counts = generations.job_counts(connection, ids)
        rows = generations.states_of(connection, ids)
    # One that is gone, with the ledger that it was in, must end its watch and not that of the others.
    standings = {unknown: Standing(unknown, "unknown", None, {}) for unknown in ids if unknown not in rows}
    for row in rows.values():
        trouble = str(troubles.get(row.id, ""))
        standings[row.id] = Standing(row.id, row.state, row.reason, counts.get(row.id, {}), trouble)
    return standings
