"""``calib runs announce``, against a server that answers as Airflow's REST API does."""

# ruff: noqa: F811 - airflow is a fixture

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Calib
from tests.cli.test_airflow import FakeAirflow, airflow  # noqa: F401 - airflow is a fixture
from tests.cli.world import NOW

EVENTS = "/api/v2/assets/events"


def knows_runs(airflow: FakeAirflow, *dags: str, **about: Any) -> None:
    for name in dags or ("calib_inject",):
        airflow.set(f"/api/v2/dags/{name}", {"is_paused": False, **about})
    of_asset = [{"dag_id": name} for name in dags or ("calib_inject",)]
    assets = [{"id": 6, "uri": "calib://runs/x"}, {"id": 7, "uri": "calib://runs/", "scheduled_dags": of_asset}]
    airflow.set("/api/v2/assets", {"assets": assets})
    airflow.set(EVENTS, {"id": 41, "timestamp": NOW.isoformat()})


def test_announce_makes_an_event_of_the_asset_of_that_address(calib: Calib, airflow: FakeAirflow) -> None:
    knows_runs(airflow)
    assert "calib_inject runs at once" in calib.plain("runs", "announce")
    method, path, body = airflow.asked[-1]
    assert (method, path, body["asset_id"]) == ("POST", EVENTS, 7)
    assert body["extra"]["by"]
    assert calib.json("runs", "announce") == {"asset": "calib://runs", "event": 41, "at": NOW.isoformat()}


def test_announce_to_a_paused_dag_is_an_error_and_makes_no_event(calib: Calib, airflow: FakeAirflow) -> None:
    knows_runs(airflow, is_paused=True)
    said = calib.fails("runs", "announce")
    assert "calib_inject is paused: nothing was announced" in said
    assert "airflow dags unpause calib_inject" in said
    assert all(method == "GET" for method, *_ in airflow.asked)


def test_announce_says_what_airflow_lacks(calib: Calib, airflow: FakeAirflow) -> None:
    assert "has no DAG that waits for calib://runs" in calib.fails("runs", "announce")
    airflow.set("/api/v2/assets", {"assets": [{"id": 6, "uri": "calib://runs/x"}]})
    assert "has no DAG that waits for calib://runs" in calib.fails("runs", "announce")
    knows_runs(airflow)
    airflow.set(EVENTS, {"detail": "no"}, 403)
    assert "refuses the token (403)" in calib.fails("runs", "announce")


def test_announce_is_for_every_team_that_is_not_paused(calib: Calib, airflow: FakeAirflow) -> None:
    knows_runs(airflow, "calib_inject_ecal", "calib_inject_muon")
    airflow.set("/api/v2/dags/calib_inject_ecal", {"is_paused": True})
    calib.plain("runs", "announce")
    assert airflow.asked[-1][1] == EVENTS


def test_announce_without_an_airflow_says_so(calib: Calib, airflow: FakeAirflow, monkeypatch: Any) -> None:
    monkeypatch.setenv("CALIB_AIRFLOW_URL", "http://127.0.0.1:9")
    assert "does not answer" in calib.fails("runs", "announce")
    monkeypatch.delenv("CALIB_AIRFLOW_URL")
    assert "CALIB_AIRFLOW_URL is not set" in calib.fails("runs", "announce")
