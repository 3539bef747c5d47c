"""From Airflow's home page to why something waits or has failed, and what a click on a task means to the ledger."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.browser.person import PATIENCE, Person
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "watched"
DAG, SUM = f"{WORKFLOW}__run", f"{WORKFLOW}__sum"


@pytest.fixture(scope="module", autouse=True)
def seven_runs(installation: Installation) -> None:
    """Runs 1 to 4 are a closed sum, of which run 3 fails; 5 to 7 a forming one."""
    installation.add_workflow(WORKFLOW)
    for run, what in {3: "always", 5: "hold", 6: "hold"}.items():
        installation.control_job(run, what)
    installation.add_runs(range(1, 8))
    assert installation.inject() == "success"


def state(installation: Installation, group: str, task: str) -> str | None:
    return installation.task_states().get((f"{WORKFLOW}/{group}", task))


def wait_state(installation: Installation, group: str, task: str, wanted: str) -> None:
    installation.wait(lambda: state(installation, group, task) == wanted, 300, f"{task} of {group} to be {wanted}")


def code(installation: Installation, group: str, task: str) -> str | None:
    table, here = tables.group_task, tables.run_group
    query = select(table.c.reason).join(here).where(here.c.name == group, here.c.workflow == WORKFLOW)
    return next(((row.reason or {}).get("code") for row in installation.rows(query.where(table.c.task == task))), None)


def test_the_log_of_a_failed_job_is_three_clicks_from_home(installation: Installation, person: Person) -> None:
    wait_state(installation, "run-r3", "work", "failed")
    installation.wait_run_ended(DAG, "prompt__run-r3")
    person.page.reload()
    person.page.locator('a[href*="/dag_runs?state=failed"]').click()
    person.page.locator(f'a[href="/dags/{DAG}/runs/prompt__run-r3"]').first.click()
    expect(person.page.get_by_text("run from run 3 (campaign prompt)")).to_be_visible(timeout=PATIENCE)
    person.open_task("work")
    person.read_log(
        "broken on purpose", "exit code 4", f"calib jobs logs run-r3 work 0 --campaign prompt --workflow {WORKFLOW}"
    )


def test_the_reason_of_a_waiting_group_and_the_buttons(installation: Installation, person: Person) -> None:
    person.page.locator('a[href*="/task_instances?task_state=deferred"]').click()
    person.page.locator(f'a[href="/dags/{SUM}/runs/prompt__sum-r1/tasks/total.locks"]').first.click()
    person.read_log("3 of 4 runs done in watched.work; missing 3 (failed)")
    person.tab("Details")
    person.page.get_by_role("link", name="What it waits for").click()
    person.page.wait_for_url(re.compile(f"/dags/{DAG}/runs/prompt__run-r3/tasks/work$"))
    person.read_log("broken on purpose")
    person.tab("Details")
    person.page.get_by_role("link", name="YAML").click()
    person.page.wait_for_url(re.compile(f"/dags/{DAG}$"))
    person.page.get_by_role("button", name="Dag Docs").click()
    expect(person.page.get_by_role("dialog").get_by_text(f"workflow: {WORKFLOW}")).to_be_visible(timeout=PATIENCE)


@pytest.mark.long
def test_a_paused_dag_is_a_reason(installation: Installation, person: Person) -> None:
    person.open_dag(DAG)
    switch = person.page.get_by_role("checkbox").first
    switch.click(force=True)
    expect(switch).not_to_be_checked(timeout=PATIENCE)
    installation.add_runs([8])
    assert installation.inject() == "success"
    assert f"airflow dags unpause {DAG}" in installation.calib("explain", "run-r8", "--workflow", WORKFLOW)
    assert state(installation, "run-r8", "work") == "new"
    switch.click(force=True)
    expect(switch).to_be_checked(timeout=PATIENCE)
    wait_state(installation, "run-r8", "work", "done")


@pytest.mark.long  # through the API: test_people.py
def test_mark_failed_then_clear(installation: Installation, person: Person) -> None:
    person.open_dag(DAG)
    person.open_run("prompt__run-r6")
    person.open_task("work")
    person.mark("Failed")
    person.see_state("Failed")
    wait_state(installation, "run-r6", "work", "failed")
    assert "killed by a user" in installation.calib("explain", "run-r6", "--workflow", WORKFLOW)
    (installation.control / "6").unlink()
    installation.wait_run_ended(DAG, "prompt__run-r6")
    person.clear()
    person.see_state("Success")
    wait_state(installation, "run-r6", "work", "done")


@pytest.mark.long  # through the API: test_people.py
def test_mark_success_without_products_is_not_believed(installation: Installation, person: Person) -> None:
    person.open_dag(DAG)
    person.open_run("prompt__run-r5")
    person.open_task("work")
    person.mark("Success")
    person.see_state("Success")
    wanted = "marked_success_without_products"
    installation.wait(lambda: code(installation, "run-r5", "work") == wanted, 240, "the reason")
    assert state(installation, "run-r5", "work") == "processing"
    (installation.control / "5").unlink()


@pytest.mark.long  # through the API: test_clicks.py
def test_mark_success_of_locks_publishes_nothing(installation: Installation, person: Person) -> None:
    person.open_dag(SUM)
    person.open_run("prompt__sum-r1")
    person.open_task("total.locks")
    person.mark("Success")
    person.back_to_run()
    person.see_state("Failed")
    person.open_task("total")
    person.read_log("missing 3 (failed)", "calib skip")
    assert code(installation, "sum-r1", "total") == "not_open"
    payload = tables.payload
    assert not installation.rows(select(payload.c.id).where(payload.c.workflow == WORKFLOW))
