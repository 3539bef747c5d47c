"""Campaigns in a real Airflow: one that begins in the middle, one that is paused, one that is cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.plugins.priority import PROMPT_WEIGHT
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "afresh"
RUNS = range(6001, 6005)
GROUP = f"{WORKFLOW}/sum-r6001"
CREATE = ("--source", WORKFLOW, "--workflow", WORKFLOW, "--runs", "6001-6004")


@pytest.fixture(scope="module", autouse=True)
def first_pass(installation: Installation) -> None:
    """What prompt has made of the runs."""
    installation.add_workflow(WORKFLOW)
    installation.add_runs(RUNS)
    assert installation.inject() == "success"
    installation.wait(lambda: installation.task_states().get((GROUP, "deliver")) == "done", 600, "a payload of prompt")


def payload(installation: Installation, campaign: str) -> Any:
    table = tables.payload
    (row,) = installation.rows(select(table).where(table.c.campaign == campaign, table.c.workflow == WORKFLOW))
    return row


def test_it_begins_in_the_middle(installation: Installation) -> None:
    installation.calib("campaign", "create", "second", *CREATE, "--from", "deliver")
    assert installation.inject() == "success"
    states = lambda: installation.task_states("second")  # noqa: E731
    installation.wait(lambda: states().get((GROUP, "deliver")) == "done", 300, "a payload of second")
    assert states() == {(GROUP, "deliver"): "done"}, "nothing else is run"
    installation.wait_run_ended(f"{WORKFLOW}__sum", "second__sum-r6001")
    assert set(installation.airflow_tasks(f"{WORKFLOW}__sum", "second__sum-r6001").values()) == {"success"}
    first, second = payload(installation, "prompt"), payload(installation, "second")
    assert first.content_hash == second.content_hash
    assert second.provenance["made_by"] == first.provenance["made_by"]
    assert (second.provenance["first_tasks"], second.provenance["base_campaign"]) == (["deliver"], "prompt")


def test_a_pause_and_a_cancel(installation: Installation) -> None:
    installation.control_job(6001, "hold")
    installation.calib("campaign", "create", "third", *CREATE)
    installation.calib("campaign", "pause", "third")
    assert installation.inject() == "success"
    assert len(installation.task_states("third")) > 0, "runs are assigned"
    opened = [run["dag_run_id"] for run in installation.airflow_runs(f"{WORKFLOW}__run")]
    assert not [name for name in opened if name.startswith("third")]
    assert json.loads(installation.calib("campaign", "resume", "third", "--json"))["state"] == "open"
    assert installation.inject() == "success"

    def held() -> bool:
        states = installation.task_states("third")
        others = [states.get((f"{WORKFLOW}/run-r{run}", "work")) for run in RUNS[1:]]
        return states.get((f"{WORKFLOW}/run-r6001", "work")) == "processing" and set(others) == {"done"}

    installation.wait(held, 400, "one run to be left")
    path = f"/api/v2/dags/{WORKFLOW}__run/dagRuns/~/taskInstances"
    tasks = installation.airflow.call("GET", path)["task_instances"]
    weights = {item["dag_run_id"]: item["priority_weight"] for item in tasks}
    assert weights["prompt__run-r6001"] == weights["third__run-r6001"] + PROMPT_WEIGHT
    shown = json.loads(installation.calib("campaign", "show", "third", "--json"))
    assert (shown["state"], shown["ended"]) == ("open", 3)
    installation.calib("campaign", "cancel", "third", "--yes", "--reason", "wrong")
    installation.wait(
        lambda: installation.task_states("third").get((f"{WORKFLOW}/run-r6001", "work")) == "failed", 120, "the end"
    )
    assert set(installation.task_states("third").values()) == {"done", "failed", "skipped"}
    installation.wait_run_ended(f"{WORKFLOW}__run", "third__run-r6001")
    table, group = tables.generation, tables.run_group
    query = select(table.c.reason).join(group).where(group.c.campaign == "third", table.c.state == "failed")
    assert [row.reason["code"] for row in installation.rows(query)] == ["campaign_cancelled"]
    left = json.loads(installation.calib("jobs", "list", "--campaign", "third", "--json"))
    assert {job["state"] for job in left} <= {"succeeded", "removed"}
    assert "is cancelled" in installation.calib("explain", "sum-r6001", "--campaign", "third", "--workflow", WORKFLOW)
