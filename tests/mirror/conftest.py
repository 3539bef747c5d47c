from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget
from tests.ledger.making import done, facts, group_ids, new_ledger, put_runs, task, workflow
from tests.mirror.faults import FaultyProxy

FLOW = workflow("ecal", task("skim"))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    made = new_ledger(tmp_path)
    let_the_disk_rest(made)
    yield made
    made.close()


def let_the_disk_rest(ledger: Ledger) -> None:
    """What dies here is processes, never the machine: commits need not reach the disk."""

    def configure(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(ledger.engine, "connect", configure)


def settings(server: Any, url: str = "", **options: Any) -> dict[str, Any]:
    """The fields of a connection to a test's server."""
    values: dict[str, Any] = {"url": url or server.url, "timeout": 5.0}
    if server.major == 1:
        values |= {"database": server.database, "user": server.user, "password": server.password}
    else:
        values |= {"bucket": server.bucket, "org": server.org, "token": server.token}
    return {**values, **options}


def target_of(server: Any, url: str = "", **options: Any) -> InfluxTarget:
    return InfluxTarget.from_mapping(settings(server, url, **options))


@pytest.fixture
def proxy(influx: Any) -> Iterator[FaultyProxy]:
    made = FaultyProxy(influx.port)
    yield made
    made.close()


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    put_runs(ledger, FLOW, [facts(number) for number in range(1, 8)])
    for number in list(group_ids(ledger, "run").values())[:3]:
        done(ledger, number, "skim")
    return ledger


@pytest.fixture
def client(influx: Any) -> InfluxClient:
    return InfluxClient(target_of(influx))
