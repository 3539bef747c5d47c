"""What begins in Airflow itself: an announcement, a form, a DAG run that a person opens, a backfill.

Each of these dies at every point where it can, and what it was to do is done once all the same.
"""

from __future__ import annotations

import re
import urllib.error
from collections import Counter

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "begun"
RUNS = (7101, 7102)
CRASH_AT = [
    *(f"inject.{point}@{WORKFLOW}" for point in ("before_commit", "after_commit")),
    *(f"{point}@by-form" for point in ("campaign.after_commit", "form.after_create")),
    *(f"adopt.{point}@by-hand" for point in ("before_commit", "after_commit")),
    *(f"backfill.{point}@days" for point in ("after_begin", "after_add", "after_day")),
    "campaign.after_commit@stopped",
    "cancel.after_part",
    "cancel.before_remove@run-r7101",
    "cancel.after_remove@run-r7102",
]
TEN_MISTAKES = {
    "name": "no name",
    "runs": "7101-x",
    "workflows": [WORKFLOW],
    "base": "nowhere",
    "overrides": {"nothing": 1, "begun.resources.memroy": "1GB"},
    "first_tasks": ["fti", "begun.nothing"],
    "max_groups": -1,
    "max_jobs": -1,
    "dry": True,
}
BACKFILLS = "/api/v2/backfills?dag_id=calib_backfill"


@pytest.fixture(scope="module", autouse=True)
def workflow(installation: Installation) -> None:
    installation.add_workflow(WORKFLOW)


@pytest.fixture(autouse=True)
def own_runs(installation: Installation) -> None:
    installation.take_runs_from(WORKFLOW)


def assert_died(installation: Installation, *scopes: str) -> None:
    """All crash points with one of these in their names were reached."""
    fired = {path.name for path in installation.crashes.iterdir()}
    assert {entry for entry in CRASH_AT if any(scope in entry for scope in scopes)} <= fired


def assert_processed_once(installation: Installation, campaign: str) -> None:
    """Each run has one DAG run, one generation and its two jobs, and each of these has run once."""
    opened = Counter(item["dag_run_id"] for item in installation.airflow_runs(f"{WORKFLOW}__run"))
    assert {run_id: n for run_id, n in opened.items() if run_id.startswith(f"{campaign}__")} == {
        f"{campaign}__run-r{run}": 1 for run in RUNS
    }
    group, generation, attempt = tables.run_group, tables.generation, tables.attempt
    here = (group.c.campaign == campaign, group.c.workflow == WORKFLOW, generation.c.task == "work")
    begun = select(group.c.name, func.count()).join(generation, generation.c.group_id == group.c.id).where(*here)
    assert dict(map(tuple, installation.rows(begun.group_by(group.c.name)))) == {f"run-r{run}": 1 for run in RUNS}
    tried = select(func.count()).select_from(attempt).join(generation, generation.c.id == attempt.c.generation_id)
    assert installation.rows(tried.join(group, group.c.id == generation.c.group_id).where(*here))[0][0] == 2 * len(RUNS)


def executed(installation: Installation) -> Counter[int]:
    """How often a job of each run was really executed, in all campaigns."""
    found: Counter[int] = Counter()
    for (run, _, _), n in installation.executions().items():
        found[run] += n if run in RUNS else 0
    return +found


def announced(installation: Installation) -> list[dict[str, object]]:
    runs = installation.airflow_runs("calib_inject")
    return [run for run in runs if run["run_type"] == "asset_triggered"]


def test_what_is_announced_is_injected_at_once_and_announcements_meanwhile_are_one_more(
    installation: Installation,
) -> None:
    before = len(announced(installation))
    installation.add_runs([7101])
    installation.calib("runs", "announce")
    first = installation.wait(lambda: len(announced(installation)) > before, 60, "the first injection")
    assert first
    running = max(announced(installation), key=lambda run: str(run["run_after"]))
    installation.add_runs([7102])
    for _ in range(4):
        installation.calib("runs", "announce")
    meanwhile = installation.airflow.run_state("calib_inject", str(running["dag_run_id"])) in ("queued", "running")
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7101, 7102)}
    installation.wait(lambda: done.items() <= installation.task_states().items(), 240, "both runs")
    followed = lambda: len(announced(installation)) - before - 1  # noqa: E731
    installation.wait(lambda: followed() >= 1, 120, "the injection of what was announced meanwhile")
    if meanwhile:
        assert followed() < 4, "announcements to a running injection are one more"
    assert installation.airflow.call("GET", "/api/v2/dags/calib_inject")["next_dagrun_run_after"], "the interval stays"
    assert_died(installation, "inject.")
    assert_processed_once(installation, "prompt")
    assert executed(installation) == dict.fromkeys(RUNS, 2)


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
    many = {"name": "many", "runs": ", ".join(map(str, range(100_000, 114_000))), "workflows": [WORKFLOW]}
    long = installation.airflow.trigger("calib_campaign", many)
    run_id, state = ended(installation, "calib_campaign", TEN_MISTAKES)
    assert (state, installation.airflow_tasks("calib_campaign", run_id)["check"]) == ("failed", "failed")
    text = log_of(installation, "calib_campaign", run_id, "check")
    for part in ("10 mistakes", "cannot name a campaign", "neither a run nor a range", "nowhere", "nothing"):
        assert part in text
    assert len(re.findall("""'event': ['"]- """, text)) == 10, text
    assert "Trigger again with this config" in text
    assert "Traceback" not in text
    installation.wait(lambda: installation.airflow.run_state("calib_campaign", long) == "failed", 120, "the long form")
    text = log_of(installation, "calib_campaign", long, "check")
    assert "and 13980 more" in text
    assert len(text) < 10_000, "a hundred kilobytes are not told again"
    right: dict[str, object] = {"name": "by-form", "runs": "7101-7102", "workflows": [WORKFLOW]}
    run_id, state = ended(installation, "calib_campaign", right)
    assert (state, installation.airflow_tasks("calib_campaign", run_id)["create"]) == ("success", "skipped")
    assert "2 runs of begun: 7101 to 7102" in log_of(installation, "calib_campaign", run_id, "check")
    before, known = len(announced(installation)), executed(installation)
    assert ended(installation, "calib_campaign", {**right, "dry_run": False})[1] == "success"
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7101, 7102)}
    installation.wait(lambda: done.items() <= installation.task_states("by-form").items(), 240, "the campaign's runs")
    assert len(announced(installation)) > before, "its creation is an announcement"
    assert_died(installation, "by-form")
    assert_processed_once(installation, "by-form")
    assert executed(installation) - known == dict.fromkeys(RUNS, 2)


def test_a_dag_run_by_hand_is_adopted(installation: Installation) -> None:
    dag_id = f"{WORKFLOW}__sum"
    _, state = ended(installation, dag_id, {"runs": "7101-7102", "campaign": "by-hand"})
    assert state == "success"
    states = installation.task_states("by-hand")
    group = f"{WORKFLOW}/sum-r7101"
    assert states == {(group, "total"): "done", (group, "deliver"): "done"}
    assert_died(installation, "by-hand")
    made = select(tables.generation).join(tables.run_group).where(tables.run_group.c.campaign == "by-hand")
    assert len(installation.rows(made)) == 1
    nothing, state = ended(installation, dag_id, {})
    assert state == "failed"
    text = log_of(installation, dag_id, nothing, "wait_for_group")
    assert "fill in runs, such as" in text
    assert "Traceback" not in text


def backfill(installation: Installation, conf: dict[str, object] | None) -> list[str]:
    """Two days in which the runs of this module ended, over REST; the states in which they end."""
    days = {"from_date": "2026-01-05T00:00:00Z", "to_date": "2026-01-06T00:00:00Z"}
    how = {"reprocess_behavior": "completed", "max_active_runs": 2, "dag_run_conf": conf}

    def begun() -> bool:
        try:
            installation.airflow.call("POST", "/api/v2/backfills", {"dag_id": "calib_backfill", **days, **how})
        except urllib.error.HTTPError as error:
            if error.code != 409:  # Airflow's own database is locked, or the one before is not over yet.
                raise
            return False
        return True

    installation.wait(begun, 120, "Airflow to take the backfill")

    def states() -> list[str]:
        runs = installation.airflow_runs("calib_backfill")
        return [str(run["state"]) for run in runs if run["dag_run_id"].startswith("backfill__2026-01-")]

    installation.wait(lambda: len(states()) == 2 and set(states()) <= {"success", "failed"}, 240, "two days")
    return states()


def test_a_backfill_collects_days_into_a_campaign_and_starts_it(installation: Installation) -> None:
    installation.airflow.wait_for_dags("calib_backfill")
    assert backfill(installation, None) == ["failed", "failed"]
    runs = installation.airflow_runs("calib_backfill")
    day = next(run for run in runs if run["dag_run_id"].startswith("backfill__2026-01-"))
    assert "tick the box" in log_of(installation, "calib_backfill", day["dag_run_id"], "collect")
    installation.wait(
        lambda: all(item["completed_at"] for item in installation.airflow.call("GET", BACKFILLS)["backfills"]),
        240,
        "Airflow to see the backfill's end",
    )
    known = executed(installation)
    assert backfill(installation, {"campaign": "days", "workflows": [WORKFLOW]}) == ["success", "success"]
    done = {(f"{WORKFLOW}/run-r{run}", "work"): "done" for run in (7101, 7102)}
    installation.wait(lambda: done.items() <= installation.task_states("days").items(), 300, "the days' runs")
    assert_died(installation, "@days")
    assert_processed_once(installation, "days")
    assert executed(installation) - known == dict.fromkeys(RUNS, 2)


def test_a_campaign_that_dies_at_its_creation_and_its_cancel(installation: Installation) -> None:
    for run in RUNS:
        installation.control_job(run, "hold")
    what = ("--source", WORKFLOW, "--workflow", WORKFLOW, "--runs", "7101-7102")
    crash = {name: installation.environment[name] for name in ("CALIB_CRASH_AT", "CALIB_CRASH_FOLDER")}
    assert installation.run_calib("campaign", "create", "stopped", *what, **crash).returncode < 0
    installation.calib("campaign", "create", "stopped", *what)
    installation.calib("runs", "announce")
    work = {(f"{WORKFLOW}/run-r{run}", "work") for run in RUNS}
    states = lambda: installation.task_states("stopped")  # noqa: E731
    installation.wait(lambda: {states().get(key) for key in work} == {"processing"}, 240, "jobs that run")
    assert installation.run_calib("campaign", "cancel", "stopped", "--yes", **crash).returncode < 0
    run_id = installation.airflow.trigger("calib_housekeeping")
    installation.wait(lambda: set(states().values()) <= {"failed", "skipped"}, 240, "the end of what ran")
    installation.wait(
        lambda: installation.airflow.run_state("calib_housekeeping", run_id) in ("success", "failed"), 240, "its end"
    )
    assert_died(installation, "stopped", "cancel.")
    assert_processed_once(installation, "stopped")
