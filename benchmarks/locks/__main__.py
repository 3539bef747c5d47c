"""``python -m benchmarks.locks [--groups N] [--postgres]``: one poll of all locks of so many waiting groups."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import schema, tables
from airflow_calib_provider.ledger.asking import Asker
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import Key, look_and_record
from airflow_calib_provider.spec.loader import load_folder, load_sources
from benchmarks.databases import new_ledger
from benchmarks.figures import Figure, Report

ROUNDS = 100
GOAL = 0.05

SPEC = """apiVersion: calib/v1
workflow: waits
runs: {{source: runs, since: 1}}
tasks:
  wait:
    group_by: run
    locks:
      - payload: {{tag: Never}}
        at_most: 300d
        then: last_good
      - any: [{{payload: {{tag: NorThis}}}}, {{delay: {{for: 300d, after: group_closed}}}}]
      - file: {{path: "{folder}/{{{{ run.number }}}}.json"}}
      - product: {{workflow: waits, task: wait, product: c, campaign: nowhere}}
      - time: {{not_from: "{begin}", not_until: "{end}", zone: UTC}}
    jobs: {{command: ["true"]}}
    products: {{c: c.txt}}
"""
SOURCES = """apiVersion: calib/v1
sources:
  runs: {csv: {path: runs.csv}, fields: {start: time, end: time}}
"""


def fill(ledger: Ledger, folder: Path, groups: int) -> list[Key]:
    """Groups that wait for a lock of each kind.

    :returns: their waits.
    """
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    (folder / "waits.yaml").write_text(SPEC.format(folder=folder, begin=begin, end=end))
    (folder / "sources.yaml").write_text(SOURCES)
    start = now - timedelta(days=1)
    times = [(start + timedelta(minutes=n)).isoformat() for n in range(groups + 1)]
    rows = [f"{n + 1},{times[n]},{times[n + 1]}" for n in range(groups)]
    (folder / "runs.csv").write_text("number,start,end\n" + "\n".join(rows) + "\n")
    schema.upgrade(ledger)
    workflows, errors = load_folder(folder)
    if errors:
        raise SystemExit("\n".join(map(str, errors)))
    inject(ledger, workflows, load_sources(folder / "sources.yaml"), folder, now=now)
    with ledger.read() as connection:
        return [(row[0], "wait") for row in connection.execute(select(tables.run_group.c.id))]


def seconds_of(action: Callable[[], object]) -> list[float]:
    """Wall times of an action, sorted."""
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        action()
        found.append(time.perf_counter() - begin)
    return sorted(found)


def measure(ledger: Ledger, folder: Path, groups: int, report: Report, name: str) -> None:
    """One poll, and what is asked with it."""
    keys = fill(ledger, folder, groups)
    asker = Asker(ledger)
    while asker.start(keys):
        asker.finish(60)
    look_and_record(ledger, keys)
    machine = report.machine()
    for what, action in (
        ("a look, nothing new", lambda: look_and_record(ledger, keys)),
        ("what is due outside, nothing", lambda: asker.tick(keys)),
    ):
        begin = time.process_time()
        found = seconds_of(action)
        cpu = (time.process_time() - begin) / ROUNDS
        median, p95 = statistics.median(found), found[int(ROUNDS * 0.95)]
        told = f"p95 {p95 * 1e3:.1f} ms, median {median * 1e3:.1f} ms, CPU {cpu * 1e3:.1f} ms"
        text = f"{told}; goal p95 < {GOAL * 1e3:.0f} ms"
        values = {"p95": p95, "median": median, "cpu": cpu}
        report.add(Figure(f"{name}: {len(keys)} groups with six locks each: {what}", text, machine, values=values))


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locks", description=__doc__)
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    with new_ledger(Ledger, postgres=given.postgres) as (ledger, folder, database):
        measure(ledger, folder, given.groups, Report(database, given.json), database)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
