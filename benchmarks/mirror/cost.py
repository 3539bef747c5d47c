"""What its event adds to a transition: the same transitions with and without."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.ledger import groups, transitions
from benchmarks.figures import Figure, Report
from benchmarks.mirror.place import Place
from tests.ledger.making import group_ids

JOBS, SINGLE = 100, 50
ROUNDS = 31
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
        wall, cpu = (_added(with_event, without, part) for part in (0, 1))
        report.add(
            Figure(
                f"cost of the event, {name}",
                f"adds {wall:.0%} to the median wall time, {_median(without, 0):.2f} ms without it; {ROUNDS} pairs",
                machine,
                f"less than {GOAL:.0%}",
                wall < GOAL,
                [
                    f"adds {cpu:.0%} to the median CPU time, {_median(without, 1):.2f} ms without it",
                    "SQLite, durable commits; the ledger's part of a transition, nothing of a backend's",
                ],
                {"with": with_event, "without": without},
            )
        )


Times = tuple[float, float]
"""Wall and CPU time in seconds."""


def _median(times: list[Times], part: int) -> float:
    return 1e3 * statistics.median(item[part] for item in times)


def _added(with_event: list[Times], without: list[Times], part: int) -> float:
    return _median(with_event, part) / _median(without, part) - 1


def _timed(place: Place, action: Any) -> Times:
    begin, used = time.perf_counter(), time.process_time()
    action(place)
    return time.perf_counter() - begin, time.process_time() - used


def _many(place: Place) -> None:
    for before, after in (("submitted", "running"), ("running", "submitted")):
        with place.ledger.write() as connection:
            place.toggle(connection, 0, JOBS, before, after)


def _single(place: Place) -> None:
    group = group_ids(place.ledger, "run")["run-r1"]
    for number in range(SINGLE):
        with place.ledger.write() as connection:
            reason = {"code": "jobs", "generation": 1, "states": {"running": number}, "at": time.time()}
            groups.set_task_states(connection, group, "processing", reason, datetime.now(UTC), task="skim")
