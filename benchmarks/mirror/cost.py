"""What its event adds to a transition: the same transitions with and without."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from airflow_calib_provider.ledger import groups, transitions
from airflow_calib_provider.ledger.transitions import now
from benchmarks.figures import Figure, Report, spread
from benchmarks.mirror.place import Place
from tests.ledger.making import group_ids

JOBS, SINGLE = 100, 50
ROUNDS = 15
GOAL = 0.1


def run(server: Any, folder: Path, report: Report) -> None:
    """A hundred jobs in one transaction, and single tasks in one each. No InfluxDB is asked."""
    place = Place(folder / f"cost-{server.version}", JOBS)
    for name, action in (("100 jobs in a transaction", _many), ("one task in a transaction", _single)):
        machine = report.machine()
        with_event, without = [], []
        for _ in range(ROUNDS):
            with_event.append(_timed(place, action))
            kept, transitions.append_events = transitions.append_events, lambda *_: None
            try:
                without.append(_timed(place, action))
            finally:
                transitions.append_events = kept
        added = [one / other - 1 for one, other in zip(with_event, without, strict=True)]
        report.add(
            Figure(
                f"cost of the event, {name}",
                f"{statistics.median(with_event) * 1e3:.2f} ms with, {statistics.median(without) * 1e3:.2f} ms "
                f"without: adds {spread([100 * item for item in added])} %, {ROUNDS} pairs",
                machine,
                f"less than {GOAL:.0%}",
                statistics.median(added) < GOAL,
                ["SQLite, durable commits; the transition as the watcher and the sensors make it"],
                {"added": added},
            )
        )


def _timed(place: Place, action: Any) -> float:
    begin = time.perf_counter()
    action(place)
    return time.perf_counter() - begin


def _many(place: Place) -> None:
    for before, after in (("submitted", "running"), ("running", "submitted")):
        with place.ledger.write() as connection:
            place.toggle(connection, 0, JOBS, before, after)


def _single(place: Place) -> None:
    group = group_ids(place.ledger, "run")["run-r1"]
    for number in range(SINGLE):
        with place.ledger.write() as connection:
            reason = {"code": "jobs", "generation": 1, "states": {"running": number}, "at": time.time()}
            groups.set_task_states(connection, group, "processing", reason, now(), task="skim")
