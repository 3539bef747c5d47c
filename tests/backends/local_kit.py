"""Backends on this machine for tests, and what they need to look at the processes of its jobs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.local.folder import RoundFolder
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from tests.backends.conformance import BackendFixtures, Round, shell

ROOT = Path(__file__).parents[2]
LOST, REMOVED, FAILED, SUCCEEDED = (
    AttemptState.LOST,
    AttemptState.REMOVED,
    AttemptState.FAILED,
    AttemptState.SUCCEEDED,
)


def wait(condition: Callable[[], object], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class LocalBackends(BackendFixtures):
    """Backends of one spool, which is cleared in the end."""

    @pytest.fixture
    def spool(self, tmp_path, monkeypatch):
        # Supervisors are processes of their own, which find the package by this, or where it is installed.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        spool = tmp_path / "spool"
        yield spool
        left = LocalBackend(spool, grace=0.3)
        for key in left.rounds():
            left.remove(key)

    @pytest.fixture
    def make_backend(self, spool) -> Callable[[], Backend]:
        return lambda: LocalBackend(spool, slots=4, grace=0.5)

    def folder(self, backend: LocalBackend, key: RoundKey) -> RoundFolder:
        return RoundFolder(backend.spool / str(key))

    def supervisor(self, backend: LocalBackend, key: RoundKey) -> int:
        found: list[int] = []

        def started() -> bool:
            found[:] = [
                line["pid"]
                for line in log.read(self.folder(backend, key).events).events
                if line["event"] == log.SUPERVISED
            ]
            return bool(found)

        wait(started)
        assert len(found) == 1
        return found[0]


def submit_five(spool: str, root: str, key: str) -> None:
    """What the submitting processes of the tests do."""
    one = Round(Path(root), RoundKey.parse(key))
    for number in range(5):
        folder = one.root / key / f"{number}.1"
        (folder / "out").mkdir(parents=True, exist_ok=True)
        command = shell(f'echo {number} >> "$1"; sleep 0.2', str(one.root / "times"))
        one.jobs.append(JobSubmission(number, 1, command, {}, folder))
    LocalBackend(Path(spool), slots=4).submit(one.key, one.jobs)


if __name__ == "__main__":
    submit_five(*sys.argv[1:])
