"""What every backend does, and nothing more: a backend translates, it decides nothing.

Whether a job is tried again, which attempt counts and when a job set is done is decided once, for all backends, from
the observations that they return (:mod:`airflow_calib_provider.backends.reducer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


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
    TRANSFER = "transfer"
    """Its files could not be transferred."""
    HOLD = "hold"
    """Held for any other reason."""
    PERSON = "person"
    """Held or removed by a person."""
    LOST = "lost"


@dataclass(frozen=True, order=True)
class RoundKey:
    """Names one submission: the deterministic key that makes submission find-or-create (rule 13).

    Names never contain a dot, hence ``str(key)`` is unique; it is safe as a file name.
    """

    campaign: str
    workflow: str
    task: str
    group: str
    generation: int
    step: int
    round: int

    def __str__(self) -> str:
        return f"{self.campaign}.{self.workflow}.{self.task}.{self.group}.g{self.generation}.s{self.step}.r{self.round}"

    @classmethod
    def parse(cls, text: str) -> RoundKey:
        """The inverse of ``str(key)``.

        :raises ValueError: the text is not a key.
        """
        parts = text.split(".")
        if len(parts) != 7 or [part[:1] for part in parts[4:]] != ["g", "s", "r"]:
            raise ValueError(f"not the key of a round: {text!r}")
        campaign, workflow, task, group = parts[:4]
        generation, step, number = (int(part[1:]) for part in parts[4:])
        return cls(campaign, workflow, task, group, generation, step, number)


@dataclass(frozen=True)
class Resources:
    """What one job asks for."""

    cpus: int = 1
    memory: int | None = None
    """Bytes; the address space of a local job is limited to it."""
    disk: int | None = None
    """Bytes."""
    gpus: int = 0


@dataclass(frozen=True)
class JobSubmission:
    """One attempt of one job, fully rendered. ``folder`` exists when it is submitted, ``folder/out`` inside it too.

    The backend writes ``folder/stdout`` and ``folder/stderr``; the job itself writes its products to ``CALIB_OUT``
    (``folder/out``, also its working directory) and JSON lines to ``CALIB_REPORT`` (``folder/report.jsonl``).
    """

    index: int
    attempt: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The job's own variables, the ``CALIB_*`` of the contract among them."""
    folder: Path
    resources: Resources = field(default_factory=Resources)
    timeout: float | None = None
    """Seconds of wall time after which the job is killed and has failed."""
    inputs: tuple[str, ...] = ()
    """Paths and URLs that the job reads."""
    files: tuple[str, ...] = ()
    """Files that the payload needs: transferred where there is no shared file system."""


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


class Backend(Protocol):
    """A place where jobs run. All methods may block, and may be called by several processes at once."""

    name: str

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, Any] | None = None) -> None:
        """Submit the jobs under this key, or find that they already are: the second call changes nothing.

        :param options: the task's block for this backend, the same for all its jobs.
        :raises BackendError: they cannot be submitted; nothing was.
        """

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        """Look at several rounds at once.

        :param rounds: the rounds of interest with the cursor of the last poll, ``""`` at the first.
        :returns: one entry for each round. A round that the backend does not know is finished, without observations.
        :raises BackendError: the backend does not answer.
        """

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        """Let held jobs of a round try again; nothing happens to those that are not held.

        :raises BackendError: they could not be released.
        """

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        """Remove these jobs (all without a list) of a round, and return when they are gone; what has ended stays.

        :raises BackendError: they could not be removed.
        """

    def rounds(self) -> Sequence[RoundKey]:
        """All rounds of which the backend still has running or waiting jobs: to find what a missed kill left."""

    def forget(self, key: RoundKey) -> None:
        """Drop the backend's own records of a round whose jobs have all ended."""
