"""``python -m benchmarks.page [--runs N] [--tasks N] [--postgres] [--json FILE]``: how long the page takes.

The application is asked in this process, without a server and a network; its ledger is filled by injection.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event, update

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.page.app import make_app
from airflow_calib_provider.page.rights import Reader
from airflow_calib_provider.spec.loader import load_folder, load_sources
from benchmarks.databases import new_ledger
from benchmarks.figures import Figure, Report, percentile, spread

GOAL = 0.3
ROUNDS = 15
FLOW = "many"
SOURCES = """apiVersion: calib/v1
sources:
  runs: {csv: {path: runs.csv}, fields: {start: time, end: time}}
"""
TASK = """  task{n}:
    group_by: run
    jobs: {{command: ["true"]}}
"""
REASONS = {
    "failed": {"code": "jobs_failed", "n_failed": 2, "n_jobs": 2, "failed": [[0, "exit code 3"], [1, "exit code 3"]]},
    "waiting": {"code": "upstream", "tasks": ["task0"]},
}
"""Every seventh task has failed, and every third waits."""


def fill(ledger: Ledger, folder: Path, runs: int, tasks: int) -> None:
    """A workflow whose runs have all been grouped; some of its tasks have failed, some wait, most are done."""
    schema.upgrade(ledger)
    text = f"apiVersion: calib/v1\nworkflow: {FLOW}\nruns: {{source: runs, since: 1}}\ntasks:\n"
    (folder / f"{FLOW}.yaml").write_text(text + "".join(TASK.format(n=n) for n in range(tasks)))
    (folder / "sources.yaml").write_text(SOURCES)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [(begin + timedelta(minutes=n)).isoformat() for n in range(runs + 1)]
    rows = [f"{n + 1},{times[n]},{times[n + 1]}\n" for n in range(runs)]
    (folder / "runs.csv").write_text("number,start,end\n" + "".join(rows))
    workflows, errors = load_folder(folder)
    if errors:
        raise SystemExit("\n".join(map(str, errors)))
    inject(ledger, workflows, load_sources(folder / "sources.yaml"), folder, now=datetime.now(UTC))
    task = tables.group_task
    states: dict[str, Any] = {"done": True, "waiting": task.c.group_id % 3 == 0, "failed": task.c.group_id % 7 == 0}
    with ledger.write() as connection:
        for state, which in states.items():
            values = {"state": state, "reason": REASONS.get(state)}
            change = update(task).values(**values)
            connection.execute(change if which is True else change.where(which))


def app_of(ledger: Ledger) -> FastAPI:
    """The page for somebody who may read everything."""
    return make_app(lambda: ledger, lambda: Reader(frozenset({f"{FLOW}__run", "calib_inject"})))


async def _ask(app: FastAPI, address: str) -> tuple[int, int]:
    """Status, and bytes of the answer."""
    path, _, query = address.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    status, size = 0, 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, size
        status = message.get("status", status)
        size += len(message.get("body", b""))

    await app(scope, receive, send)
    return status, size


def ask(app: FastAPI, address: str) -> int:
    """How many bytes the answer has."""
    status, size = asyncio.run(_ask(app, address))
    if status != 200:
        raise SystemExit(f"{address}: {status}")
    return size


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """What the ledger is asked meanwhile."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)


def views(runs: int) -> dict[str, str]:
    """What is asked for."""
    return {
        f"{runs} runs": f"/runs?size={runs}",
        f"{runs} runs that have failed": f"/runs?size={runs}&state=failed",
        "50 runs": "/runs",
        "a group": f"/group?name=run-r{runs}",
        "campaigns": "/campaigns",
        "needs a person": "/people",
    }


def main() -> int:
    """Print a figure for each view."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="at most 500 are shown")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own, instead of SQLite")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with new_ledger(Ledger, postgres=given.postgres) as (ledger, folder, database):
        report = Report(database, given.json)
        fill(ledger, folder, given.runs, given.tasks)
        app = app_of(ledger)
        for name, address in views(min(given.runs, 500)).items():
            machine = report.machine()
            with statements(ledger) as seen:
                size = ask(app, address)
            seconds, cpu = [], []
            for _ in range(ROUNDS):
                begin, spent = time.perf_counter(), time.process_time()
                ask(app, address)
                seconds.append(time.perf_counter() - begin)
                cpu.append(time.process_time() - spent)
            text = f"{spread([1e3 * one for one in seconds])} ms, of which CPU {1e3 * statistics.median(cpu):.0f} ms; "
            text += f"{len(seen)} statements, {size / 1e6:.2f} MB"
            figure = Figure(f"{name} of {given.runs} x {given.tasks} tasks", text, machine, f"< {GOAL} s")
            figure.met = statistics.median(seconds) < GOAL
            figure.values = {"median": statistics.median(seconds), "p95": percentile(seconds, 0.95), "cpu": min(cpu)}
            report.add(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
