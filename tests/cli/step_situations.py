"""Situations in which a task that iterates has ended, for the advice of ``calib explain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cli.situations import SKIM, Place
from tests.cli.test_airflow import task


def iterated(ending: str, **numbers: Any) -> Callable[[Place], tuple[str, ...]]:
    """A task that iterates has ended by this name."""

    def make(place: Place) -> tuple[str, ...]:
        place.of_run()
        about = {"stage": 1, "phase": "fit", "step": 3, "visit": 3, "metric": "mass", "value": 92.0, "u": 2.0}
        place.fail("run-r2", "skim", f"iteration_{ending}", **about, best=2, best_is=1.5, **numbers)
        place.airflow.task(task("failed"))
        return (*SKIM, "--no-airflow")

    return make
