"""What a backend sees of an attempt: states, kinds of failure, and the news of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AttemptState(StrEnum):
    """Where one execution of one job stands."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    HELD = "held"
    """Stopped by the batch system, which waits for a decision: released, the same attempt goes on."""
    EVICTED = "evicted"
    """Stopped by the batch system, which runs the same attempt again by itself: counts as a loss."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The job's own fault: its exit code, a signal, a time-out, a missing product. Counts against ``retries``."""
    LOST = "lost"
    """The infrastructure's fault: reboot, eviction, a supervisor that died. Not counted, but capped."""
    REMOVED = "removed"

    @property
    def final(self) -> bool:
        """Whether this attempt has ended for good."""
        return self not in (AttemptState.SUBMITTED, AttemptState.RUNNING, AttemptState.HELD, AttemptState.EVICTED)


class FailureClass(StrEnum):
    """Why an attempt failed, was lost or is held: what the failure policy of a spec asks for."""

    EXIT = "exit"
    """An exit code other than 0."""
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    """It used more than it had asked for."""
    DISK = "disk"
    PRODUCT = "product"
    """It ended well, but a product is missing or its report is not valid."""
    START = "start"
    """It could not be started."""
    CREDENTIAL = "credential"
    """It failed, or is held, and one of its credentials had expired by then."""
    TRANSFER = "transfer"
    """Its files could not be transferred."""
    HOLD = "hold"
    """Held for any other reason."""
    PERSON = "person"
    """Held or removed by a person."""
    LOST = "lost"


@dataclass(frozen=True)
class Observation:
    """What a backend has seen of one attempt. Later ones of the same attempt replace earlier ones.

    :ivar reason: in words, also of an attempt that has not ended: why it is idle, held or suspended.
    :ivar failure: the kind of a failure, loss or hold, where the backend can tell.
    :ivar hold_code: the batch system's number for the reason of a hold; ``hold_subcode`` is its detail.
    :ivar memory: the peak so far, in bytes.
    :ivar progress: from 0 to 1, as the job reports it.
    """

    index: int
    attempt: int
    state: AttemptState
    at: datetime
    exit_code: int | None = None
    signal: int | None = None
    host: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    reason: str | None = None
    failure: FailureClass | None = None
    hold_code: int | None = None
    hold_subcode: int | None = None
    memory: int | None = None
    progress: float | None = None


@dataclass(frozen=True)
class RoundObservations:
    """The news of one round since ``cursor`` was last handed over.

    :ivar cursor: opaque text, to be stored with what was made of the observations and handed over at the next poll.
    :ivar finished: no further observation will ever come.
    :ivar trouble: what kept the backend from seeing everything; the observations are good all the same.
    """

    observations: Sequence[Observation]
    cursor: str
    finished: bool
    trouble: str = ""
