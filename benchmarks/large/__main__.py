"""``python -m benchmarks.large [--runs N] [--postgres] [--json FILE]``: commands at a ledger of a million run-tasks.

Whole commands in processes of their own, as a person types them; and the ledger's part of those that count, beside
plain SQL for the same numbers.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import Connection, text

from airflow_calib_provider.ledger import campaign_progress, planner, queries
from airflow_calib_provider.ledger.engine import Ledger
from benchmarks.databases import new_ledger
from benchmarks.figures import Figure, Report
from benchmarks.ledger.__main__ import medians
from benchmarks.ledger.growing import Growing

RUNS = 112_000
"""With nine tasks each: a million run-tasks."""

GOAL = 1.0
ROUNDS = 5

COMMANDS: dict[str, tuple[str, ...]] = {
    "calib --version (its start)": ("--version",),
    "calib status": ("status",),
    "calib explain RUN": ("explain", "LAST", "--no-airflow"),
    "calib campaign show prompt": ("campaign", "show", "prompt"),
    "calib spec plan, 1,000 runs": ("spec", "plan", "--last", "1000"),
}

STATUS = """
    SELECT g.workflow, g.grouping, t.task, t.state, count(*) FROM membership m
    JOIN run_group g ON g.id = m.group_id JOIN group_task t ON t.group_id = g.id
    WHERE m.campaign = 'prompt' AND m.state = 'grouped' GROUP BY g.workflow, g.grouping, t.task, t.state
"""
SHOW = """
    SELECT g.workflow, g.grouping, t.task, t.state, count(*) FROM run_group g JOIN group_task t ON t.group_id = g.id
    WHERE g.campaign = 'prompt' GROUP BY g.workflow, g.grouping, t.task, t.state
"""


def server_of(ledger: Ledger) -> psutil.Process | None:
    """The process whose children work for the clients of a server."""
    if ledger.file is not None:
        return None
    with ledger.read() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return psutil.Process(own).parent()


def of_ended_children(server: psutil.Process | None) -> float:
    """CPU seconds of what has worked for clients that are gone."""
    if server is None:
        return 0.0
    time.sleep(0.2)  # it hears of the end of its children
    times = server.cpu_times()
    return float(times.children_user + times.children_system)


def command(ledger: Ledger, folder: Path, words: tuple[str, ...]) -> tuple[float, float]:
    """CPU seconds of a whole command, with those of the server for it, and wall seconds: medians."""
    url = ledger.url.render_as_string(hide_password=False)
    home = {"CALIB_LEDGER": url, "CALIB_HOME": str(folder / "calib")}
    line = [str(Path(sys.executable).parent / "calib"), *words]
    cpu, wall = [], []
    server = server_of(ledger)
    for _ in range(ROUNDS):
        served = of_ended_children(server)
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(line, cwd=folder, env={**os.environ, **home}, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - begin)
        own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cpu.append(own + of_ended_children(server) - served)
    return statistics.median(cpu), statistics.median(wall)


def reading(ledger: Ledger, action: Callable[[Connection], object]) -> tuple[float, float]:
    """CPU and wall seconds of a question to the ledger, medians."""

    def read() -> None:
        with ledger.read() as connection:
            action(connection)

    return medians(read)


def vacuum(ledger: Ledger) -> None:
    """What PostgreSQL does by itself within minutes, and not on this server."""
    if ledger.file is None:
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM"))


def measure(ledger: Ledger, place: Path, runs: int, report: Report, name: str) -> None:
    """Grow the ledger, and ask it."""
    folder = place / "workflow_specs"
    growing = Growing(ledger, folder)
    growing.grow(runs)
    planner.refresh(ledger)
    vacuum(ledger)
    where = 0 if ledger.file is not None else 1
    machine = report.machine()
    for what, words in COMMANDS.items():
        line = tuple(str(runs) if word == "LAST" else word for word in words)
        seconds = command(ledger, place, line)
        told = f"{seconds[0]:.2f} s CPU, {seconds[1]:.2f} s wall time"
        report.add(Figure(f"{name}: {what}", told, machine, f"CPU below {GOAL:g} s", seconds[0] < GOAL))
    questions: dict[str, tuple[Callable[[Connection], object], str]] = {
        "status, the ledger's part": (lambda connection: queries.status(connection, "prompt"), STATUS),
        "campaign show, the ledger's part": (
            lambda connection: campaign_progress.progress(connection, "prompt", datetime.now(UTC)),
            SHOW,
        ),
    }
    for what, (action, plain) in questions.items():
        ours = reading(ledger, action)[where]
        peer = reading(ledger, lambda connection, plain=plain: connection.execute(text(plain)).all())[where]
        told = f"{ours:.2f} s; plain SQL of its counts {peer:.2f} s; ratio {ours / peer:.2f}"
        report.add(Figure(f"{name}: {what}", told, machine, values={"ours": ours, "peer": peer}))


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="of the ledger; nine tasks each")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    with new_ledger(Ledger, postgres=given.postgres) as (ledger, folder, database):
        measure(ledger, folder, given.runs, Report(database, given.json), database)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
