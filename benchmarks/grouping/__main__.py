"""``python -m benchmarks.grouping [--runs N] [--postgres] [--json FILE]``: 10,000 new runs, grouped by each kind.

Into a ledger of a million run-tasks: the source, which lists all runs, is read, the new ones are recorded and put into
the groups of a workflow with one task.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import planner, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.loader import load_folder, load_sources
from benchmarks.databases import new_ledger
from benchmarks.figures import Figure, Report
from benchmarks.large.__main__ import RUNS
from benchmarks.ledger.growing import NOW, Growing

NEW = 10_000
GOAL = 10.0

SPEC = """apiVersion: calib/v1
workflow: KIND
runs: {source: daq, since: SINCE}
tasks:
  select: {group_by: run, jobs: {command: ["true"]}}
  fit: {group_by: POLICY, jobs: {command: ["true"]}}
"""
ALONE = SPEC.replace('  select: {group_by: run, jobs: {command: ["true"]}}\n', "")
OPTIONS = (
    "at_least: {lumi_pb: 60}, short: next, at_most: {lumi_pb: 900}, break_on: [good], break_after: 2d, max_wait: 5d"
)


def policies(first: int) -> dict[str, str]:
    """Kind → its policy, with all options where it has some."""
    boundaries = ", ".join(str(first + 25 * n) for n in range(NEW // 25))
    return {
        "run": "run",
        "fill": f"{{fill: {{{OPTIONS}}}}}",
        "sum": f"{{sum: {{lumi_pb: 200, {OPTIONS}}}}}",
        "count": f"{{count: {{runs: 10, {OPTIONS}}}}}",
        "window": f'{{window: {{every: 8h, at: "06:00", zone: Europe/Zurich, {OPTIONS}}}}}',
        "boundaries": f"{{boundaries: {{first_runs: [{boundaries}], {OPTIONS}}}}}",
        "until": f'{{until: {{task: select, when: "sum.pairs >= 4000 && count >= 3", {OPTIONS}}}}}',
    }


def report_values(ledger: Ledger, workflow: str) -> None:
    """Let every group of single runs have found something, as if its jobs had ended."""
    group, task, generation = tables.run_group, tables.group_task, tables.generation
    with ledger.write() as connection:
        query = select(group.c.id).where(group.c.workflow == workflow, group.c.grouping == "run")
        ids = list(connection.execute(query).scalars())
        columns: dict[str, Any] = {
            **{"task": "select", "n": 1, "state": "done", "max_tries": 8, "backend": "local", "spec_hash": "h"},
            **{"definitions_hash": "d", "inputs": [], "runs": [], "excluded_runs": [], "used": {}, "retries": 0},
            **{"quorum": 1.0, "products": {}, "folder": "f", "dag_run_id": "r", "started_at": NOW, "ended_at": NOW},
        }
        connection.execute(insert(generation), [{"group_id": number, **columns} for number in ids])
        made = select(generation.c.id).where(tables.one_of(generation.c.group_id, ids), generation.c.task == "select")
        rows = [
            {"generation_id": number, "step": 0, "job_index": 0, "name": "pairs", "value": 500.0}
            for number in connection.execute(made).scalars()
        ]
        connection.execute(insert(tables.value), rows)
        connection.execute(update(task).where(tables.one_of(task.c.group_id, ids)).values(state="done"))


def measure(ledger: Ledger, folder: Path, runs: int, report: Report, name: str) -> None:
    """Grow the ledger, and group by one kind after the other."""
    growing = Growing(ledger, folder / "ecal")
    growing.grow(runs)
    planner.refresh(ledger)
    machine = report.machine()
    sources = load_sources(folder / "ecal" / "sources.yaml")
    for kind in policies(1):
        specs = folder / kind
        specs.mkdir()
        text = (
            (SPEC if kind == "until" else ALONE)
            .replace("KIND", kind)
            .replace("SINCE", str(runs + 1))
            .replace("POLICY", policies(runs + 1)[kind])
        )
        (specs / "w.yaml").write_text(text)
        (specs / "sources.yaml").write_text((folder / "ecal" / "sources.yaml").read_text())
        workflows, errors = load_folder(specs)
        if errors:
            raise SystemExit("\n".join(map(str, errors)))
        # What it says of all runs before is another question.
        inject(ledger, workflows, sources, folder / "ecal", now=NOW)
        growing.list_runs(runs + NEW)
        new = NEW
        if kind == "until":
            # They wait for what is found in them.
            inject(ledger, workflows, sources, folder / "ecal", now=NOW)
            report_values(ledger, kind)
            new = 0
        begin = time.process_time(), time.perf_counter()
        made = inject(ledger, workflows, sources, folder / "ecal", now=NOW)
        cpu, wall = time.process_time() - begin[0], time.perf_counter() - begin[1]
        if made.errors or made.new_runs != new or made.assigned != NEW:
            raise SystemExit(f"{made}")
        told = f"{cpu:.1f} s CPU, {wall:.1f} s wall time, {made.groups_opened:,} groups"
        seconds = cpu if ledger.file is not None else wall
        report.add(Figure(f"{name}: {NEW:,} runs by {kind}", told, machine, f"below {GOAL:g} s", seconds < GOAL))
        runs += NEW


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grouping", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="of the ledger before; nine tasks each")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    with new_ledger(Ledger, postgres=given.postgres) as (ledger, folder, database):
        measure(ledger, folder, given.runs, Report(database, given.json), database)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
