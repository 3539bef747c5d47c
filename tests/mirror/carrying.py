"""What the tests of carrying have in common."""

from __future__ import annotations

from typing import Any

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import state
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import CheckReport
from airflow_calib_provider.mirror.client import InfluxClient
from tests.mirror.conftest import target_of
from tests.mirror.faults import FaultyProxy

NAME = "calib_influxdb"


def through(proxy: FaultyProxy, server: Any, **options: Any) -> InfluxClient:
    return InfluxClient(target_of(server, proxy.url, **{"timeout": 1.0, **options}))


def carry(ledger: Ledger, client: InfluxClient) -> Carrier:
    made = Carrier(ledger, client)
    while (step := made.step()).carried:
        pass
    assert step.trouble == ""
    return made


def assert_exact(report: CheckReport) -> None:
    assert report.clean, [example for counts in report.measurements.values() for example in counts.examples]


def row_of(ledger: Ledger) -> Any:
    with ledger.read() as connection:
        return state.find(connection, NAME)
