"""A batch system that answers as it is told, and remembers what it was asked to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_calib_provider.domain.observation import AttemptState, Observation, RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError, SubmissionRefused
from airflow_calib_provider.jobsets.advance import GenerationStanding, advance
from airflow_calib_provider.ledger import tables
from tests.jobsets.world import World

T = datetime(2026, 5, 1, tzinfo=UTC)
"""When a story begins."""

RUNNING, HELD, EVICTED = AttemptState.RUNNING, AttemptState.HELD, AttemptState.EVICTED
REMOVED, FAILED, SUBMITTED = AttemptState.REMOVED, AttemptState.FAILED, AttemptState.SUBMITTED


class Scripted:
    """Answers as it is told.

    :ivar asked: ``["release" or "remove", round, jobs]`` of each call.
    :ivar silent: why it does not answer, if it does not.
    :ivar refusal: why it will not have any jobs, if it will not.
    """

    name = "condor"

    def __init__(self) -> None:
        self.submitted: dict[RoundKey, list[JobSubmission]] = {}
        self.options: list[Any] = []
        self.news: dict[RoundKey, list[Observation]] = {}
        self.asked: list[Any] = []
        self.polls = 0
        self.silent = ""
        self.refusal = ""
        self.trouble = ""
        self.forgotten: list[RoundKey] = []

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, Any] | None = None) -> None:
        self._answer()
        if self.refusal:
            raise SubmissionRefused(self.refusal)
        self.submitted.setdefault(key, list(jobs))
        self.options.append(options)

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        self._answer()
        self.polls += 1
        found = {key: self.news.pop(key, []) for key in rounds}
        return {
            key: RoundObservations(news, str(self.polls) if news else rounds[key], False, self.trouble)
            for key, news in found.items()
        }

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        self._answer()
        self.asked.append(["release", key.round, list(jobs)])

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        self._answer()
        self.asked.append(["remove", key.round, None if jobs is None else list(jobs)])

    def rounds(self) -> Sequence[RoundKey]:
        self._answer()
        return list(self.submitted)

    def forget(self, key: RoundKey) -> None:
        self._answer()
        self.submitted.pop(key, None)
        self.forgotten.append(key)

    def _answer(self) -> None:
        if self.silent:
            raise BackendError(self.silent)

    def tell(self, job: int, state: AttemptState, *, at: float = 0.0, key: RoundKey | None = None, **seen: Any) -> None:
        """The next poll brings this about the last attempt of a job (of a round)."""
        key, attempt = next(
            (key, one.attempt)
            for key in ([key] if key else sorted(self.submitted, reverse=True))
            for one in self.submitted[key]
            if one.index == job
        )
        moment = T + timedelta(seconds=at)
        self.news.setdefault(key, []).append(Observation(job, attempt, state, moment, **seen))


class Story:
    """A generation on a scripted backend, told step by step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.backend = Scripted()
        self.id = world.begin().generation_id

    def step(self, at: float = 0.0, delay: float = 0.0) -> GenerationStanding:
        """A step of the watcher, so many seconds after the beginning."""
        now = T + timedelta(seconds=at)
        return advance(self.world.ledger, lambda name: self.backend, [self.id], now, delay)[self.id]


def job_of(story: Story, index: int = 0) -> Any:
    """A job's row."""
    return story.world.rows(tables.job)[index]
