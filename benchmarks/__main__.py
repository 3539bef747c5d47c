"""``make bench``: what one look at 300 waiting tasks costs, beside one look for each of them."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.spec.loader import load_folder, load_sources

WAITING = 300
ROUNDS = 7
SPEC = """apiVersion: calib/v1
workflow: waits
runs: {source: runs, since: 1}
tasks:
  wait:
    group_by: run
    locks: [{payload: {tag: Never, covers: group}}]
    jobs: {command: ["true"]}
"""
SOURCES = """apiVersion: calib/v1
sources:
  runs: {csv: {path: runs.csv}, fields: {start: time, end: time}}
"""


def filled(folder: Path) -> Ledger:
    """A ledger with so many groups that wait for a payload."""
    (folder / "waits.yaml").write_text(SPEC)
    (folder / "sources.yaml").write_text(SOURCES)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [begin + timedelta(minutes=n) for n in range(WAITING + 1)]
    rows = [f"{n + 1},{times[n].isoformat()},{times[n + 1].isoformat()}" for n in range(WAITING)]
    (folder / "runs.csv").write_text("number,start,end\n" + "\n".join(rows) + "\n")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    schema.upgrade(ledger)
    workflows, errors = load_folder(folder)
    if errors:
        raise SystemExit("\n".join(map(str, errors)))
    inject(ledger, workflows, load_sources(folder / "sources.yaml"), folder, now=datetime.now(UTC))
    return ledger


def median_seconds(action: Callable[[], object]) -> float:
    """Median wall time of an action."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> int:
    """Print both figures and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = filled(Path(folder))
        keys = [(group_id, "wait") for group_id in range(1, WAITING + 1)]

        def together() -> None:
            with ledger.read() as connection:
                look(connection, keys)

        def one_by_one() -> None:
            for key in keys:
                with ledger.read() as connection:
                    look(connection, [key])

        shared, single = median_seconds(together), median_seconds(one_by_one)
        ledger.close()
    print(f"{WAITING} waiting tasks: one look for all {shared * 1e3:.1f} ms; one look each {single * 1e3:.1f} ms")
    print(f"ratio {single / shared:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
