"""What its event adds to a step of the watcher, and to a transition: the same ones with and without."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.ledger import groups, transitions
from benchmarks.figures import Figure, Report
from benchmarks.mirror.place import Place
from tests.jobsets.scripted import Scripted
from tests.jobsets.world import World
from tests.ledger.making import group_ids

JOBS, SINGLE = 100, 50
ROUNDS = 31
GOAL = 0.1


def run(server: Any, folder: Path, report: Report) -> None:
    """A step of the watcher with news of a hundred jobs; a hundred jobs in one transaction, single tasks in one each.

    No InfluxDB is asked.
    """
    place = Place(folder / f"cost-{server.version}", JOBS)
    with mock.patch.dict(os.environ, {"CALIB_HOME": str(folder / f"step-{server.version}")}):
        step = _Step(folder / f"step-{server.version}")
        _compare(f"a step of the watcher with news of {JOBS} jobs", step.take, report, GOAL)
    _compare(f"{JOBS} jobs in a transaction", lambda: _many(place), report)
    _compare("one task in a transaction", lambda: _single(place), report)


def _compare(name: str, action: Callable[[], object], report: Report, goal: float | None = None) -> None:
    machine = report.machine()
    with_event, without = [], []
    for _ in range(ROUNDS):
        with_event.append(_timed(action))
        with mock.patch.object(transitions, "_append") as left_out:
            without.append(_timed(action))
        if not left_out.called:
            raise RuntimeError("no event was left out: they are written elsewhere now")
    wall, cpu = (_added(with_event, without, part) for part in (0, 1))
    report.add(
        Figure(
            f"cost of the event, {name}",
            f"adds {cpu:.0%} to the median CPU time, {_median(without, 1):.2f} ms without it; {ROUNDS} pairs",
            machine,
            "" if goal is None else f"less than {goal:.0%}",
            None if goal is None else cpu < goal,
            [
                f"adds {wall:.0%} to the median wall time, {_median(without, 0):.2f} ms without it",
                "SQLite, durable commits; no backend's part",
            ],
            {"with": with_event, "without": without},
        )
    )


class _Step:
    """A job set of which every step has news of the next hundred jobs: first each begins to run, then it succeeds."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._backend = Scripted()
        self._world = World(folder, "true", JOBS * (ROUNDS + 1), self._backend, products={"out": "out.txt"})
        self._generation = self._world.begin().generation_id
        self._world.step([self._generation])
        ((self._key, self._jobs),) = self._backend.submitted.items()
        for job in self._jobs:
            (job.folder / "out" / "out.txt").write_text("x")
        self._taken = 0

    def take(self) -> None:
        turn, self._taken = self._taken, self._taken + 1
        half, part = divmod(turn, ROUNDS + 1)
        state = AttemptState.SUCCEEDED if half else AttemptState.RUNNING
        now = datetime.now(UTC)
        about: dict[str, Any] = {"host": "node17.example.org", "start": now, "memory": 1_234_567_890}
        about |= {"exit_code": 0, "end": now} if half else {}
        jobs = self._jobs[part * JOBS : (part + 1) * JOBS]
        self._backend.news[self._key] = [Observation(job.index, 1, state, now, **about) for job in jobs]
        self._world.step([self._generation])


Times = tuple[float, float]
"""Wall and CPU time in seconds."""


def _median(times: list[Times], part: int) -> float:
    return 1e3 * statistics.median(item[part] for item in times)


def _added(with_event: list[Times], without: list[Times], part: int) -> float:
    return _median(with_event, part) / _median(without, part) - 1


def _timed(action: Callable[[], object]) -> Times:
    begin, used = time.perf_counter(), time.process_time()
    action()
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
