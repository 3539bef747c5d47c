"""What a person's click in Airflow must not spoil, and the way back that ``calib explain`` advises."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.spec.language import GROUP_SENSOR
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "clicks"
RUN, SUM = f"{WORKFLOW}__run", f"{WORKFLOW}__sum"
EXTRA = """\
  extra:
    group_by: run
    needs: [work]
    jobs: {command: [sh, -c, "echo more > more.txt"]}
    products: {more: more.txt}
"""


@pytest.fixture(scope="module", autouse=True)
def all_runs(installation: Installation) -> None:
    """Runs 1 to 4 are a closed sum, of which run 3 fails; 5 to 7 a forming one."""
    installation.add_workflow(WORKFLOW)
    for run, what in {3: "always", 5: "half", 6: "hold", 7: "always"}.items():
        installation.control_job(run, what)
    installation.add_runs(range(1, 8))
    assert installation.inject() == "success"


def state(installation: Installation, group: str, task: str) -> str | None:
    return installation.task_states().get((f"{WORKFLOW}/{group}", task))


def wait_state(installation: Installation, group: str, task: str, wanted: str) -> None:
    installation.wait(lambda: state(installation, group, task) == wanted, 300, f"{task} of {group} to be {wanted}")


def wait_airflow(installation: Installation, dag: str, group: str, task: str, wanted: str) -> None:
    def there() -> bool:
        return installation.airflow_tasks(dag, f"prompt__{group}").get(task) == wanted

    installation.wait(there, 300, f"Airflow's {task} of {group} to be {wanted}")


def code(installation: Installation, group: str, task: str) -> str | None:
    table, run_group = tables.group_task, tables.run_group
    here = (run_group.c.workflow == WORKFLOW, run_group.c.name == group, table.c.task == task)
    query = select(table.c.reason).join(run_group).where(*here)
    return next(((row.reason or {}).get("code") for row in installation.rows(query)), None)


def published(installation: Installation) -> list[Any]:
    return installation.rows(select(tables.payload.c.provenance).where(tables.payload.c.workflow == WORKFLOW))


def test_mark_success_of_a_sensor_publishes_nothing(installation: Installation) -> None:
    wait_state(installation, "run-r3", "work", "failed")
    wait_airflow(installation, SUM, "sum-r1", "total.locks", "deferred")
    installation.set_state(SUM, "prompt__sum-r1", "total.locks", "success")
    installation.wait(lambda: code(installation, "sum-r1", "total") == "not_open", 300, "the refusal")
    installation.wait_run_ended(SUM, "prompt__sum-r1")
    # Nor does it help to mark the job set itself.
    installation.set_state(SUM, "prompt__sum-r1", "total", "success")
    installation.clear(SUM, "prompt__sum-r1", "deliver")
    installation.wait(lambda: code(installation, "sum-r1", "deliver") == "not_open", 300, "the refusal to publish")
    assert not published(installation)
    assert "calib skip" in installation.calib("explain", "sum-r1", "--workflow", WORKFLOW)


def test_the_way_back_that_is_advised(installation: Installation) -> None:
    installation.wait_run_ended(SUM, "prompt__sum-r1")
    installation.calib("retry", "sum-r1", "--workflow", WORKFLOW)
    wait_airflow(installation, SUM, "sum-r1", "total.locks", "deferred")
    (installation.control / "3").unlink()
    installation.wait_run_ended(RUN, "prompt__run-r3")
    installation.calib("retry", "run-r3", "--workflow", WORKFLOW)
    installation.wait(lambda: published(installation), 300, "the publication")
    assert published(installation)[0].provenance["runs"] == [1, 2, 3, 4]


def test_mark_success_while_a_product_is_written_believes_nothing(installation: Installation) -> None:
    wait_airflow(installation, RUN, "run-r5", "work", "deferred")
    installation.set_state(RUN, "prompt__run-r5", "work", "success")
    wanted = "marked_success_without_products"
    installation.wait(lambda: code(installation, "run-r5", "work") == wanted, 240, "the reason")
    assert state(installation, "run-r5", "work") == "processing"
    (installation.control / "5").unlink()
    installation.calib("retry", "run-r5", "--workflow", WORKFLOW)
    wait_state(installation, "run-r5", "work", "done")


def test_mark_failed_and_clear_at_once_lets_the_jobs_run_again(installation: Installation) -> None:
    wait_airflow(installation, RUN, "run-r6", "work", "deferred")
    installation.set_state(RUN, "prompt__run-r6", "work", "failed")
    installation.clear(RUN, "prompt__run-r6", "work")
    (installation.control / "6").unlink()
    wait_state(installation, "run-r6", "work", "done")
    wait_airflow(installation, RUN, "run-r6", "work", "success")


def test_a_sensor_that_was_marked_as_failed(installation: Installation) -> None:
    wait_airflow(installation, SUM, "sum-r5", GROUP_SENSOR, "deferred")
    installation.set_state(SUM, "prompt__sum-r5", GROUP_SENSOR, "failed")
    installation.wait_run_ended(SUM, "prompt__sum-r5")
    assert "calib retry" in installation.calib("explain", "sum-r5", "--workflow", WORKFLOW)
    installation.calib("retry", "sum-r5", "--workflow", WORKFLOW)
    wait_airflow(installation, SUM, "sum-r5", GROUP_SENSOR, "deferred")


def test_a_task_that_was_added_after_the_dag_run_had_failed(installation: Installation) -> None:
    wait_state(installation, "run-r7", "work", "failed")
    installation.wait_run_ended(RUN, "prompt__run-r7")
    spec = installation.specs / f"{WORKFLOW}.yaml"
    installation.edit(spec, spec.read_text() + EXTRA)
    installation.wait(
        lambda: "extra" in installation.airflow.call("GET", f"/api/v2/dags/{RUN}/tasks").__repr__(),
        300,
        "Airflow to read the edit",
    )  # fmt: skip
    assert installation.inject() == "success"
    told = installation.calib("explain", "run-r7", "--workflow", WORKFLOW, "--task", "extra")
    assert "which its workflow got later" in told, told
    (installation.control / "7").unlink()
    installation.calib("retry", "run-r7", "--workflow", WORKFLOW)
    wait_state(installation, "run-r7", "work", "done")
    wait_state(installation, "run-r7", "extra", "done")
