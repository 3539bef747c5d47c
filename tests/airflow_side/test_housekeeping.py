"""HousekeepingOperator against a real ledger and backend, and an Airflow that is a table of states."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.ledger import openings, tables
from airflow_calib_provider.operators import inject
from tests.jobsets.world import World


class Airflow:
    def __init__(self, states: dict[str, dict[str, str]]) -> None:
        self.states, self.asked = states, 0

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        self.asked += 1
        return {run: self.states[run] for run in run_ids if run in self.states}


Keep = Callable[..., tuple[World, Callable[[str], dict[str, Any]]]]


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))

    def make(*arguments: Any, **options: Any) -> tuple[World, Callable[[str], dict[str, Any]]]:
        world = World(tmp_path, *arguments, **options)
        with world.ledger.write() as connection:
            openings.plan(connection, datetime.now(UTC))
        monkeypatch.setattr(inject, "task_ledger", lambda: world.ledger)
        monkeypatch.setattr(inject, "open_dag_runs", lambda *_, **options: 0)

        def run(state: str) -> dict[str, Any]:
            # The state of the sensor in front of another task must not be taken for the task's own.
            airflow = Airflow({"prompt__run-r1": {"other.skim": "failed", "skim": state}})
            operator = inject.HousekeepingOperator(task_id="housekeeping")
            found = operator.execute({"ti": airflow})  # type: ignore[typeddict-item]
            assert airflow.asked <= 1
            return found

        return world, run

    return make


def test_a_missed_kill_is_made_up_for(keep: Keep) -> None:
    world, run = keep("sleep 100")
    generation = world.begin().generation_id
    world.step([generation])
    assert run("deferred")["settled"] == []
    assert len(world.backend.rounds()) == 1
    assert run("failed")["settled"] == ["prompt ecal.skim run-r1: Airflow failed, removed"]
    assert world.backend.rounds() == []
    kept = {"cleaned": 0, "checksums": 0, "dropped": 0}
    assert run("failed") == {"settled": [], "drift": [], **kept, "opened": 0}


def test_mark_success_of_a_failed_task_is_seen(keep: Keep) -> None:
    world, run = keep("false", products={"c": "c.txt"})
    assert world.run().state == "failed"
    assert run("failed")["settled"] == []
    assert run("success")["settled"] == ["prompt ecal.skim run-r1: Airflow success, kept"]
    assert world.task_state() == "failed"
    (row,) = world.rows(tables.generation)
    (attempt_folder(row.folder, 0, 1) / "out" / "c.txt").write_text("made by hand")
    assert run("success")["settled"] == ["prompt ecal.skim run-r1: Airflow success, kept"], "its job has failed"
    assert (world.task_state(), world.states(tables.generation)) == ("failed", ["failed"])
