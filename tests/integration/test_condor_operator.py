"""CondorJobsOperator in a hand-written DAG: a real Airflow, a real pool."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.dag_groups import group_name
from tests.integration.harness import HERE, Installation

pytestmark = [pytest.mark.airflow, pytest.mark.condor, pytest.mark.timeout(600)]

DAG = "by-hand.daily"
TASKS = {"make": "success", "add.up": "success"}
RUN_ID = "today"
ON_POOL = True
CRASH_AT = [f"{point}@{group_name(RUN_ID)}" for point in ("generation.after_create", "round.after_submit")]


@pytest.fixture(scope="module", autouse=True)
def dag(installation: Installation) -> None:
    """The DAG among those of the workflows."""
    shutil.copytree(
        HERE / "condor_operator" / "dags", installation.folder / "installation" / "dags", dirs_exist_ok=True
    )
    installation.airflow.wait_for_dags(DAG)
    installation.airflow.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})


def executions(installation: Installation) -> Counter[str]:
    return Counter((installation.control / "by-hand").read_text().splitlines())


def wait_for(installation: Installation, run_id: str, tasks: dict[str, str]) -> None:
    def reached() -> bool:
        now = installation.airflow_tasks(DAG, run_id)
        assert "failed" in tasks.values() or "failed" not in now.values(), installation.describe()
        return {name: now[name] for name in tasks} == tasks

    installation.wait(reached, 120, f"{run_id} to be {tasks}")


def jobs_listed(installation: Installation, task: str) -> list[tuple[int, int, str, int]]:
    text = installation.calib("jobs", "list", "--campaign", "dags", "--task", task, "--json")
    return [(row["generation"], row["job_index"], row["state"], row["attempt"]) for row in json.loads(text)]


def test_a_hand_written_dag_runs_its_jobs_on_the_pool(installation: Installation) -> None:
    run_id, group = RUN_ID, group_name(RUN_ID)
    body = {"dag_run_id": run_id, "logical_date": None}
    installation.airflow.call("POST", f"/api/v2/dags/{DAG}/dagRuns", body)

    # The worker dies after the generation is there, the next one after the submission: both are attached to.
    wait_for(installation, run_id, {"make": "failed"})
    assert {path.name for path in installation.crashes.iterdir()}.issuperset(CRASH_AT)
    assert jobs_listed(installation, "make") == [(1, n, "failed" if n == 3 else "succeeded", 1) for n in range(5)]
    assert "broken on purpose" in installation.calib(
        "jobs", "logs", group, "make", "3", "--campaign", "dags", "--stderr"
    )
    assert "exit code 65" in installation.calib("explain", group, "--campaign", "dags")

    # A clear goes on with what failed.
    (installation.control / "mended").touch()
    installation.clear(DAG, run_id, "make", downstream=True)
    wait_for(installation, run_id, TASKS)
    assert jobs_listed(installation, "make") == [(1, n, "succeeded", 2 if n == 3 else 1) for n in range(5)]
    assert set(executions(installation).values()) == {1}
    assert len(executions(installation)) == 6

    # The next task had the products of this one.
    path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/add.up/xcomEntries"
    totals = json.loads(json.dumps(installation.airflow.call("GET", f"{path}/total")["value"]))
    totals = json.loads(totals) if isinstance(totals, str) else totals
    assert [Path(file).read_text().split() for file in totals] == [["10", "11"], ["12", "13"], ["14"]]
    assert jobs_listed(installation, "add+up") == [(1, n, "succeeded", 1) for n in range(3)]

    # A clear of what is done starts the next generation, through the command line as in the UI.
    installation.wait_run_ended(DAG, run_id)
    installation.calib("retry", group, "--task", "add+up", "--campaign", "dags")
    installation.wait(
        lambda: jobs_listed(installation, "add+up") == [(2, n, "succeeded", 1) for n in range(3)], 60, "generation 2"
    )
    columns = (tables.generation.c.task, tables.generation.c.backend, tables.generation.c.state)
    rows = installation.rows(select(*columns).join(tables.run_group).where(tables.run_group.c.campaign == "dags"))
    assert sorted(rows) == [("add+up", "condor", "done"), ("add+up", "condor", "done"), ("make", "condor", "done")]
    kinds = {row.name: row.kind for row in installation.rows(select(tables.campaign))}
    assert kinds["dags"] == "dags"
