"""The watcher looks after reserved workers: submits them, replaces those that are lost, gives them their orders.

The workers of a generation are jobs of a step of their own, and their epochs are attempts: what is submitted, found
again and removed is so as for any other job. What the mailbox says is made of the ledger alone, after its commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from airflow_calib_provider.backends.base import Backend, let_go
from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.failure_policy import Decision
from airflow_calib_provider.domain.iteration.reserving import (
    HandedOver,
    Order,
    Worker,
    check_content,
    current_text,
    leaving,
    lost,
    serial_of,
    share_out,
    why_refused,
)
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import Job, JobState, RetryLimits, reduce
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.jobsets.ending import jobs_needed
from airflow_calib_provider.jobsets.folders import generation_folder
from airflow_calib_provider.jobsets.judging import Judge
from airflow_calib_provider.jobsets.mailbox import AwaitedResults, Mailbox, named
from airflow_calib_provider.jobsets.observing import poll_one
from airflow_calib_provider.jobsets.reserved import Crew, Reserved
from airflow_calib_provider.jobsets.submitting import submit_due
from airflow_calib_provider.jobsets.watched import Watched, workers_folder
from airflow_calib_provider.ledger import observed, rounds, throttle, workers
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.observed import JobChange
from airflow_calib_provider.ledger.rows import Generation
from airflow_calib_provider.ledger.steps import StepRow
from airflow_calib_provider.ledger.workers import WORKERS, RefusedResult, WorkerSettings

LIVING = (JobState.SUBMITTED, JobState.RUNNING, JobState.HELD)

GOODBYE = 10.0
"""Seconds for which workers that are told to leave are waited for."""

_LEFT = "its wall time was nearly over"


def mailbox_of(row: Generation) -> Mailbox:
    """The mailbox of a generation.

    :param row: at any of its steps.
    """
    return Mailbox(generation_folder(f"{workers_folder(row)}/mailbox"))


@dataclass
class Pool:
    """The workers of a generation.

    :ivar watched: they, as a job set.
    """

    settings: WorkerSettings
    watched: Watched
    mailbox: Mailbox

    def crew(self) -> Crew:
        """As they are now."""
        settings, jobs = self.settings, self.watched.all_jobs()
        present = frozenset(Worker(job.index, job.attempt) for job in jobs if job.state in LIVING)
        beats = self.mailbox.beats(sorted(worker.number for worker in present))
        resources = Resources(settings["cpus"], settings["memory"], settings["disk"], settings["gpus"])
        return Crew(present, beats, resources, settings["options"])


def pool_of(watched: Watched) -> Pool | None:
    """The workers of a generation, if it reserves any."""
    if watched.workers is None or watched.crew is None:
        return None
    return Pool(watched.workers, watched.crew, mailbox_of(watched.row))


def with_workers(backend_of: Callable[[str], Backend], watched: Watched) -> Callable[[str], Backend]:
    """Where the jobs of a generation run: its workers do them, if it reserves any."""
    pool = pool_of(watched)
    if pool is None:
        return backend_of

    def found(name: str) -> Backend:
        return Reserved(backend_of(name), pool.mailbox, pool.crew(), watched.row.folder)

    return found


# replacing


@dataclass(frozen=True)
class WorkerJudge(Judge):
    """However a worker ends while the generation runs, another takes its place, unless too many have been replaced.

    :ivar spent: one for each replacement.
    """

    most: int = 0
    spent: list[int] = field(default_factory=list)

    def judge(self, job: Job, seen: Observation) -> tuple[Job, Observation, Decision | None]:
        """The worker after an observation, and the observation as it counts."""
        if not seen.state.final:
            return reduce(job, seen, _FOR_EVER), seen, None
        if seen.state is AttemptState.SUCCEEDED:
            # By itself, when nobody wanted it any more: only of one that was to be replaced.
            return self.replaced(job, seen, seen.reason or _LEFT, counted=False)
        said = _ENDED.get(seen.exit_code or 0) or seen.reason or f"it has ended: {_how(seen)}"
        return self.replaced(job, seen, said, counted=True)

    def replaced(
        self, job: Job, seen: Observation, reason: str, *, counted: bool
    ) -> tuple[Job, Observation, Decision | None]:
        """The worker with its epoch over."""
        gone = replace(seen, state=AttemptState.LOST, reason=reason, failure=seen.failure or FailureClass.LOST)
        if not counted:
            after = reduce(job, gone, _FOR_EVER)
            return replace(after, losses=job.losses), gone, None
        give_up = len(self.spent) >= self.most
        if give_up:
            gone = replace(gone, reason=f"{reason}; no replacement is left, of {self.most}")
        else:
            self.spent.append(job.index)
        return reduce(job, gone, _FOR_EVER, give_up=give_up), gone, None

    def change(self, before: Job, after: Job, seen: Observation, decision: Decision | None) -> JobChange:
        """The change to be stored: a replacement is due at once."""
        return JobChange(before, after, seen, self.now if after.state is JobState.WAITING else None)


_OTHER_CONSTANTS = "the constants that it saw were not what they should be"

_ENDED = {
    70: "three programs have failed in it one after the other",
    71: _OTHER_CONSTANTS,
    72: "it could not reach the mailbox with condor_chirp and tar",
    75: "the mailbox was silent for too long",
}
"""What the exit codes of the program of a worker mean."""

_FOR_EVER = RetryLimits(retries=1 << 30, infrastructure_retries=1 << 30)


def _how(seen: Observation) -> str:
    if seen.signal is not None:
        return f"signal {seen.signal}"
    return str(seen.state) if seen.exit_code is None else f"exit code {seen.exit_code}"


def _judge(pool: Pool, now: datetime) -> WorkerJudge:
    spent = [job.index for job in pool.watched.all_jobs() for _ in range(job.losses)]
    base = Judge.of(pool.watched.row, 0.0, now)
    most = pool.settings["max_replacements"]
    return WorkerJudge(base.backend, base.limits, base.rules, 0.0, now, most=most, spent=spent)


def tend(ledger: Ledger, backend: Backend, watched: Watched, now: datetime) -> None:
    """Submit workers that are due, and see which have ended, or are lost.

    :raises BackendError: the batch system does not answer.
    """
    pool = pool_of(watched)
    if pool is None:
        return
    crew = pool.watched
    if watched.hold.state not in throttle.HELD and (crew.due or any(item.state == "planned" for item in crew.rounds)):
        watched.stale = True
        pool.mailbox.prepare()
        pool.mailbox.open()
        submit_due(ledger, backend, crew.row, now)
    if any(item.state == "submitted" for item in crew.rounds):
        poll_one(ledger, backend, crew, _judge(pool, now))
    watched.stale = watched.stale or crew.stale
    if not crew.stale:
        _replace(ledger, backend, watched, pool, now)


def _replace(ledger: Ledger, backend: Backend, watched: Watched, pool: Pool, now: datetime) -> None:
    """Workers that give no sign of life, are held, or are about to leave: the next epoch of each begins."""
    jobs = {Worker(job.index, job.attempt): job for job in pool.watched.all_jobs()}
    running = {
        worker: (now - job.start).total_seconds()
        for worker, job in jobs.items()
        if job.state is JobState.RUNNING and job.start is not None
    }
    beats = pool.mailbox.beats(sorted(worker.number for worker in running))
    lost_after = pool.settings["lost_after"]
    why = dict.fromkeys(lost(beats, running, lost_after), f"no sign of life for {lost_after:g} s")
    held = {one: job for one, job in jobs.items() if job.state is JobState.HELD}
    why |= {one: f"held: {job.reason or 'by the batch system'}" for one, job in held.items()}
    busy = {worker.number for worker in _given(watched, pool).values()}
    early = [one for one in leaving(beats, running, busy) if one not in why]
    if not why and not early:
        return
    watched.stale = True
    judge = _judge(pool, now)
    with ledger.read() as connection:
        placed = observed.rounds_of_attempts(connection, watched.row.id, WORKERS, [jobs[one] for one in (*why, *early)])
    by_round: dict[int, list[int]] = {}
    for item in placed:
        by_round.setdefault(item.round, []).append(item.job.index)
    crash_point("worker.before_replace", watched.row.group_name)
    for one in pool.watched.rounds:
        if one.n in by_round:
            let_go(backend, one.key, by_round[one.n])
    changes = []
    for worker in (*why, *early):
        job = jobs[worker]
        seen = Observation(job.index, job.attempt, AttemptState.LOST, now, failure=FailureClass.LOST)
        reason = why.get(worker, _LEFT)
        after, counted, _ = judge.replaced(job, seen, reason, counted=worker in why)
        changes.append(judge.change(job, after, counted, None))
    with ledger.write() as connection:
        observed.store(connection, pool.watched.row, WORKERS, changes)
    crash_point("worker.after_replace", watched.row.group_name)


# orders


def _open(watched: Watched) -> tuple[list[Order], list[Job]]:
    """The orders of the step that are not done, as far as they are in the mailbox, and all of its jobs."""
    jobs = watched.all_jobs()
    step = watched.row.step
    return [Order(step, job.index, job.attempt) for job in jobs if job.state in LIVING], jobs


def _given(watched: Watched, pool: Pool) -> dict[Order, Worker]:
    """Who has which of the orders that are open."""
    orders, _ = _open(watched)
    return {order: worker for order in orders if (worker := pool.mailbox.given(order)) is not None}


def give_orders(watched: Watched) -> AwaitedResults | None:
    """Let the mailbox say what the ledger wants.

    :returns: what there is to wait for, if any order is open.
    :raises OSError: it cannot be written.
    """
    pool = pool_of(watched)
    if pool is None or not pool.mailbox.prepared:
        return None
    row, mailbox = watched.row, pool.mailbox
    orders, jobs = _open(watched)
    here = {order for item in watched.rounds for order in mailbox.orders_of(item.key) or ()}
    orders = [order for order in orders if order in here]
    crew = pool.crew()
    alive = crew.alive
    given = {order: mailbox.given(order) for order in orders}
    busy = {worker.number for worker in given.values() if worker is not None and worker in crew.present}
    free = [order for order, worker in given.items() if worker is None]
    for order, number in share_out(free, alive.keys() - busy, alive.keys()).items():
        mailbox.give(order, alive[number])
        given[order] = mailbox.given(order)
    crash_point("mailbox.after_give", row.group_name)
    wanted = {worker.number: order for order, worker in given.items() if worker is not None and worker in crew.present}
    epochs = {worker.number: worker.epoch for worker in crew.present}
    attempts = [job.attempt for job in jobs]
    n_given = len({order for order in _all_orders(row.step, jobs) if mailbox.given(order) is not None})
    every = [job.attempt for job in pool.watched.all_jobs()]
    crash_point("mailbox.before_say", row.group_name)
    mailbox.say(current_text(serial_of(row.step, every, attempts, n_given), epochs, wanted))
    crash_point("mailbox.after_say", row.group_name)
    succeeded = sum(job.state is JobState.SUCCEEDED for job in jobs)
    enough = jobs_needed(row.quorum, len(jobs)) - succeeded
    # Whoever has nothing to do any more is given what nobody has yet.
    n = 1 if None in given.values() else max(1, min(len(orders), enough))
    return AwaitedResults(str(mailbox.folder / "results"), n) if orders else None


def _all_orders(step: int, jobs: Iterable[Job]) -> list[Order]:
    return [Order(step, job.index, number) for job in jobs for number in range(1, job.attempt + 1)]


def dismiss(backend: Backend, watched: Watched) -> None:
    """The iteration is about to end: its workers are told so, and give their places back.

    :raises BackendError: they could not be removed.
    """
    pool = pool_of(watched)
    if pool is None:
        return
    with suppress(OSError):
        pool.mailbox.say(current_text(1 << 60, {}, {}, stop=True))
    for item in pool.watched.rounds:
        let_go(backend, item.key, patience=GOODBYE)


def sweep(ledger: Ledger, backend: Backend, watched: Watched) -> None:
    """The iteration has ended: workers that another watcher has submitted in the place of those dismissed go, too.

    Were this never reached, housekeeping would find them.

    :raises BackendError: they could not be removed.
    """
    pool = pool_of(watched)
    if pool is None:
        return
    known = {item.n for item in pool.watched.rounds}
    with ledger.read() as connection:
        made = rounds.in_states(connection, [watched.row.id], ["finished"])
    newest = max(known, default=-1)
    for item in made:
        if item.step == WORKERS and item.n > newest:
            let_go(backend, item.key, patience=GOODBYE)
    with suppress(OSError):
        pool.mailbox.say(current_text(1 << 60, {}, {}, stop=True))


# results that are not used


def put_away(ledger: Ledger, watched: Watched, now: datetime) -> None:
    """What lies in the mailbox and is on record is put aside; what is not used is recorded as such.

    :raises OSError: the mailbox cannot be written.
    """
    pool = pool_of(watched)
    names = named(pool.mailbox.handed_over()) if pool is not None else []
    if pool is None or not names:
        return
    mailbox, row = pool.mailbox, watched.row
    orders = [name.order for _, name in names if name is not None]
    with ledger.read() as connection:
        states = workers.attempt_states(connection, row.id, orders) if orders else {}
    present = {worker.number: worker.epoch for worker in pool.crew().present}
    refused = {}
    for file, name in names:
        state = states.get(name.order) if name is not None else None
        why = "its name says nothing" if name is None else _why_refused(mailbox, name, present, state)
        if why is not None:
            refused[file] = _as_refused(row.id, file, name, why, now)
        elif state in ("succeeded", "failed"):
            mailbox.put_away(file, refused=False)
    if refused:
        _refuse(ledger, row, mailbox, refused)


def _as_refused(generation_id: int, file: str, name: HandedOver | None, why: str, now: datetime) -> RefusedResult:
    # Bytes that are no text are told as such.
    file = os.fsencode(file).decode(errors="backslashreplace")
    if name is None:
        return RefusedResult(generation_id, 0, None, None, None, None, None, file, why, now)
    return RefusedResult(generation_id, 0, *name.order, *name.worker, file, why, now)


def _why_refused(mailbox: Mailbox, name: HandedOver, present: Mapping[int, int], state: str | None) -> str | None:
    assigned = mailbox.given(name.order)
    why = why_refused(name, assigned, present, state, again=mailbox.came_again(name))
    if state == "lost" and assigned == name.worker:
        return check_content(mailbox.result(name), name) or why
    return why


def _refuse(ledger: Ledger, row: Generation, mailbox: Mailbox, refused: Mapping[str, RefusedResult]) -> None:
    crash_point("mailbox.before_refuse", row.group_name)
    try:
        with ledger.write() as connection:
            # Whoever died here has recorded them already.
            known = {item.file for item in workers.refused_of(connection, row.id)}
            if news := [item for item in refused.values() if item.file not in known]:
                workers.note_refused(connection, row, news)
    except IntegrityError:
        return  # another watcher records them just now, and puts them away
    crash_point("mailbox.after_refuse", row.group_name)
    for file in refused:
        mailbox.put_away(file, refused=True)


NO_WORKER = "no worker is left"


def stuck(watched: Watched, item: StepRow) -> str:
    """Why a step cannot go on: no worker is left, or none could work with the constants as they are; else empty."""
    if watched.crew is None:
        return ""
    jobs = watched.crew.all_jobs()
    if any(job.reason == _OTHER_CONSTANTS for job in jobs):
        # Each would spend a replacement on it, one after the other.
        file = generation_folder(item.constants)
        with suppress(OSError):
            try:
                if checksum(file) != item.constants_hash:
                    return f"its constants are not what they were: {file}"
            except (FileNotFoundError, PermissionError) as error:
                return f"its constants cannot be read: {error}"
    if not jobs or any(not job.state.final for job in jobs):
        return ""
    said = next((job.reason for job in jobs if job.reason), "")
    return f"{NO_WORKER}: {said}"
