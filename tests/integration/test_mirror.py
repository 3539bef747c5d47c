"""calib_mirror in a real Airflow: nothing to click, and InfluxDB has every state within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.mirror import outbox, state
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from tests.integration.harness import Installation
from tests.mirror.conftest import target_of

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]


@pytest.fixture
def mirrored(influx2: Any, tmp_path: Path) -> Iterator[Installation]:
    """An Airflow that knows the InfluxDB."""
    made = {
        "conn_type": "calib_influxdb",
        "host": influx2.url,
        "password": influx2.token,
        "extra": {"bucket": influx2.bucket, "org": influx2.org},
    }
    installation = Installation(tmp_path, {"AIRFLOW_CONN_CALIB_INFLUXDB": json.dumps(made)})
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


def test_states_are_in_influxdb(mirrored: Installation, influx2: Any) -> None:
    def carried() -> bool:
        with mirrored.ledger.read() as connection:
            row = state.find(connection, "calib_influxdb")
            return row is not None and row.cursor == outbox.last_id(connection) > 0

    mirrored.add_runs([1])
    assert mirrored.inject() == "success"
    mirrored.wait(carried, 300, "the mirror")
    # The triggerer is killed with the mirror in it; another one goes on.
    mirrored.kill("triggerer")
    mirrored.wait(lambda: "done" in mirrored.task_states().values(), 300, "a task that is done")
    mirrored.wait(carried, 300, "the mirror after the kill")
    report = check(mirrored.ledger, InfluxClient(target_of(influx2)))
    assert report.clean, report
    assert report.measurements["run_task"].expected
    [run] = mirrored.airflow_runs("calib_mirror")
    assert mirrored.airflow_tasks("calib_mirror", run["dag_run_id"]) == {"mirror": "deferred"}
    logs = [file for file in (mirrored.folder / "airflow").rglob("*.log") if file.is_file()]
    assert logs
    assert [file for file in logs if influx2.token in file.read_text(errors="replace")] == []
