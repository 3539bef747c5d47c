"""``python -m benchmarks.ledger [--runs N ...] [--postgres]``: what grows with a ledger, and how."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, select

from airflow_calib_provider.ledger import openings, planner, queries, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from benchmarks.databases import new_ledger
from benchmarks.figures import Figure, Report
from benchmarks.ledger.growing import NOW, Growing, good_run_list

SIZES = (10_000, 100_000)
NEW = 10_000
ROUNDS = 5


class TimedLedger(Ledger):
    """Notes how long others cannot write.

    :ivar longest: the longest transaction, in seconds of wall time.
    :ivar busiest: that with the most CPU time of this process, in seconds.
    """

    longest = busiest = 0.0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """As of any ledger."""
        with super().write() as connection:
            begun, busy = time.perf_counter(), time.process_time()
            yield connection
        self.longest = max(self.longest, time.perf_counter() - begun)
        self.busiest = max(self.busiest, time.process_time() - busy)


def medians(action: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of an action: CPU, which other processes disturb less, and wall time, which has the server's."""
    cpu, wall = [], []
    for _ in range(ROUNDS):
        begin = time.process_time(), time.perf_counter()
        action()
        cpu.append(time.process_time() - begin[0])
        wall.append(time.perf_counter() - begin[1])
    return statistics.median(cpu), statistics.median(wall)


def figures(growing: Growing) -> dict[str, float]:
    """CPU seconds, and on a server wall time, by what is done."""
    ledger = growing.ledger
    table, task = tables.lock, tables.group_task
    waits = (
        select(table.c.group_id, table.c.task)
        .join(task, (task.c.group_id == table.c.group_id) & (task.c.task == table.c.task))
        .where(task.c.state.in_(["new", "waiting"]))
        .distinct()
        .limit(300)
    )
    with ledger.read() as connection:
        keys = [(row.group_id, row.task) for row in connection.execute(waits)]

    def reading(action: Callable[[Connection], object]) -> Callable[[], object]:
        def read() -> object:
            with ledger.read() as connection:
                return action(connection)

        return read

    def plan() -> None:
        with ledger.write() as connection:
            openings.plan(connection, NOW)

    scope = Scope("prompt", now=NOW)
    actions: dict[str, Callable[[], object]] = {
        "plan": plan,
        f"look at {len(keys)} waiting tasks": reading(lambda connection: waiting.look(connection, keys)),
        "explain the last run": reading(lambda connection: explain_run(connection, scope, growing.runs)),
        "runs list": reading(lambda connection: queries.runs_listed(connection, "prompt", last=50)),
        "groups": reading(lambda connection: queries.groups_listed(connection, "prompt", last=50)),
        "jobs list": reading(lambda connection: queries.jobs_listed(connection, "prompt", last=50)),
        "status": reading(lambda connection: queries.status(connection, "prompt")),
        "inject, nothing new": growing.inject,
    }
    found: dict[str, float] = {}
    for name, action in actions.items():
        called = name.replace(str(len(keys)), "300")
        found[called], found[f"{called} (wall)"] = medians(action)
    if ledger.file is not None:
        return {name: seconds for name, seconds in found.items() if not name.endswith("(wall)")}
    return found


def measure(ledger: TimedLedger, folder: Path, sizes: list[int], report: Report, name: str) -> None:
    """Grow, measure at each size, and compare."""
    growing = Growing(ledger, folder, good_run_list(max(sizes)))
    found: dict[str, list[float]] = {}
    machine = report.machine()
    for size in sizes:
        growing.list_runs(size - NEW)
        growing.inject()
        growing.work_off(size - NEW)
        growing.list_runs(size)
        ledger.longest = ledger.busiest = 0.0
        begin = time.process_time()
        growing.inject()
        found.setdefault(f"inject {NEW:,} new runs", []).append(time.process_time() - begin)
        found.setdefault("longest write transaction of it (wall)", []).append(ledger.longest)
        found.setdefault("longest write transaction of it (CPU)", []).append(ledger.busiest)
        for what, seconds in {f"just imported: {key}": value for key, value in figures(growing).items()}.items():
            found.setdefault(what, []).append(seconds)
        growing.work_off(size - 200)
        planner.refresh(ledger)
        for what, seconds in figures(growing).items():
            found.setdefault(what, []).append(seconds)
        # A large one takes long, and may be ended by somebody.
        told = ", ".join(f"{what}: {seconds[-1] * 1e3:.1f} ms" for what, seconds in found.items())
        print(f"{name} at {size:,} runs: {told}", file=sys.stderr, flush=True)
    for what, seconds in found.items():
        text = ", ".join(f"{value * 1e3:.1f} ms at {size:,}" for size, value in zip(sizes, seconds, strict=True))
        if len(sizes) > 1 and min(seconds) > 0:
            text += f"; grows as n^{math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0]):.2f}"
        report.add(Figure(f"{name}: {what}", text, machine, values=dict(zip(map(str, sizes), seconds, strict=True))))


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=list(SIZES), help="sizes of the ledger")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    with new_ledger(TimedLedger, postgres=given.postgres) as (ledger, folder, database):
        measure(ledger, folder, given.runs, Report(database, given.json), database)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
