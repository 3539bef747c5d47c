"""The watcher treats held jobs: those whose time has come are released, or their attempt is removed (rule 37)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain import failure_policy
from airflow_calib_provider.domain.failure_policy import Action
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.jobsets.judging import Judge, with_memory
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import observed
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation, Round

SETTLES = 30.0
"""Seconds in which a backend tells that what was released is not held any more: nothing is decided again before."""


def treat_held(
    ledger: Ledger, backend_of: Callable[[str], Backend], watched: Watched, now: datetime, base_delay: float
) -> None:
    """Do what is due about the held jobs of a generation: one call of the backend for each round and kind.

    :raises BackendError: the backend does not do it; it stays due.
    """
    known = watched.jobs_of(watched.held_due)
    due = [known[index] for index in sorted(watched.held_due) if known[index].state is JobState.HELD]
    if not due:
        return
    judge = Judge.of(watched.row, base_delay, now)
    to_release, to_end, to_leave = defaultdict(list), defaultdict(list), []
    with ledger.read() as connection:
        placed = observed.rounds_of_attempts(connection, watched.row.id, watched.row.step, due)
    for held in placed:
        match failure_policy.decide(held.job, judge.rules).action:
            case Action.RELEASE:
                to_release[held.round].append(held.job)
            case Action.WAIT:
                to_leave.append(held.job.index)
            case _:
                to_end[held.round].append(held.job)
    if to_leave:
        with ledger.write() as connection:
            observed.left_to_a_person(connection, watched.row, watched.row.step, to_leave)
    for item in watched.rounds:
        if to_release[item.n]:
            _release(ledger, backend_of(watched.row.backend), watched.row, item, to_release[item.n], judge)
        if to_end[item.n]:
            _end(ledger, backend_of(watched.row.backend), watched.row, item, to_end[item.n], judge)


def _release(ledger: Ledger, backend: Backend, row: Generation, item: Round, jobs: Sequence[Job], judge: Judge) -> None:
    """Whoever dies between backend and ledger has it done once more, which does nothing to what is not held."""
    crash_point("held.before_act", row.group_name)
    backend.release(item.key, [job.index for job in jobs])
    crash_point("held.after_act", row.group_name)
    pauses = {job.index: max(SETTLES, failure_policy.decide(job, judge.rules).after) for job in jobs}
    again = {index: judge.now + timedelta(seconds=pause) for index, pause in pauses.items()}
    with ledger.write() as connection:
        observed.released(connection, row, item.step, again, jobs)


def _end(ledger: Ledger, backend: Backend, row: Generation, item: Round, jobs: Sequence[Job], judge: Judge) -> None:
    """Whoever dies between backend and ledger leaves a removal that is understood, since it was due."""
    crash_point("held.before_act", row.group_name)
    backend.remove(item.key, [job.index for job in jobs])
    crash_point("held.after_act", row.group_name)
    changes, decisions = [], {}
    for job in jobs:
        removal = Observation(job.index, job.attempt, AttemptState.REMOVED, judge.now, host=job.host, start=job.start)
        found = judge.removed_while_held(job, removal)
        assert found is not None
        after, end, decisions[job.index] = found
        changes.append(judge.change(job, after, end, decisions[job.index]))
    with ledger.write() as connection:
        changes = with_memory(connection, row, item.step, changes, decisions)
        observed.store(connection, row, item.step, changes)
