"""Waiting happens in the ledger, and blocks nobody; YAML files are edited and broken meanwhile."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

ON_POSTGRES = True
LOCKED = range(3001, 3101)
FREE = 3101


@pytest.fixture(scope="module", autouse=True)
def waiting_groups(installation: Installation) -> None:
    """100 groups that wait for a payload which nobody makes, and one more that gets its own."""
    installation.add_runs(LOCKED, fill=100)
    installation.add_runs([FREE], fill=200)
    assert installation.inject() == "success"


def locked_states(installation: Installation) -> dict[str, str]:
    return {key[0]: state for key, state in installation.task_states().items() if key[0].startswith("locked/")}


def test_100_locked_groups_do_not_delay_the_101st(installation: Installation) -> None:
    installation.wait(lambda: locked_states(installation).get(f"locked/run-r{FREE}") == "done", 240, "the 101st group")
    states = locked_states(installation)
    assert len(states) == 101
    assert {state for name, state in states.items() if name != f"locked/run-r{FREE}"} <= {"new", "waiting"}
    assert len(installation.airflow_runs("locked__run")) <= 22, "waiting belongs into the ledger, but for a window"


def test_a_waiting_task_says_why(installation: Installation) -> None:
    run_id = f"prompt__run-r{LOCKED[0]}"

    def reason() -> str:
        path = f"/api/v2/dags/locked__run/dagRuns/{run_id}/taskInstances/wait.locks/xcomEntries"
        entries = installation.airflow.call("GET", path)["xcom_entries"]
        if not any(entry["key"] == "reason" for entry in entries):
            return ""
        return str(installation.airflow.call("GET", f"{path}/reason")["value"])

    text = installation.wait(reason, 240, "the XCom reason")
    assert "GivenConstants" in text
    assert str(LOCKED[0]) in text


def explain(installation: Installation, *arguments: str) -> str:
    text = installation.calib("explain", *arguments, "--json")
    json.loads(text)
    return text


def test_explain_asks_the_real_airflow(installation: Installation) -> None:
    group = f"run-r{LOCKED[0]}"
    assert "GivenConstants" in explain(installation, group, "--workflow", "locked")
    installation.airflow.call("PATCH", "/api/v2/dags/locked__run", {"is_paused": True})
    try:
        assert "pause" in explain(installation, group, "--workflow", "locked")
    finally:
        installation.airflow.call("PATCH", "/api/v2/dags/locked__run", {"is_paused": False})


def test_a_broken_spec_hides_no_other_and_an_edit_regroups_nothing(installation: Installation) -> None:
    before = locked_states(installation)
    broken, edited = (installation.specs / f"{name}.yaml" for name in ("giver", "locked"))
    good = broken.read_text()
    installation.edit(broken, good.replace("needs: [make]", "needs: [mke]"))
    installation.edit(edited, edited.read_text().replace("Waits for payloads", "Edited, waits for payloads"))

    def seen() -> bool:
        errors = installation.airflow.call("GET", "/api/v2/importErrors")["import_errors"]
        return [Path(error["filename"]).name for error in errors] == ["calib_problems.py"] and "mke" in errors[0][
            "stack_trace"
        ]

    installation.wait(seen, 300, "the import error of the stub without DAGs alone")

    def edit_is_shown() -> bool:
        return "Edited" in installation.airflow.call("GET", "/api/v2/dags/locked__run")["description"]

    installation.wait(edit_is_shown, 300, "the edited description")
    installation.inject()
    assert locked_states(installation).keys() == before.keys()
    installation.edit(broken, good)
    installation.wait(
        lambda: not installation.airflow.call("GET", "/api/v2/importErrors")["import_errors"], 300, "health"
    )
    assert installation.inject() == "success"
    assert locked_states(installation).keys() == before.keys()


def test_housekeeping_removes_what_a_missed_kill_left(installation: Installation) -> None:
    run = 3201
    installation.control_job(run, "hold")
    installation.add_runs([run])
    assert installation.inject() == "success"
    run_id, key = f"prompt__run-r{run}", (f"toy/run-r{run}", "work")
    installation.wait(
        lambda: (
            installation.airflow_runs("toy__run")
            and installation.airflow_tasks("toy__run", run_id).get("work") == "deferred"
        ),
        300,
        "the deferred task",
    )
    triggerer = installation.airflow.processes.pop("triggerer")
    os.killpg(triggerer.pid, signal.SIGKILL)
    triggerer.wait()
    installation.set_state("toy__run", run_id, "work", "failed")
    assert installation.task_states()[key] == "processing", "nobody was there to hear of the kill"
    housekeeping = installation.airflow.trigger("calib_housekeeping")
    installation.wait(
        lambda: installation.airflow.run_state("calib_housekeeping", housekeeping) == "success", 300, "housekeeping"
    )
    installation.airflow.start("triggerer")
    assert installation.task_states()[key] == "failed"
    jobs = installation.rows(
        select(tables.job.c.state)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group)
        .where(tables.run_group.c.name == f"run-r{run}")
    )
    assert {row.state for row in jobs} == {"removed"}
    (installation.control / str(run)).unlink()
