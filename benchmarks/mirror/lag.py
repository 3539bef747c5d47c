"""How long after a transition its points are in InfluxDB, while 500 happen every second."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import outbox
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget
from benchmarks.figures import Figure, Report, percentile
from benchmarks.mirror.place import Place, as_json, target_of

RATE, SECONDS, PER_TRANSACTION = 500, 40, 25
GOAL = 10.0


def run(server: Any, folder: Path, report: Report) -> None:
    """The carrier works in a process of its own, at its default interval."""
    place = Place(folder / f"lag-{server.version}", RATE)
    server.new_database()
    machine = report.machine()
    url = place.ledger.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "benchmarks.mirror.lag", url, as_json(target_of(server))]
    carrier = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first, rate = _transitions(place)
    with place.ledger.read() as connection:
        last = outbox.last_id(connection)
    said, _ = carrier.communicate(f"{last}\n", timeout=300)
    lags = sorted(_lags(place.ledger, first, json.loads(said)))
    worst = percentile(lags, 0.95)
    report.add(
        Figure(
            "lag",
            f"{len(lags):,} transitions, {rate:.0f} a second: median {statistics.median(lags):.2f} s, p95 {worst:.2f} "
            f"s, at most {lags[-1]:.2f} s",
            machine,
            f"p95 below {GOAL:g} s at {RATE} a second",
            worst < GOAL and rate > 0.95 * RATE,
            ["from the event's own time to the answer of the request that had its points; SQLite"],
            {"p95": worst, "rate": rate},
        )
    )


def _transitions(place: Place) -> tuple[int, float]:
    """Make them at an even rate; the first event, and how many there were in a second."""
    with place.ledger.read() as connection:
        first = outbox.last_id(connection) + 1
    begin = time.monotonic()
    states = ("submitted", "running")
    done = 0
    for turn in range(SECONDS):
        for start in range(0, RATE, PER_TRANSACTION):
            with place.ledger.write() as connection:
                place.toggle(connection, start, PER_TRANSACTION, states[turn % 2], states[(turn + 1) % 2])
            done += PER_TRANSACTION
            time.sleep(max(0.0, begin + done / RATE - time.monotonic()))
    return first, done / (time.monotonic() - begin)


def _lags(ledger: Ledger, first: int, arrivals: list[tuple[float, int]]) -> list[float]:
    with ledger.read() as connection:
        query = select(tables.event.c.id, tables.event.c.at).where(tables.event.c.id >= first)
        rows = connection.execute(query.order_by(tables.event.c.id)).all()
    lags, left = [], iter(arrivals)
    at, upto = next(left)
    for row in rows:
        while row.id > upto:
            at, upto = next(left)
        lags.append(at - row.at / 1e9)
    return lags


def main(url: str, target: str) -> None:
    """Carry until the last event, which standard input tells in the end; print when the cursor was where."""
    import threading

    ends: list[int] = []
    threading.Thread(target=lambda: ends.append(int(sys.stdin.readline())), daemon=True).start()
    carrier = Carrier(Ledger(url), InfluxClient(InfluxTarget.from_mapping(json.loads(target))))
    arrivals = []
    while not ends or carrier.cursor < ends[0]:
        step = carrier.step()
        if step.carried:
            arrivals.append((time.time(), carrier.cursor))
        time.sleep(step.pause)
    print(json.dumps(arrivals))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
