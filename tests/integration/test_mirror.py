"""The mirror in a real Airflow: every change is seen in a real InfluxDB, which holds up nothing while it is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables
from tests.cache import UnavailableError
from tests.influx.fixture import VERSION_2
from tests.influx.server import Influx
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.influx, pytest.mark.timeout(1200)]

WORKFLOW = "mirrored"
FIRST, WHILE_AWAY = range(6001, 6005), range(6005, 6009)


@pytest.fixture(scope="module")
def server(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    try:
        with Influx(VERSION_2, tmp_path_factory.mktemp("influxdb")).start() as started:
            yield started
            with suppress(HTTPError):
                installation.airflow.call("DELETE", "/api/v2/connections/calib_influxdb")
    except UnavailableError as error:
        pytest.skip(str(error))


def connection(server: Influx, **changed: Any) -> dict[str, Any]:
    """What a person fills into the form."""
    extra = {"org": server.org, "bucket": server.bucket, **changed.pop("extra", {})}
    values = {"conn_type": "calib_influxdb", "host": server.url, "password": server.token, **changed}
    return {"connection_id": "calib_influxdb", **values, "extra": json.dumps(extra)}


def calib_mirror(installation: Installation, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, answer and standard error of a command that has the connection from Airflow's database."""
    done = installation.run_calib("mirror", *arguments, "--json", **installation.airflow.variables)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def status(installation: Installation) -> dict[str, Any]:
    _, said, _ = calib_mirror(installation, "status")
    return dict(said["targets"][0]) if said["targets"] else {}


def wait_carried(installation: Installation) -> None:
    """Figures of the system are added all the time: so the events before them are what is waited for."""
    (last,) = installation.rows(select(func.max(tables.event.c.id)))
    targets = select(tables.mirror_target).where(tables.mirror_target.c.cursor >= last[0])
    # To ask by the command line all the time costs more than the mirror.
    installation.wait(lambda: installation.rows(targets), 120, "the mirror to be complete")
    assert status(installation)["cursor"] >= last[0]


def all_done(installation: Installation, runs: range) -> bool:
    states = installation.task_states()
    return all(states.get((f"{WORKFLOW}/run-r{run}", "work")) == "done" for run in runs)


def seen(server: Influx) -> dict[int, str]:
    """Run → the state of its task ``toy.work`` as a dashboard shows it."""
    where = f"workflow = '{WORKFLOW}' AND task = 'work'"
    query = f"SELECT max(event) AS e, state FROM run_task WHERE {where} GROUP BY run"
    return {int(row["run"]): str(row["state"]) for row in server.query(query)}


def test_the_connection_has_a_form_and_a_test(installation: Installation, server: Influx) -> None:
    said = installation.airflow.call("POST", "/api/v2/connections/test", connection(server))
    assert said["status"] is True, said
    assert VERSION_2 in said["message"]
    for wrong, told in [
        ({"extra": {"bucket": "nowhere"}}, "nowhere"),
        ({"password": "wrong-token"}, "401"),
        ({"host": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ]:
        said = installation.airflow.call("POST", "/api/v2/connections/test", connection(server, **wrong))
        assert said["status"] is False
        assert told in said["message"]
        assert server.token not in said["message"]


def test_a_connection_made_in_the_ui_is_enough(installation: Installation, server: Influx) -> None:
    installation.airflow.call("POST", "/api/v2/connections", connection(server))
    installation.add_workflow(WORKFLOW)
    installation.add_runs(FIRST, fill=60)
    assert installation.inject() == "success"
    installation.wait(lambda: all_done(installation, FIRST), 240, "the first runs to be done")
    wait_carried(installation)
    assert seen(server) == dict.fromkeys(FIRST, "done")


@pytest.mark.long
def test_an_influxdb_that_is_away_holds_up_nothing(installation: Installation, server: Influx) -> None:
    server.kill()
    installation.add_runs(WHILE_AWAY, fill=61)
    assert installation.inject() == "success"
    installation.wait(lambda: all_done(installation, WHILE_AWAY), 240, "the runs to be done without it")
    trouble = installation.wait(lambda: status(installation)["last_error"], 60, "the mirror to say what is wrong")
    assert server.url in trouble
    assert server.token not in trouble
    installation.kill("triggerer")
    server.start()
    wait_carried(installation)
    assert seen(server) == dict.fromkeys([*FIRST, *WHILE_AWAY], "done")
    code, report, errors = calib_mirror(installation, "check")
    assert (code, report["clean"]) == (0, True), (report, errors)
    assert sum(one["expected"] for one in report["measurements"].values()) > 100
    (run,) = installation.airflow_runs("calib_mirror")
    assert installation.airflow_tasks("calib_mirror", run["dag_run_id"]) == {"mirror": "deferred"}
    logs = [file for file in (installation.folder / "airflow").rglob("*.log") if file.is_file()]
    assert logs
    assert [file for file in logs if server.token in file.read_text(errors="replace")] == []


def test_housekeeping_tells_drift(installation: Installation, server: Influx) -> None:
    query = f"SELECT state FROM run_task WHERE workflow = '{WORKFLOW}' AND task = 'work' AND run = '{FIRST[0]}'"
    time = server.query(query)[-1]["time"]
    series = f"run_task,campaign=prompt,workflow={WORKFLOW},task=work,run={FIRST[0]}"
    server.write(f'{series} state="lost" {time}', f"{series} state_code=9i,event=999999999i {time + 1}")
    code, report, _ = calib_mirror(installation, "check")
    counts = report["measurements"]["run_task"]
    assert (code, counts["different"], counts["extra"]) == (1, 1, 1)
    run_id = installation.airflow.trigger("calib_housekeeping")
    installation.wait(
        lambda: installation.airflow.run_state("calib_housekeeping", run_id) in ("success", "failed"), 240, "its end"
    )
    path = f"/api/v2/dags/calib_housekeeping/dagRuns/{run_id}/taskInstances/housekeeping/xcomEntries/return_value"
    said = installation.airflow.call("GET", path)["value"]
    assert any("run_task: 0 missing, 1 extra, 1 different" in line for line in said["drift"]), said
