"""From observations to the state of a job: pure functions, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation


class JobState(StrEnum):
    """Where one job of a job set stands; a job may take several attempts."""

    WAITING = "waiting"
    """To be submitted: not yet, or again."""
    SUBMITTED = "submitted"
    RUNNING = "running"
    HELD = "held"
    """Stopped by the batch system: released after a while, or tried again, or a person decides."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """No attempt is left."""
    LEFT_OUT = "left_out"
    """Not needed: the quorum was reached without it."""
    REMOVED = "removed"
    """Removed by a person's kill."""

    @property
    def final(self) -> bool:
        """Whether a job in this state has ended, whatever becomes of its round."""
        return self not in (JobState.WAITING, JobState.SUBMITTED, JobState.RUNNING, JobState.HELD)


@dataclass(frozen=True)
class RetryLimits:
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
    :ivar losses: infrastructure failures since then, evictions among them.
    :ivar failure: why the attempt failed, was lost or is held.
    :ivar memory: the attempt's peak in bytes.
    :ivar releases: how often this attempt was released from a hold.
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
    failure: FailureClass | None = None
    hold_code: int | None = None
    memory: int | None = None
    progress: float | None = None
    releases: int = 0


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
        failure=None,
        hold_code=None,
        memory=None,
        progress=None,
        releases=0,
    )


def reduce(job: Job, observation: Observation, limits: RetryLimits, *, give_up: bool = False) -> Job:
    """The job after an observation of one of its attempts.

    Repeated, outdated and late observations change nothing: those of an earlier attempt, those that would take an
    attempt back (running → submitted, unless it was evicted), and all of a job whose state is final. Exactly one
    attempt is ever accepted. An eviction above the cap of losses fails the job, whose attempt lives on: it is the
    caller's to remove.

    :param give_up: if this is a failure or a loss, no further attempt is made.
    """
    if job.state.final or job.state is JobState.WAITING or observation.attempt != job.attempt:
        return job
    if not observation.state.final:
        return _going_on(job, observation, limits, give_up)
    seen = replace(
        job,
        exit_code=observation.exit_code,
        signal=observation.signal,
        host=observation.host or job.host,
        start=observation.start or job.start,
        end=observation.end or observation.at,
        reason=observation.reason,
        failure=observation.failure,
        hold_code=observation.hold_code,
        memory=_peak(job.memory, observation.memory),
        progress=_known(observation.progress, job.progress),
    )
    match observation.state:
        case AttemptState.SUCCEEDED:
            return replace(
                seen, state=JobState.SUCCEEDED, accepted_attempt=observation.attempt, reason=None, failure=None
            )
        case AttemptState.REMOVED:
            return replace(seen, state=JobState.REMOVED)
        case AttemptState.LOST:
            losses = seen.losses + 1
            again = losses <= limits.infrastructure_retries and not give_up
            return replace(seen, losses=losses, state=JobState.WAITING if again else JobState.FAILED)
        case _:
            failures = seen.failures + 1
            again = failures <= limits.retries and not give_up
            return replace(seen, failures=failures, state=JobState.WAITING if again else JobState.FAILED)


def _going_on(job: Job, observation: Observation, limits: RetryLimits, give_up: bool) -> Job:
    """After an observation of an attempt that has not ended."""
    if observation.state is AttemptState.SUBMITTED and job.state is JobState.RUNNING:
        return job
    if observation.state is AttemptState.EVICTED and job.state is JobState.SUBMITTED:
        return job
    if observation.state is AttemptState.EVICTED and job.state is JobState.HELD:
        # It did not run: it was released, and a backend that can only ask knows of an earlier execution.
        observation = replace(observation, state=AttemptState.SUBMITTED, failure=None)
    seen = replace(
        job,
        host=observation.host or job.host,
        start=observation.start or job.start,
        reason=observation.reason,
        exit_code=None,
        signal=None,
        failure=None,
        hold_code=None,
        memory=_peak(job.memory, observation.memory),
        progress=_known(observation.progress, job.progress),
    )
    match observation.state:
        case AttemptState.EVICTED:
            losses = job.losses + 1
            if losses <= limits.infrastructure_retries and not give_up:
                return replace(seen, state=JobState.SUBMITTED, losses=losses, host=None, start=None, progress=None)
            failure = observation.failure or FailureClass.LOST
            return replace(seen, state=JobState.FAILED, losses=losses, failure=failure, end=observation.at)
        case AttemptState.HELD:
            failure = observation.failure or FailureClass.HOLD
            held = replace(seen, state=JobState.HELD, failure=failure, hold_code=observation.hold_code)
            return replace(held, exit_code=observation.exit_code, signal=observation.signal)
        case AttemptState.RUNNING:
            return replace(seen, state=JobState.RUNNING)
        case _:
            return replace(seen, state=JobState.SUBMITTED)


def _known(new: float | None, old: float | None) -> float | None:
    return old if new is None else new


def _peak(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def retry_delay(failures: int, base: float, cap: float = 600.0) -> float:
    """Seconds to wait before the attempt after this many failures: doubled each time, up to a cap."""
    return float(min(cap, base * 2 ** max(0, failures - 1)))


def retry_time(at: datetime, delay: float) -> datetime:
    """When a job that failed is tried again: after the delay, and at most half of it later.

    It is a whole multiple of that half since 1970, so that jobs that failed one after the other are submitted together
    instead of each in a cluster of its own.
    """
    due = at + timedelta(seconds=delay)
    if delay <= 0:
        return due
    late = due.timestamp() % (delay / 2)
    return due + timedelta(seconds=delay / 2 - late) if late else due
