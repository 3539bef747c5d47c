"""What every backend does, and nothing more: a backend translates, it decides nothing.

Whether a job is tried again, which attempt counts and when a job set is done is decided once, for all backends, from
the observations that they return (:mod:`airflow_calib_provider.domain.reducer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from airflow_calib_provider.domain.observation import RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission


class Backend(Protocol):
    """A place where jobs run. All methods may block, and may be called by several processes at once."""

    name: str

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """Submit the jobs under this key, or find that they already are: the second call changes nothing.

        What the batch system calls them, be it one number or many, the backend finds again by the key, in its own
        records or in the cursor of :meth:`poll`; the ledger knows the key alone.

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


@runtime_checkable
class Frugal(Protocol):
    """A backend whose jobs may make their folders themselves.

    A folder for each job costs more than all else before it runs.
    """

    def jobs_make_folders(self, options: Mapping[str, object]) -> bool:
        """Whether the jobs of a round make the folders of their attempts, with ``out`` and what is in ``lists``.

        :param options: the task's block for this backend.
        """


@runtime_checkable
class OfOneMachine(Protocol):
    """A backend whose jobs share one machine.

    :ivar slots: cpus that they may take together.
    """

    slots: int


def carries(backend: Backend, options: Mapping[str, object]) -> bool:
    """Whether the jobs of a round share no files with this side, so that the batch system carries them.

    :param options: the task's block for this backend.
    """
    return isinstance(backend, Frugal) and not backend.jobs_make_folders(options)


@runtime_checkable
class Dismissing(Protocol):
    """A backend that need not wait until a removed job is gone: one that is frozen, or whose machine is, takes long."""

    def dismiss(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        """As :meth:`Backend.remove`, for jobs whose work nobody takes any more.

        :param patience: seconds; what is not gone then goes later.
        :raises BackendError: their removal could not be asked for.
        """


def let_go(backend: Backend, key: RoundKey, jobs: Iterable[int] | None = None, patience: float = 0.0) -> None:
    """Remove jobs whose work nobody takes any more.

    :param patience: seconds for which they are waited for, if the backend lets one choose.
    :raises BackendError: they could not be removed.
    """
    if isinstance(backend, Dismissing):
        backend.dismiss(key, jobs, patience)
    else:
        backend.remove(key, jobs)


@runtime_checkable
class Elsewhere(Protocol):
    """A backend whose jobs see the files of this side, and may see them under other paths."""

    def as_there(self, jobs: Sequence[JobSubmission], options: Mapping[str, object]) -> Sequence[JobSubmission]:
        """The same jobs with the paths that they have there.

        :param options: the task's block for this backend.
        """


@runtime_checkable
class Remote(Protocol):
    """A backend whose jobs run elsewhere: whether that place can be used is known only when it is asked."""

    def check(self) -> str:
        """For a connection's test: who answers, and as whom one is known there.

        :raises BackendError: what is wrong, a right that is missing too.
        """

    def close(self) -> None:
        """Give up what is kept open; a later call opens it again."""
