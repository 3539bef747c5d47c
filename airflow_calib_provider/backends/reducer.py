"""From observations to the state of a job: pure functions, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from airflow_calib_provider.backends.base import AttemptState, Observation


class JobState(StrEnum):
    """Where one job of a job set stands; a job may take several attempts."""

    WAITING = "waiting"
    """To be submitted: not yet, or again."""
    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """No attempt is left."""
    LEFT_OUT = "left_out"
    """Not needed: the quorum was reached without it."""
    REMOVED = "removed"
    """Removed by a person's kill."""

    @property
    def final(self) -> bool:
        return self not in (JobState.WAITING, JobState.SUBMITTED, JobState.RUNNING)


@dataclass(frozen=True)
class Limits:
    """How often a job may be tried.

    :ivar retries: failures of the job's own making that are forgiven; ``3`` means four attempts.
    :ivar infrastructure_retries: the cap on losses that are not the job's fault.
    """

    retries: int = 0
    infrastructure_retries: int = 10


@dataclass(frozen=True)
class Job:
    """A job as the ledger has it.

    :ivar attempt: the latest attempt's number, from 1; 0 before the first submission.
    :ivar failures: counted failures since the retry budget was last refreshed.
    :ivar losses: infrastructure failures since then.
    """

    index: int
    state: JobState = JobState.WAITING
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    accepted_attempt: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    host: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    reason: str | None = None


_OF_ATTEMPT = {AttemptState.SUBMITTED: JobState.SUBMITTED, AttemptState.RUNNING: JobState.RUNNING}
_ORDER = {JobState.WAITING: 0, JobState.SUBMITTED: 1, JobState.RUNNING: 2}


def submitted(job: Job) -> Job:
    """The job with its next attempt submitted."""
    return replace(
        job,
        state=JobState.SUBMITTED,
        attempt=job.attempt + 1,
        exit_code=None,
        signal=None,
        host=None,
        start=None,
        end=None,
        reason=None,
    )


def reduce(job: Job, observation: Observation, limits: Limits) -> Job:
    """The job after an observation of one of its attempts.

    Repeated, outdated and late observations change nothing: those of an earlier attempt, those that would take an
    attempt back (running → submitted), and all of a job whose state is final. Exactly one attempt is ever accepted.
    """
    if job.state.final or job.state is JobState.WAITING or observation.attempt != job.attempt:
        return job
    if not observation.state.final:
        state = _OF_ATTEMPT[observation.state]
        if _ORDER[state] < _ORDER[job.state]:
            return job
        return replace(job, state=state, host=observation.host or job.host, start=observation.start or job.start)
    seen = replace(
        job,
        exit_code=observation.exit_code,
        signal=observation.signal,
        host=observation.host or job.host,
        start=observation.start or job.start,
        end=observation.end or observation.at,
        reason=observation.reason,
    )
    match observation.state:
        case AttemptState.SUCCEEDED:
            return replace(seen, state=JobState.SUCCEEDED, accepted_attempt=observation.attempt, reason=None)
        case AttemptState.REMOVED:
            return replace(seen, state=JobState.REMOVED)
        case AttemptState.LOST:
            losses = seen.losses + 1
            again = losses <= limits.infrastructure_retries
            return replace(seen, losses=losses, state=JobState.WAITING if again else JobState.FAILED)
        case _:
            failures = seen.failures + 1
            again = failures <= limits.retries
            return replace(seen, failures=failures, state=JobState.WAITING if again else JobState.FAILED)


def retry_delay(failures: int, base: float, cap: float = 600.0) -> float:
    """Seconds to wait before the attempt after this many failures: doubled each time, up to a cap."""
    return float(min(cap, base * 2 ** max(0, failures - 1)))
