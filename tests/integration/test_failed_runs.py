"""A group goes on without a run that has failed for good in what it needs, in a real Airflow, and takes it in later."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "gappy"
ON, WAITS = "count-r7501", "count-r7511"
FAILS, TWO_FAIL = 7503, (7512, 7513)
RUNS = range(7501, 7511)
HELD = """sh, -c, 'while [ -e "$TOY_CONTROL/held-$1" ]; do sleep 0.5; done; exec "$0" "$@"'"""
POLICY = "{count: {runs: 10, max_wait: 1h, failed_runs: {exclude: 0.1}}}"


@pytest.fixture(scope="module", autouse=True)
def first_pass(installation: Installation) -> None:
    """Ten runs, of which one still works; and a group of three, of which two fail."""
    installation.add_workflow(WORKFLOW)
    spec = installation.specs / f"{WORKFLOW}.yaml"
    text = spec.read_text().replace("{sum: {luminosity: 4}}", POLICY).replace("retries: 2", "retries: 0")
    installation.edit(spec, text.replace("command: [", f"command: [{HELD}, ", 1))
    installation.airflow.wait_for_dags(f"{WORKFLOW}__count")
    for run in (FAILS, *TWO_FAIL):
        installation.control_job(run, "always")
    (installation.control / f"held-{FAILS}").touch()
    installation.add_runs([*RUNS, 7511, *TWO_FAIL])
    assert installation.inject() == "success"


def state(installation: Installation, group: str, task: str) -> str | None:
    return installation.task_states().get((f"{WORKFLOW}/{group}", task))


def wait_for(installation: Installation, group: str, task: str, wanted: str) -> None:
    installation.wait(lambda: state(installation, group, task) == wanted, 400, f"{task} of {group} to be {wanted}")


def reason(installation: Installation, group: str) -> str:
    """What the sensor says in Airflow's UI."""
    where = f"/api/v2/dags/{WORKFLOW}__count/dagRuns/prompt__{group}/taskInstances/total.locks/xcomEntries"
    entries = installation.airflow.call("GET", where)["xcom_entries"]
    if not any(entry["key"] == "reason" for entry in entries):
        return ""
    return str(installation.airflow.call("GET", f"{where}/reason")["value"])


def log_of(installation: Installation, group: str, task: str) -> str:
    """The log of its first try, when Airflow gives it out."""
    where = f"/api/v2/dags/{WORKFLOW}__count/dagRuns/prompt__{group}/taskInstances/{task}/logs/1?full_content=true"

    def given() -> str:
        with suppress(HTTPError):
            return json.dumps(installation.airflow.call("GET", where))
        return ""

    return str(installation.wait(given, 60, f"the log of {task}"))


def explain(installation: Installation, what: str) -> str:
    return installation.calib("explain", what, "--workflow", WORKFLOW)


def published(installation: Installation, revision: int) -> Any:
    table = tables.payload
    query = select(table).where(table.c.workflow == WORKFLOW, table.c.revision == revision)
    found = installation.rows(query)
    return found[0] if found else None


def test_what_still_works_is_waited_for(installation: Installation) -> None:
    """The run may yet be done: nobody is left out."""
    said = lambda: reason(installation, ON)  # noqa: E731
    installation.wait(lambda: "9 of 10 runs done" in said(), 400, "nine of ten")
    assert f"{FAILS} (" in said()
    assert "goes on without" not in said()
    assert installation.rows(select(tables.excluded_run)) == []


def test_it_goes_on_without_the_one_that_fails_for_good(installation: Installation) -> None:
    (installation.control / f"held-{FAILS}").unlink()
    wait_for(installation, f"run-r{FAILS}", "work", "failed")
    wait_for(installation, ON, "deliver", "done")
    others = [run for run in RUNS if run != FAILS]
    said = published(installation, 1).provenance
    assert (said["runs"], said["excluded_runs"], list(said["failed_runs"])) == (others, [FAILS], [str(FAILS)])
    why = said["failed_runs"][str(FAILS)]
    assert (why["failed"], why["needs"]) == (f"{WORKFLOW}.work", f"{WORKFLOW}.work")
    assert "exit code 4" in why["said"]
    content = installation.calib("payload", "get", "GappyConstants", str(FAILS + 1))
    assert sorted({int(line.split()[0]) for line in content.splitlines()}) == others
    left_out = f"run {FAILS}, left out: {WORKFLOW}.work failed for it at"
    assert f"open without {left_out}" in log_of(installation, ON, "total.locks")
    assert f"total of {ON} goes on without {left_out}" in log_of(installation, ON, "total")


def test_people_are_told(installation: Installation) -> None:
    told = explain(installation, str(FAILS))
    assert f"left out: {WORKFLOW}.work failed for it at" in told
    assert f"calib group amend {ON} --add {FAILS}" in told
    assert "left out" in explain(installation, ON)
    assert "left out" not in explain(installation, str(FAILS + 1))
    (row,) = [
        line for line in installation.calib("status", "--run", str(FAILS)).splitlines() if f" {FAILS} " in f" {line} "
    ]
    assert "excluded" in row


def test_more_failures_than_allowed_are_waited_for(installation: Installation) -> None:
    for run in TWO_FAIL:
        wait_for(installation, f"run-r{run}", "work", "failed")
    wanted = f"{TWO_FAIL[0]} (failed; 2 of 3 runs have, and it goes on without 0 at most)"
    installation.wait(lambda: wanted in reason(installation, WAITS), 300, "the reason of the sensor")
    assert wanted in explain(installation, WAITS)
    assert state(installation, WAITS, "total") == "waiting"


def test_what_is_done_later_enters_by_amending(installation: Installation) -> None:
    amend = ("group", "amend", ON, "--workflow", WORKFLOW, "--add", str(FAILS), "--reason", "its disk is back")
    refused = installation.run_calib(*amend)
    assert f"run {FAILS} is not done yet: {WORKFLOW}.work has failed for it" in refused.stderr
    (installation.control / str(FAILS)).unlink()
    installation.calib("retry", f"run-r{FAILS}", "--workflow", WORKFLOW)
    wait_for(installation, f"run-r{FAILS}", "work", "done")
    assert state(installation, ON, "deliver") == "done"
    installation.wait_run_ended(f"{WORKFLOW}__count", f"prompt__{ON}")
    installation.calib(*amend)
    row = installation.wait(lambda: published(installation, 2), 600, "the next revision")
    said = row.provenance
    assert (said["runs"], said["excluded_runs"], said["edition"]) == (list(RUNS), [], 2)
    assert "left out" not in explain(installation, str(FAILS))
