"""Fixtures of the tests of the HTCondor backend."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.domain.round_key import RoundKey
from tests.backends.conformance import Round
from tests.pool.pool import Pool, ScheddName

GENERATION = itertools.count(1)


@pytest.fixture
def condor_root(pool: Pool, tmp_path: Path) -> Iterator[Path]:
    """A folder that jobs see, too, and may write: they run as another user than the tests; at a site both are one."""
    assert pool.shared is not None
    before = os.umask(0)
    folder = pool.shared / tmp_path.name
    folder.mkdir()
    yield folder
    os.umask(before)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an event log does not tell is asked for soon."""
    monkeypatch.setenv("CALIB_CONDOR_VERIFY_INTERVAL", "2")


@pytest.fixture
def make_condor(
    pool: Pool, condor_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., CondorBackend]]:
    """Makes backends on the pool that look at the same spool; the schedd and settings may be given."""
    monkeypatch.setenv("CALIB_HOME", str(condor_root))
    made: list[CondorBackend] = []

    def make(
        name: str = "calib_condor",
        at: ScheddName = "main",
        more: Mapping[str, object] | None = None,
        **settings: object,
    ) -> CondorBackend:
        connection: dict[str, object] = {**pool.connection(at), **settings, **(more or {})}
        if "token" in settings:
            del connection["token_file"]
        made.append(CondorBackend(CondorSettings.from_mapping(name, connection), condor_root / "spool"))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_condor: Callable[..., CondorBackend]) -> CondorBackend:
    return make_condor()


@pytest.fixture
def make_round(condor_root: Path) -> Callable[..., Round]:
    campaign = f"c{uuid.uuid4().hex[:8]}"

    def make(group: str = "run-r1") -> Round:
        return Round(condor_root / "jobs", RoundKey(campaign, "flow", "task", group, next(GENERATION), 0, 1))

    return make


@pytest.fixture
def reconfigured(pool: Pool) -> Iterator[Callable[..., None]]:
    """Adds lines to the pool's configuration until the test ends."""
    file = pool.folder / "condor_config"
    before = file.read_text()

    def add(*lines: str) -> None:
        file.write_text("\n".join([before, *lines, ""]))
        pool.tool("condor_reconfig")
        time.sleep(1)

    yield add
    file.write_text(before)
    pool.tool("condor_reconfig")
