"""What people do in Airflow's UI, and what it means: clear, mark failed, mark success, edit a YAML file."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "people"
DAG, SUM = f"{WORKFLOW}__run", f"{WORKFLOW}__sum"


def run_id(run: int) -> str:
    return f"prompt__run-r{run}"


def state(installation: Installation, run: int) -> str | None:
    return installation.task_states().get((f"{WORKFLOW}/run-r{run}", "work"))


def generations(installation: Installation, run: int) -> list[str]:
    table, group = tables.generation, tables.run_group
    query = select(table.c.state).join(group).where(group.c.name == f"run-r{run}", group.c.workflow == WORKFLOW)
    return [row.state for row in installation.rows(query.order_by(table.c.n))]


def attempts(installation: Installation, run: int) -> int:
    return sum(n for key, n in installation.executions().items() if key[0] == run)


@pytest.fixture(scope="module", autouse=True)
def all_runs(installation: Installation) -> None:
    """All runs of this module, injected together: a task start costs seconds."""
    installation.add_workflow(WORKFLOW)
    installation.control_job(2001, "always")
    installation.control_job(2003, "hold")
    installation.control_job(2004, "hold")
    installation.control_job(2005, "once")
    installation.control_job(2007, "hold")
    installation.control_job(2006, "empty")
    installation.add_runs(range(2001, 2009))
    assert installation.inject() == "success"


def wait_for(installation: Installation, run: int, wanted: str, timeout: float = 400) -> None:
    installation.wait(lambda: state(installation, run) == wanted, timeout, f"run {run} to be {wanted}")


def wait_airflow(installation: Installation, run: int, wanted: str, timeout: float = 300) -> None:
    installation.wait(
        lambda: installation.airflow_tasks(DAG, run_id(run)).get("work") == wanted, timeout, f"Airflow: {run} {wanted}"
    )
    if wanted in ("failed", "success"):
        installation.wait_run_ended(DAG, run_id(run))


def test_a_job_that_fails_once_is_resubmitted_alone(installation: Installation) -> None:
    wait_for(installation, 2005, "done")
    executed = {key[1:]: n for key, n in installation.executions().items() if key[0] == 2005}
    assert executed == {(0, 1): 1, (0, 2): 1, (1, 1): 1}


def test_an_empty_product_fails_the_job_with_that_reason(installation: Installation) -> None:
    wait_for(installation, 2006, "failed")
    reasons = installation.rows(
        select(tables.job.c.reason)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group)
        .where(tables.run_group.c.name == "run-r2006")
    )
    assert {row.reason for row in reasons} == {"product result: result.txt is empty"}


def test_clear_of_a_failed_task_continues_it(installation: Installation) -> None:
    wait_for(installation, 2001, "failed")
    wait_airflow(installation, 2001, "failed")
    assert attempts(installation, 2001) == 6, "retries: 2 means three attempts of each of two jobs"
    (installation.control / "2001").unlink()
    installation.clear(DAG, run_id(2001), "work")
    wait_for(installation, 2001, "done")
    assert generations(installation, 2001) == ["done"], "a failed generation is continued, not replaced"
    assert attempts(installation, 2001) == 8


def test_clear_of_a_done_task_starts_the_next_generation(installation: Installation) -> None:
    wait_for(installation, 2002, "done")
    wait_airflow(installation, 2002, "success")
    installation.calib("retry", "run-r2002", "--workflow", WORKFLOW, "--task", "work")
    installation.wait(lambda: generations(installation, 2002) == ["done", "done"], 300, "the second generation")
    assert attempts(installation, 2002) == 4


def test_clear_of_a_deferred_task_attaches_and_its_late_on_kill_removes_nothing(installation: Installation) -> None:
    wait_for(installation, 2007, "processing")
    wait_airflow(installation, 2007, "deferred")
    installation.clear(DAG, run_id(2007), "work")
    time.sleep(8)
    assert state(installation, 2007) == "processing"
    (installation.control / "2007").unlink()
    wait_for(installation, 2007, "done")
    wait_airflow(installation, 2007, "success")
    assert generations(installation, 2007) == ["done"]
    assert attempts(installation, 2007) == 2


def test_mark_failed_removes_the_jobs(installation: Installation) -> None:
    wait_for(installation, 2003, "processing")
    wait_airflow(installation, 2003, "deferred")
    installation.set_state(DAG, run_id(2003), "work", "failed")
    wait_for(installation, 2003, "failed", 240)
    jobs = installation.rows(
        select(tables.job.c.state)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group)
        .where(tables.run_group.c.name == "run-r2003")
    )
    assert {row.state for row in jobs} == {"removed"}
    (installation.control / "2003").unlink()
    installation.clear(DAG, run_id(2003), "work")
    wait_for(installation, 2003, "done")
    assert generations(installation, 2003) == ["done"]


def test_mark_success_without_products_leaves_the_ledger_as_it_was(installation: Installation) -> None:
    wait_for(installation, 2004, "processing")
    wait_airflow(installation, 2004, "deferred")
    installation.set_state(DAG, run_id(2004), "work", "success")

    def said() -> bool:
        query = select(tables.group_task.c.reason).join(tables.run_group).where(tables.run_group.c.name == "run-r2004")
        return any(
            (row.reason or {}).get("code") == "marked_success_without_products" for row in installation.rows(query)
        )

    installation.wait(said, 240, "the reason")
    assert state(installation, 2004) == "processing"
    (installation.control / "2004").unlink()
    installation.clear(DAG, run_id(2004), "work")
    wait_for(installation, 2004, "done")
    assert attempts(installation, 2004) == 2, "the jobs went on, and the cleared task attached to them"


def test_clear_of_a_publish_task_publishes_the_same_content_once(installation: Installation) -> None:
    key = (f"{WORKFLOW}/sum-r2005", "deliver")
    (installation.control / "2006").unlink()
    installation.clear(DAG, run_id(2006), "work")
    installation.wait(lambda: installation.task_states().get(key) == "done", 240, "the publication")
    sum_run = "prompt__sum-r2005"
    installation.wait(
        lambda: installation.airflow_tasks(SUM, sum_run).get("deliver") == "success", 240, "Airflow's publish"
    )
    installation.clear(SUM, sum_run, "deliver")
    installation.wait(lambda: installation.airflow_tasks(SUM, sum_run).get("deliver") != "success", 300, "the clear")
    installation.wait(
        lambda: installation.airflow_tasks(SUM, sum_run).get("deliver") == "success", 300, "published again"
    )
    rows = installation.rows(select(func.count()).where(tables.payload.c.first_run == 2005))
    assert rows[0][0] == 1


def test_a_dag_run_by_hand_fails_with_instructions(installation: Installation) -> None:
    by_hand = installation.airflow.trigger(DAG)
    installation.wait(lambda: installation.airflow.run_state(DAG, by_hand) == "failed", 300, "the failure")
