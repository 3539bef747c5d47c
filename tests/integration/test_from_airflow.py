"""What begins in Airflow itself: an announcement, a form, a DAG run that a person opens."""

from __future__ import annotations

import pytest

from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "begun"


@pytest.fixture(scope="module", autouse=True)
def workflow(installation: Installation) -> None:
    installation.add_workflow(WORKFLOW)


@pytest.fixture(autouse=True)
def own_runs(installation: Installation) -> None:
    installation.take_runs_from(WORKFLOW)


def announced(installation: Installation) -> list[dict[str, object]]:
    runs = installation.airflow_runs("calib_inject")
    return [run for run in runs if run["run_type"] == "asset_triggered"]


def test_what_is_announced_is_injected_at_once_and_announcements_meanwhile_are_one_more(
    installation: Installation,
) -> None:
    before = len(announced(installation))
    installation.add_runs([7001])
    installation.calib("runs", "announce")
    first = installation.wait(lambda: len(announced(installation)) > before, 60, "the first injection")
    assert first
    running = max(announced(installation), key=lambda run: str(run["run_after"]))
    installation.add_runs([7002])
    for _ in range(4):
        installation.calib("runs", "announce")
    meanwhile = installation.airflow.run_state("calib_inject", str(running["dag_run_id"])) in ("queued", "running")
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7001, 7002)}
    installation.wait(lambda: done.items() <= installation.task_states().items(), 240, "both runs")
    followed = len(announced(installation)) - before - 1
    assert followed >= 1
    if meanwhile:
        assert followed < 4, "announcements to a running injection are one more"
    assert installation.airflow.call("GET", "/api/v2/dags/calib_inject")["next_dagrun_run_after"], "the interval stays"
