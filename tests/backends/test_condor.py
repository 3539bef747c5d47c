"""The HTCondor backend on a real pool: what every backend does, and what only this one can get wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from tests.backends.conformance import BackendConformance
from tests.pool.pool import Pool

pytestmark = [pytest.mark.condor]


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with Pool() as made:
        yield made


@pytest.fixture(autouse=True)
def open_folders() -> Iterator[None]:
    """Jobs run as another user than the tests: at a site both are one."""
    before = os.umask(0)
    yield
    os.umask(before)


def settings(pool: Pool, **more: object) -> CondorSettings:
    return CondorSettings.from_mapping("calib_condor", {**pool.connection(), **more})


class TestCondor(BackendConformance):
    @pytest.fixture
    def root(self, pool: Pool, tmp_path: Path) -> Path:
        assert pool.shared is not None
        return pool.shared / tmp_path.name / "jobs"

    @pytest.fixture
    def make_backend(self, pool: Pool, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Backend]]:
        monkeypatch.setenv("CALIB_HOME", str(root.parent))
        made: list[CondorBackend] = []

        def make() -> Backend:
            made.append(CondorBackend(settings(pool), root.parent / "spool"))
            return made[-1]

        yield make
        for backend in made[:1]:
            for key in backend.rounds():
                backend.remove(key)
        for backend in made:
            backend.close()
