"""The watcher submits: first the ledger, then the backend, then the ledger again (rule 13)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from airflow_calib_provider.backends.base import Backend, Frugal
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import IllegalTransition, SubmissionRefused
from airflow_calib_provider.jobsets.attempts import Attempts
from airflow_calib_provider.jobsets.ending import end_refused
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import rounds, throttle
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Generation, Round


def to_submit(ledger: Ledger, running: Iterable[Watched], now: datetime) -> list[Watched]:
    """Those with jobs that are due, or a round that is planned, as far as their campaigns let them (rule 56).

    What a throttle lets through is asked once for all of a campaign; the others need no transaction for it. Orders of
    reserved workers need no place: these have theirs.
    """
    wanted = [
        item
        for item in running
        if item.hold.state not in throttle.HELD and (item.due or any(one.state == "planned" for one in item.rounds))
    ]
    throttled = {item.row.campaign: item.hold for item in wanted if item.hold.max_jobs is not None}
    admitted: set[int] = set()
    if throttled:
        with ledger.read() as connection:
            for campaign, hold in throttled.items():
                admitted |= throttle.admitted(connection, campaign, hold, now)
    return [
        item
        for item in wanted
        if item.hold.max_jobs is None
        or item.crew is not None
        or item.row.id in admitted
        or any(one.state == "planned" for one in item.rounds)
    ]


def submit_due(ledger: Ledger, backend: Backend, row: Generation, now: datetime) -> None:
    """Plan a round of the jobs that are due, and submit every planned round.

    Jobs of a round that the backend refuses have failed, and with them the generation.

    :raises BackendError: a round could not be submitted; it stays planned.
    """
    with suppress(IllegalTransition, IntegrityError), ledger.write() as connection:
        # Another watcher may have planned it, or somebody have ended the generation: then there is nothing to plan.
        if throttle.may_plan(connection, row, now):
            rounds.plan(connection, row, now)
    with ledger.read() as connection:
        planned = rounds.in_states(connection, [row.id], ["planned"])
    for item in (one for one in planned if one.step == row.step):
        with ledger.read() as connection:
            listed = rounds.jobs_of(connection, row.id, item.step, item.n)
        attempts = Attempts(row, folders=not (isinstance(backend, Frugal) and backend.jobs_make_folders(row.options)))
        jobs = [attempts.of(job.job_index, job.attempt_n, job.definition, job.request_memory) for job in listed]
        crash_point("round.before_submit", row.group_name)
        try:
            backend.submit(item.key, jobs, row.options)
        except SubmissionRefused as error:
            # To try again would change nothing: a person is to correct the spec, and clear the task.
            end_refused(ledger, row, item, error, now)
            return
        crash_point("round.after_submit", row.group_name)
        _record(ledger, backend, row, item, now)
        crash_point("round.after_record", row.group_name)


def _record(ledger: Ledger, backend: Backend, row: Generation, item: Round, now: datetime) -> None:
    with ledger.write() as connection:
        if rounds.note_submitted(connection, row, item, now):
            return
        state = rounds.state_of(connection, item)
    if state == "finished":
        # A kill, or the end of the generation, came between plan and submission, and found nothing to remove.
        backend.remove(item.key)
