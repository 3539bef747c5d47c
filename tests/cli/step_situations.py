"""Situations in which a task that iterates has ended, for the advice of ``calib explain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import insert

from airflow_calib_provider.domain.iteration.phases import Phase
from airflow_calib_provider.jobsets.iteration_plan import _limits
from airflow_calib_provider.ledger import tables
from tests.cli.situations import SKIM, Place, began
from tests.cli.test_airflow import task
from tests.cli.world import NOW


def iterated(ending: str, **numbers: Any) -> Callable[[Place], tuple[str, ...]]:
    """A task that iterates has ended by this name, in its third step."""

    def make(place: Place) -> tuple[str, ...]:
        place.of_run()
        about = {"stage": 1, "phase": "fit", "step": 3, "visit": 3, "metric": "mass", "value": 92.0, "u": 2.0}
        generation = place.fail("run-r2", "skim", f"iteration_{ending}", **about, best=2, best_is=1.5, **numbers)
        _keep_steps(place, generation)
        place.airflow.task(task("failed"))
        return (*SKIM, "--no-airflow")

    return make


def _keep_steps(place: Place, generation: int) -> None:
    plan = {"phases": {"fit": {"limits": _limits(Phase("fit", verdict=True))}}}
    common = {"generation_id": generation, "state": "judged", "stage": 1, "phase": "fit", "kept": [], "n_jobs": 1}
    made = {**common, "constants": "c.txt", "constants_hash": "0" * 64, "spec_hash": "0" * 64, "planned_at": NOW}
    with place.world.ledger.write() as connection:
        connection.execute(insert(tables.iteration).values(generation_id=generation, plan=plan))
        connection.execute(insert(tables.step), [{**made, "n": n, "visit": n} for n in (1, 2, 3)])


def began_elsewhere(place: Place) -> None:
    """A person was told what counts for nothing then."""
    said = "steps that are made anew, and stay listed as discarded: 2, 3"
    assert any("--from-step 2" in command and said in told for command, told in place.said), place.said
    began(place)
