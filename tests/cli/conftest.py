"""An installation and a way to give commands to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import testing
from typer.main import get_command

from airflow_calib_provider.cli.app import app
from tests.cli.world import World, row, same_place
from tests.postgres.places import is_new, ledger_url


@pytest.fixture
def database() -> str:
    """SQLite alone: the modules that take the time for both databases import the fixture that has both."""
    return "sqlite"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the installation is."""
    return same_place(tmp_path_factory)


@pytest.fixture
def world(folder: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[World]:
    monkeypatch.setenv("CALIB_HOME", str(folder / "calib"))
    for name in ("CALIB_LEDGER", "CALIB_AIRFLOW_URL", "CALIB_AIRFLOW_TOKEN", "CALIB_AIRFLOW_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    if database == "postgresql":
        is_new(folder)
        monkeypatch.setenv("CALIB_LEDGER", ledger_url(folder))
    monkeypatch.chdir(folder)
    made = World(folder)
    yield made
    made.ledger.close()


@pytest.fixture
def busy(world: World) -> World:
    """Runs 2–8 in fills 1–3: fill 1 is done and published, fill 2 has a failed task, run 8 is not completed."""
    world.once("busy", _be_busy)
    return world


def _be_busy(world: World) -> None:
    rows = [row(2), row(3), row(4, fill=2), row(5, fill=2), row(6, fill=3), row(7, fill=3, lumi=0.0)]
    world.inject(*rows, row(8, fill=3, completed=False))
    world.open_dag_runs()
    for number in (2, 3, 4):
        world.do(f"run-r{number}", "skim")
    world.do("fill-r2", "scale")
    world.publish("fill-r2")
    failed = world.begin("run-r5", "skim")
    reason = {"code": "jobs_failed", "n_failed": 2, "n_jobs": 2, "failed": [[0, "exit code 3"], [1, "exit code 3"]]}
    world.end(failed, "failed", reason)


testing._get_command = cache(get_command)
"""The runner makes commands of all functions for each command line, which takes longer than most commands do."""


class Calib:
    """Runs the command line; ``plain`` and ``json`` expect success."""

    def __init__(self) -> None:
        self.runner = testing.CliRunner()

    def __call__(self, *arguments: str) -> Any:
        result = self.runner.invoke(app, list(arguments), prog_name="calib")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def plain(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.plain(*arguments, "--json"))

    def fails(self, *arguments: str, code: int = 1) -> str:
        """Both ways of saying what is wrong."""
        result = self(*arguments)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        told = self(*arguments, "--json")
        assert told.exit_code == code
        assert json.loads(told.stdout)["error"]
        return str(result.stderr)


@pytest.fixture
def calib() -> Callable[..., Any]:
    return Calib()
