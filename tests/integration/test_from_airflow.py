"""What begins in Airflow itself: an announcement, a form, a DAG run that a person opens."""

from __future__ import annotations

import pytest

from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "begun"
BACKFILLS = "/api/v2/backfills?dag_id=calib_backfill"


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


def ended(installation: Installation, dag_id: str, conf: dict[str, object]) -> tuple[str, str]:
    """Trigger a DAG with its form filled in; the DAG run, and the state in which it ends."""
    run_id = installation.airflow.trigger(dag_id, conf)
    wait = lambda: installation.airflow.run_state(dag_id, run_id) in ("success", "failed")  # noqa: E731
    installation.wait(wait, 240, f"{dag_id} {run_id} to end")
    return run_id, installation.airflow.run_state(dag_id, run_id)


def log_of(installation: Installation, dag_id: str, run_id: str, task: str) -> str:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/logs/1"
    return str(installation.airflow.call("GET", path)["content"])


def test_a_campaign_by_its_form(installation: Installation) -> None:
    installation.airflow.wait_for_dags("calib_campaign")
    wrong = {"name": "no name", "runs": "7001-x", "workflows": ["begn"], "overrides": {"nothing": 1}}
    run_id, state = ended(installation, "calib_campaign", wrong)
    assert (state, installation.airflow_tasks("calib_campaign", run_id)["check"]) == ("failed", "failed")
    text = log_of(installation, "calib_campaign", run_id, "check")
    for part in ("cannot name a campaign", "neither a run nor a range", "no workflow begn", "nothing"):
        assert part in text
    assert "Traceback" not in text
    right: dict[str, object] = {"name": "by-form", "runs": "7001-7002", "workflows": [WORKFLOW]}
    run_id, state = ended(installation, "calib_campaign", right)
    assert (state, installation.airflow_tasks("calib_campaign", run_id)["create"]) == ("success", "skipped")
    assert "2 runs of begun: 7001 to 7002" in log_of(installation, "calib_campaign", run_id, "check")
    before = len(announced(installation))
    assert ended(installation, "calib_campaign", {**right, "dry_run": False})[1] == "success"
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7001, 7002)}
    installation.wait(lambda: done.items() <= installation.task_states("by-form").items(), 240, "the campaign's runs")
    assert len(announced(installation)) > before, "its creation is an announcement"


def test_a_dag_run_by_hand_is_adopted(installation: Installation) -> None:
    dag_id = f"{WORKFLOW}__sum"
    _, state = ended(installation, dag_id, {"runs": "7001-7002", "campaign": "by-hand"})
    assert state == "success"
    states = installation.task_states("by-hand")
    group = f"{WORKFLOW}/sum-r7001"
    assert states == {(group, "total"): "done", (group, "deliver"): "done"}
    nothing, state = ended(installation, dag_id, {})
    assert state == "failed"
    text = log_of(installation, dag_id, nothing, "wait_for_group")
    assert "fill in runs, such as" in text
    assert "Traceback" not in text


def backfill(installation: Installation, conf: dict[str, object] | None) -> list[str]:
    """Two days in which the runs of this module ended, over REST; the states in which they end."""
    days = {"from_date": "2026-01-05T00:00:00Z", "to_date": "2026-01-06T00:00:00Z"}
    how = {"reprocess_behavior": "completed", "max_active_runs": 2, "dag_run_conf": conf}
    installation.airflow.call("POST", "/api/v2/backfills", {"dag_id": "calib_backfill", **days, **how})

    def states() -> list[str]:
        runs = installation.airflow_runs("calib_backfill")
        return [str(run["state"]) for run in runs if run["run_type"] == "backfill"]

    installation.wait(lambda: len(states()) == 2 and set(states()) <= {"success", "failed"}, 240, "two days")
    return states()


def test_a_backfill_collects_days_into_a_campaign_and_starts_it(installation: Installation) -> None:
    installation.airflow.wait_for_dags("calib_backfill")
    assert backfill(installation, None) == ["failed", "failed"]
    (day, *_) = [run for run in installation.airflow_runs("calib_backfill") if run["run_type"] == "backfill"]
    assert "tick the box" in log_of(installation, "calib_backfill", day["dag_run_id"], "collect")
    installation.wait(
        lambda: all(item["completed_at"] for item in installation.airflow.call("GET", BACKFILLS)["backfills"]),
        240,
        "Airflow to see the backfill's end",
    )
    assert backfill(installation, {"campaign": "days", "workflows": [WORKFLOW]}) == ["success", "success"]
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7001, 7002)}
    installation.wait(lambda: done.items() <= installation.task_states("days").items(), 300, "the days' runs")
