"""What the tests of the HTCondor backend share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError
from tests.backends.conformance import Round, follow

SUCCEEDED, FAILED, HELD, REMOVED, LOST, EVICTED, RUNNING, SUBMITTED = (
    AttemptState.SUCCEEDED,
    AttemptState.FAILED,
    AttemptState.HELD,
    AttemptState.REMOVED,
    AttemptState.LOST,
    AttemptState.EVICTED,
    AttemptState.RUNNING,
    AttemptState.SUBMITTED,
)


def last(observations: list[Observation]) -> dict[int, Observation]:
    """The latest news of each job."""
    return {one.index: one for one in observations}


def reached(key: RoundKey, *states: AttemptState, jobs: int = 1) -> Callable[[Mapping[Any, Any]], bool]:
    """A condition for :func:`follow`: so many jobs are in one of these states."""
    return lambda seen: sum(one.state in states for one in last(seen[key]).values()) >= jobs


def follow_to(backend: Backend, key: RoundKey, *states: AttemptState, jobs: int = 1) -> dict[int, Observation]:
    """Poll until so many jobs are in one of these states; returns the latest news of each job."""
    return last(follow(backend, [key], reached(key, *states, jobs=jobs), patience=90)[key])


def cluster_of(backend: CondorBackend, key: RoundKey) -> int:
    cluster = backend._folder(key).cluster()
    assert cluster is not None
    return cluster


def clusters_in_queue(backend: CondorBackend, key: RoundKey) -> list[int]:
    """All clusters of a round that the schedd has, whoever submitted them."""
    from airflow_calib_provider.backends.condor.submission import this_round

    return list(backend._helper.call("find", constraints=[this_round(key, backend.spool)]))


def submit_when_possible(backend: Backend, one: Round, patience: float = 60) -> None:
    """Submit again and again, as a watcher does, until the pool takes it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            backend.submit(one.key, one.jobs)
            return
        except BackendError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def trouble(backend: Backend, key: RoundKey, patience: float = 60) -> str:
    """Poll until the backend tells of trouble."""
    cursor = ""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        news = backend.poll({key: cursor})[key]
        cursor = news.cursor
        if news.trouble:
            return news.trouble
        time.sleep(0.2)
    raise AssertionError("no trouble was told")
