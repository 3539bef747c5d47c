"""The watcher ends a generation: the quorum is reached, or nothing is left to try (rules 16, 17)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.errors import IllegalTransition, ProductError, SubmissionRefused
from airflow_calib_provider.jobsets.folders import promote
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import generations, rounds
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation, Round
from airflow_calib_provider.ledger.steering import cancelled_reason


def jobs_needed(quorum: float, n_jobs: int) -> int:
    """How many jobs must succeed (rule 17)."""
    # 0.07 × 100 is 7.000000000000001 in floating point: it must not ask for an eighth job.
    return max(1, math.ceil(quorum * n_jobs - 1e-9))


def end_if_complete(ledger: Ledger, backend_of: Callable[[str], Backend], watched: Watched, now: datetime) -> None:
    """End a generation that needs nothing more, with the products of its accepted jobs in their places.

    :raises BackendError: jobs that are not needed any more could not be removed.
    """
    row, counts = watched.row, watched.counts
    if any(counts.get(state) for state in generations.LIVE):
        succeeded, total = counts.get(JobState.SUCCEEDED, 0), sum(counts.values())
        if succeeded < jobs_needed(row.quorum, total):
            return
    jobs = watched.all_jobs()
    accepted = [job for job in jobs if job.state is JobState.SUCCEEDED]
    live = [job for job in jobs if not job.state.final]
    complete = len(accepted) >= jobs_needed(row.quorum, len(jobs))
    if not complete and live:
        return
    try:
        attempts = {job.index: job.accepted_attempt for job in accepted if job.accepted_attempt is not None}
        promote(row.folder, attempts, row.group_name)
    except ProductError as error:
        remove_jobs(backend_of(row.backend), watched.rounds)
        _end(ledger, watched, "failed", {"code": "error", "message": str(error)}, now)
        return
    if complete:
        if live:
            remove_jobs(backend_of(row.backend), watched.rounds)
        left_out = [job.index for job in jobs if job.state is not JobState.SUCCEEDED]
        _end(ledger, watched, "done", {"code": "done", "n_jobs": len(jobs), "left_out": left_out}, now)
    else:
        failed = [job for job in jobs if job.state is not JobState.SUCCEEDED]
        reason = {
            "code": "jobs_failed",
            "n_failed": len(failed),
            "n_jobs": len(jobs),
            "failed": [[job.index, describe(job)] for job in failed[:20]],
        }
        _end(ledger, watched, "failed", reason, now)


def end_refused(ledger: Ledger, row: Generation, item: Round, error: SubmissionRefused, now: datetime) -> None:
    """End a generation whose jobs the batch system will not have as they are.

    While jobs of other rounds live, only the refused ones fail: the generation ends with the last of its jobs.
    """
    said = f"the jobs cannot be submitted: {error}"
    with suppress(IllegalTransition), ledger.write() as connection:
        others = rounds.in_states(connection, [row.id], ["submitted"])
        rounds.refuse(connection, row, item, said, now)
        if not others:
            generations.end(connection, row, "failed", {"code": "error", "message": said}, now)


def end_cancelled(ledger: Ledger, backend_of: Callable[[str], Backend], row: Generation, now: datetime) -> None:
    """End a generation whose campaign is cancelled: its jobs are removed, and what it published stays (rule 56).

    :raises BackendError: the jobs could not be removed; nothing was recorded.
    """
    with ledger.read() as connection:
        left = rounds.in_states(connection, [row.id], ["planned", "submitted"])
    crash_point("cancel.before_remove", row.group_name)
    if left:
        remove_jobs(backend_of(row.backend), left)
    crash_point("cancel.after_remove", row.group_name)
    reason = cancelled_reason(row.campaign)
    with suppress(IllegalTransition), ledger.write() as connection:  # else it ended meanwhile
        generations.end(connection, generations.by_id(connection, row.id), "failed", reason, now)


def _end(ledger: Ledger, watched: Watched, target: str, reason: Reason, now: datetime) -> None:
    row, watched.stale = watched.row, True
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


def remove_jobs(backend: Backend, left: Iterable[Round]) -> None:
    """Remove what is left of these rounds.

    :raises BackendError: they could not be removed.
    """
    for item in left:
        backend.remove(item.key)
