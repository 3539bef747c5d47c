"""After any walk, with everything failing on the way, InfluxDB has exactly what the events say."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import aside, carrier, outbox, state
from airflow_calib_provider.mirror.check import CheckReport, check
from airflow_calib_provider.mirror.client import InfluxClient
from tests.mirror.conftest import settings, target_of
from tests.mirror.faults import FaultyProxy
from tests.mirror.walk import Walk


class Trouble:
    """What goes wrong: the server, the network, the carrier."""

    def __init__(self, server: Any, proxy: FaultyProxy, ledger: Ledger, folder: Path) -> None:
        self.server, self.proxy = server, proxy
        self.random = random.Random(7)
        self.server_kills = self.carrier_kills = 0
        self.pid_file = folder / "pid"
        place = json.dumps(settings(server, proxy.url, timeout=1.0))
        url = ledger.url.render_as_string(hide_password=False)
        command = [sys.executable, "-m", "tests.mirror.carry", url, place, str(self.pid_file)]
        with (folder / "carrier.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        proxy.fault, proxy.chance, proxy.silence, proxy.retry_after = "random", 0.3, 1.5, "1"

    def make(self) -> None:
        kind = self.random.random()
        if kind < 0.5:
            self.kill_carrier()
        elif not self.server.running():
            self.server.start()
        elif kind < 0.7:
            self.server.kill()
            self.server_kills += 1

    def kill_carrier(self) -> None:
        """SIGKILL; the next one is there at once."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(self.pid_file.read_text()), signal.SIGKILL)
            self.pid_file.unlink()
            self.carrier_kills += 1

    def calm(self) -> None:
        """Everything is well again."""
        self.proxy.fault = ""
        self.server.start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()  # what it forked ends by itself


def walked(ledger: Ledger, server: Any, proxy: FaultyProxy, folder: Path, events: int, every: float) -> CheckReport:
    trouble = Trouble(server, proxy, ledger, folder)
    walk = Walk(ledger, folder)
    try:
        due = time.monotonic() + every
        while walk.events() < events:
            walk.step()
            if time.monotonic() > due:
                trouble.make()
                due = time.monotonic() + every * random.uniform(0.3, 1.7)
        trouble.calm()
        _wait_until_carried(ledger, 300)
    finally:
        trouble.end()
    print(
        f"\nInfluxDB {server.version}: {walk.events()} events, {len(proxy.requests)} requests, "
        f"{sum(map(bool, proxy.requests))} faults, {trouble.server_kills} kills of the server, "
        f"{trouble.carrier_kills} of the carrier"
    )
    client = InfluxClient(target_of(server))
    _retry_what_was_set_aside(ledger, client)
    report = check(ledger, client)
    print({name: counts.expected for name, counts in report.measurements.items()})
    return report


def _wait_until_carried(ledger: Ledger, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        with ledger.read() as connection:
            row = state.find(connection, "calib_influxdb")
            last = outbox.last_id(connection)
        if row is not None and row.cursor >= last:
            return
        assert time.monotonic() < until, (row and row.cursor, last, row and row.last_error)
        time.sleep(0.2)


def _retry_what_was_set_aside(ledger: Ledger, client: InfluxClient) -> None:
    """What the proxy refused twice was set aside: as an hour later, it is tried again."""
    time.sleep(2.5)  # the lease of the dead carrier
    mine = carrier.Carrier(ledger, client)
    mine._aside_at = float("-inf")
    with ledger.read() as connection:
        before = len(aside.listed(connection, "calib_influxdb"))
    until = time.monotonic() + 30
    while (step := mine.step()).trouble or step.carried:
        assert time.monotonic() < until, step
        time.sleep(0.1)
    with ledger.read() as connection:
        left = aside.listed(connection, "calib_influxdb")
    print(f"{before} points were set aside meanwhile")
    assert left == []
    mine.release()


def assert_exact(report: CheckReport) -> None:
    assert report.total("missing") == report.total("extra") == report.total("different") == 0, [
        example for counts in report.measurements.values() for example in counts.examples
    ]
    assert report.total("set_aside") == report.total("beyond_retention") == report.not_carried == report.skipped == 0
    # Nothing iterates in the walk.
    assert all(counts.expected for name, counts in report.measurements.items() if name != "step"), report


@pytest.mark.timeout(1800)
def test_walk_of_4_000_transitions(ledger: Ledger, influx: Any, proxy: FaultyProxy, tmp_path: Path) -> None:
    events = int(os.environ.get("CALIB_WALK", "4000"))
    assert_exact(walked(ledger, influx, proxy, tmp_path, events, every=0.6))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_walk_of_100_000_transitions(ledger: Ledger, influx: Any, proxy: FaultyProxy, tmp_path: Path) -> None:
    assert_exact(walked(ledger, influx, proxy, tmp_path, 100_000, every=3.0))
