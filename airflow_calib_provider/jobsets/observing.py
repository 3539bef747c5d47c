"""The watcher looks: one poll of a backend, and its news stored together with the cursor (rules 13, 15, 16)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.failure_policy import Decision
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation, RoundObservations
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import IllegalTransition, ProductError
from airflow_calib_provider.jobsets.folders import attempt_name, attempts_folder, promote
from airflow_calib_provider.jobsets.judging import Judge, with_memory
from airflow_calib_provider.jobsets.lapses import blamed
from airflow_calib_provider.jobsets.reports import Report, read_outcome
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.ledger import observed, rounds
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.observed import JobChange
from airflow_calib_provider.ledger.rows import Generation, Round

MOST_ROWS = 1_500
"""Rows that news write in one transaction, but for those of one job: its time is what other writers wait for."""


def poll(
    ledger: Ledger, backend: Backend, watched: Sequence[Watched], now: datetime, base_delay: float
) -> dict[int, str]:
    """Ask a backend for the news of all rounds of some generations, and store them.

    :returns: what kept the backend from seeing everything, by generation.
    :raises BackendError: it does not answer.
    """
    cursors = {item.key: item.cursor for one in watched for item in one.rounds if item.state == "submitted"}
    if not cursors:
        return {}
    news = backend.poll(cursors)
    for one in watched:
        with suppress(IllegalTransition):  # another watcher was faster, or a person's kill; the next step sees it
            _apply_all(ledger, backend, one, news, Judge.of(one.row, base_delay, now))
    return {one.row.id: text for one in watched if (text := _trouble(one, news))}


def poll_one(ledger: Ledger, backend: Backend, watched: Watched, judge: Judge) -> None:
    """As :func:`poll`, of one job set, whose ends mean what ``judge`` says.

    :raises BackendError: it does not answer.
    """
    news = backend.poll({item.key: item.cursor for item in watched.rounds if item.state == "submitted"})
    with suppress(IllegalTransition):
        _apply_all(ledger, backend, watched, news, judge)


def _trouble(watched: Watched, news: Mapping[RoundKey, RoundObservations]) -> str:
    keys = [item.key for item in watched.rounds]
    said = dict.fromkeys(news[key].trouble for key in keys if key in news and news[key].trouble)
    return "; ".join(list(said)[:3])


@dataclass
class _News:
    """What the news of one round make of its jobs.

    :ivar jobs: as they are after it.
    :ivar condemned: jobs that have failed although their attempts live on.
    """

    jobs: dict[int, Job]
    changes: dict[int, JobChange] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    condemned: list[int] = field(default_factory=list)


def _apply_all(
    ledger: Ledger, backend: Backend, watched: Watched, news: Mapping[RoundKey, RoundObservations], judge: Judge
) -> None:
    for item in watched.rounds:
        seen = news.get(item.key)
        if seen is None:
            continue
        if not seen.observations and seen.cursor == item.cursor and not seen.finished:
            continue
        watched.stale = True
        observations = [*seen.observations, *(_vanished(ledger, item, judge.now) if seen.finished else [])]
        made = _changes(watched, observations, judge)
        if made.condemned:
            # Before it is on record: whoever comes after a death here reads the same news, and removes them again.
            backend.remove(item.key, made.condemned)
        crash_point("jobs.before_apply", watched.row.group_name)
        for last, changes in _batches(list(made.changes.values())):
            # With the last ones the cursor moves: after a death in between, all is told again, and known in part.
            cursor = seen.cursor if last else item.cursor
            with ledger.write() as connection:
                changes = with_memory(connection, watched.row, item.step, changes, made.decisions)
                if not observed.apply(connection, watched.row, item, changes, cursor):
                    return  # another watcher stored these news
                if last and seen.finished:
                    rounds.finish(connection, watched.row, item)
        watched.known.update(made.jobs)
        crash_point("jobs.after_apply", watched.row.group_name)
        accepted = {
            job.index: job.accepted_attempt
            for job in made.jobs.values()
            if job.state is JobState.SUCCEEDED and job.accepted_attempt is not None
        }
        with suppress(ProductError):  # told when the generation ends
            promote(watched.row.folder, accepted, watched.row.group_name)


def _batches(changes: Sequence[JobChange]) -> Iterator[tuple[bool, list[JobChange]]]:
    """Parts of the news that are stored one after another, so that others may write in between; which is the last."""
    batch: list[JobChange] = []
    rows = 0
    for change in changes:
        batch.append(change)
        rows += 2 + len(change.values) + len(change.products)
        if rows >= MOST_ROWS and change is not changes[-1]:
            yield False, batch
            batch, rows = [], 0
    yield True, batch


def _vanished(ledger: Ledger, item: Round, now: datetime) -> list[Observation]:
    """What to think of the attempts of a round of which no news will come: lost, unless their end is known already."""
    with ledger.read() as connection:
        attempts = rounds.attempts_of(connection, item)
    reason = "the backend does not know of it any more"
    return [
        Observation(index, number, AttemptState.LOST, now, reason=reason, failure=FailureClass.LOST)
        for index, number in attempts
    ]


def _changes(watched: Watched, observations: Sequence[Observation], judge: Judge) -> _News:
    """The net change of each job: what several observations made of it counts once."""
    made = _News({})
    first: dict[int, Job] = {}
    known = watched.jobs_of(seen.index for seen in observations)
    place = attempts_folder(watched.row.folder)
    for seen in observations:
        job = made.jobs.get(seen.index) or known.get(seen.index)
        if job is None or job.state.final or seen.attempt != job.attempt:
            continue
        report = Report()
        if seen.state is AttemptState.SUCCEEDED:
            seen, report = _checked(place, watched.row, seen)
        seen = blamed(watched.credentials, seen)
        after, counted, decision = judge.judge(job, seen)
        if seen.state is AttemptState.REMOVED and job.state is JobState.HELD and seen.index in watched.held_due:
            # Most likely by a watcher that died, or has not stored yet, that it was due.
            after, counted, decision = judge.removed_while_held(job, seen) or (after, counted, decision)
        if after == job:
            continue
        before = first.setdefault(job.index, job)
        change = judge.change(before, after, counted, decision)
        if _is_same_hold(job, after):
            change = replace(change, retry_at=made.changes[job.index].retry_at if job.index in made.changes else None)
        made.jobs[job.index] = after
        made.changes[job.index] = replace(change, values=report.values, products=report.products, kept=report.kept)
        if decision is not None:
            made.decisions[job.index] = decision
        if seen.state is AttemptState.EVICTED and after.state is JobState.FAILED:
            made.condemned.append(job.index)
    return made


def _is_same_hold(job: Job, after: Job) -> bool:
    return job.state is after.state is JobState.HELD and (job.reason, job.hold_code) == (after.reason, after.hold_code)


def _checked(place: Path, row: Generation, observation: Observation) -> tuple[Observation, Report]:
    """A job that ended well has succeeded only if its products and its report are as declared."""
    folder = place / attempt_name(observation.index, observation.attempt)
    failed = replace(observation, state=AttemptState.FAILED, failure=FailureClass.PRODUCT)
    try:
        return observation, read_outcome(folder, row.products)
    except ProductError as error:
        return replace(failed, reason=str(error)), Report()
    except OSError as error:
        return replace(failed, reason=f"its products cannot be read: {error}"), Report()
