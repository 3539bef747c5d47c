"""``calib jobs orphans`` with the real local backend."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.hooks import backends as hook
from tests.cli.conftest import Calib
from tests.cli.world import World


@pytest.fixture
def spool(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]))
    backend = LocalBackend(grace=0.3)
    yield backend
    for key in backend.rounds():
        backend.remove(key)


def sleeper(backend: LocalBackend, key: RoundKey, folder: Path) -> None:
    (folder / "out").mkdir(parents=True)
    backend.submit(key, [JobSubmission(0, 1, ("sleep", "300"), {}, folder)])


def test_orphans(busy: World, spool: LocalBackend, calib: Calib, tmp_path: Path) -> None:
    assert calib.plain("jobs", "orphans") == "no orphans\n"
    over = RoundKey("prompt", "demo", "skim", "run-r5", 1, 0, 0)
    foreign = RoundKey("other_place", "demo", "skim", "run-r5", 1, 0, 0)
    sleeper(spool, over, tmp_path / "a")
    sleeper(spool, foreign, tmp_path / "b")
    listed = calib("jobs", "orphans")
    assert listed.exit_code == 1
    assert "its generation is failed" in listed.stdout
    assert "unknown to this ledger" in listed.stdout
    removed = calib("jobs", "orphans", "--remove", "--json")
    assert removed.exit_code == 1
    found = {item["round"]: item["removed"] for item in json.loads(removed.stdout)["orphans"]}
    assert found == {str(over): True, str(foreign): False}
    assert list(spool.rounds()) == [foreign]
    spool.remove(foreign)
    assert calib.json("jobs", "orphans", "--remove") == {"orphans": [], "errors": []}


def test_a_backend_with_a_connection_is_had_from_airflow(
    busy: World, spool: LocalBackend, calib: Calib, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(hook, "backend_of", lambda name: asked.append(name) or spool)
    assert calib.plain("jobs", "orphans", "--backend", "condor:calib_cern") == "no orphans\n"
    assert asked == ["condor:calib_cern"]


def test_a_backend_that_cannot_be_asked(busy: World, spool: LocalBackend, calib: Calib) -> None:
    answer = calib("jobs", "orphans", "--backend", "slurm")
    assert answer.exit_code == 1
    assert "there is no backend 'slurm'" in answer.output
