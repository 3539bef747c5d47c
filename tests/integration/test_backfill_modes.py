"""Airflow's backfills in all their modes, each with the outcome that docs/backfill.md states."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.spec.language import BACKFILL
from tests.integration.harness import Installation

# Airflow on a busy SQLite may let a backfill wait for itself for a minute; then it has it, and says that it has not.
pytestmark = [pytest.mark.long, pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "daily"
FIRST_OF_FEBRUARY = 31 * 24 * 60  # a run's number is the minute of the year in which it begins
DAYS = {day: FIRST_OF_FEBRUARY + (day - 1) * 24 * 60 + 60 for day in (2, 3, 4, 5)}
"""Day of February → its only run."""


@pytest.fixture(scope="module", autouse=True)
def a_run_a_day(installation: Installation) -> None:
    installation.add_workflow(WORKFLOW)
    installation.add_runs(list(DAYS.values()))
    assert installation.inject() == "success"
    installation.airflow.wait_for_dags(BACKFILL)


@pytest.fixture(autouse=True)
def own_runs(installation: Installation) -> Iterator[None]:
    installation.take_runs_from(WORKFLOW)
    yield
    cancel(installation)


def cancel(installation: Installation) -> None:
    """Let no backfill run: by itself Airflow sees an end only every half minute, and begins no second one before."""
    for one in backfills(installation):
        if one["completed_at"] is None:
            with suppress(urllib.error.HTTPError):  # it has just been completed by itself
                installation.airflow.call("PUT", f"/api/v2/backfills/{one['id']}/cancel")
    installation.wait(lambda: all(one["completed_at"] for one in backfills(installation)), 120, "no backfill to run")


def backfills(installation: Installation) -> list[dict[str, object]]:
    return list(installation.airflow.call("GET", f"/api/v2/backfills?dag_id={BACKFILL}")["backfills"])


def begin(installation: Installation, first: int, last: int, campaign: str, **how: object) -> None:
    """A backfill over days of February."""
    days = {"from_date": f"2026-02-{first:02}T00:00:00Z", "to_date": f"2026-02-{last:02}T23:59:00Z"}
    conf = {"campaign": campaign, "workflows": [WORKFLOW]} if campaign else None
    asked = {"dag_id": BACKFILL, "dag_run_conf": conf, "max_active_runs": 4, **days, **how}
    installation.airflow.call("POST", "/api/v2/backfills", asked)


def refused(installation: Installation, first: int, last: int, campaign: str, **how: object) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        begin(installation, first, last, campaign, **how)
    return error.value.code


def states(installation: Installation) -> dict[int, str]:
    """Day of February → state of its DAG run, which is named after its end."""
    found = installation.airflow_runs(BACKFILL)
    runs = {run["dag_run_id"]: str(run["state"]) for run in found if run["dag_run_id"].startswith("backfill__2026-02-")}
    return {int(name[18:20]) - 1: state for name, state in runs.items()}


def wait_states(installation: Installation, wanted: dict[int, str]) -> None:
    installation.wait(lambda: states(installation) == wanted, 240, f"days that are {wanted}")


def runs_of(installation: Installation, campaign: str) -> list[int]:
    table = tables.campaign_run
    return sorted(row.run for row in installation.rows(select(table.c.run).where(table.c.campaign == campaign)))


def wait_started(installation: Installation, campaign: str) -> None:
    table = tables.campaign
    query = select(table.c.state).where(table.c.name == campaign)
    installation.wait(
        lambda: [row.state for row in installation.rows(query)] in (["grouping"], ["open"]), 120, f"{campaign} to start"
    )


def test_of_a_paused_dag_days_wait_and_a_second_backfill_is_refused(installation: Installation) -> None:
    where = f"/api/v2/dags/{BACKFILL}"
    installation.airflow.call("PATCH", where, {"is_paused": True})
    begin(installation, 2, 3, "backwards", run_backwards=True)
    assert refused(installation, 4, 4, "second") == 409
    assert set(states(installation).values()) == {"queued"}
    installation.airflow.call("PATCH", where, {"is_paused": False})
    wait_states(installation, {2: "success", 3: "success"})
    wait_started(installation, "backwards")
    assert runs_of(installation, "backwards") == [DAYS[2], DAYS[3]]


def test_days_in_the_future_are_refused(installation: Installation) -> None:
    far = {"from_date": "2099-01-01T00:00:00Z", "to_date": "2099-01-02T00:00:00Z"}
    assert refused(installation, 2, 2, "future", **far) == 422


def test_missing_runs_are_days_without_a_dag_run(installation: Installation) -> None:
    begin(installation, 2, 4, "missing", reprocess_behavior="none")
    wait_states(installation, {2: "success", 3: "success", 4: "success"})
    wait_started(installation, "missing")
    assert runs_of(installation, "missing") == [DAYS[4]], "the other days are there, of another campaign"


def test_missing_and_errored_runs_are_those_that_failed_too(installation: Installation) -> None:
    begin(installation, 5, 5, "")
    wait_states(installation, {2: "success", 3: "success", 4: "success", 5: "failed"})
    cancel(installation)
    begin(installation, 4, 5, "errored", reprocess_behavior="failed")
    wait_states(installation, {2: "success", 3: "success", 4: "success", 5: "success"})
    wait_started(installation, "errored")
    assert runs_of(installation, "errored") == [DAYS[5]]
