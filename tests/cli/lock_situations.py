"""Situations of locks that ``calib explain`` has an advice for."""

from __future__ import annotations

from tests.cli.situations import SCALE, Place, began
from tests.cli.test_airflow import be_filled, cleared, in_fill
from tests.cli.world import DEMO

_NEEDS = "    needs: [skim]\n"


def _with_deadline(place: Place, then: str) -> None:
    lock = f"    locks: [{{payload: {{tag: Laser}}, at_most: 1h, from: run_end, then: {then}}}]\n"
    (place.world.specs / "demo.yaml").write_text(DEMO.replace(_NEEDS, _NEEDS + lock))


def too_late(place: Place) -> tuple[str, ...]:
    """What a task waits for was not there in time, and the sensor of its locks has failed."""
    _with_deadline(place, "fail")
    be_filled(place.world, 2, 3)
    in_fill(place.airflow, group="success", locks="failed", scale="upstream_failed", deliver="upstream_failed")
    return SCALE


def gone_on_without(place: Place) -> None:
    assert ["scale.locks", "scale"] in [tasks[:2] for tasks, _ in cleared(place.airflow)]
    _with_deadline(place, "go_on")
    place.world.inject()
    began(place, name="fill-r2", task_id="scale")
