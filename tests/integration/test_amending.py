"""A run that comes late, and the group that is amended with it, in a real Airflow; the command is killed half way."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "belated"
SUM, LATE = f"{WORKFLOW}/sum-r7001", f"{WORKFLOW}/sum-r7003"
AFTER = """\
  after:
    group_by: {sum: {luminosity: 4, late_runs: new_group}}
    needs: [deliver]
    jobs: {command: [echo, hello]}
"""
AMEND = ("group", "amend", "sum-r7001", "--workflow", WORKFLOW, "--reason", "its file came late")


@pytest.fixture(scope="module", autouse=True)
def first_pass(installation: Installation) -> None:
    """A sum of four runs is published, and run 7003 comes after it."""
    installation.add_workflow(WORKFLOW)
    spec = installation.specs / f"{WORKFLOW}.yaml"
    text = spec.read_text().replace("group_by: run", "group_by: {run: {late_runs: new_group}}")
    text = text.replace("{luminosity: 4}", "{luminosity: 4, late_runs: new_group}") + AFTER
    installation.edit(spec, text)
    installation.add_runs([7001, 7002, 7004, 7005, 7006])
    assert installation.inject() == "success"
    installation.wait(lambda: installation.task_states().get((SUM, "deliver")) == "done", 600, "the first payload")
    installation.add_runs([7003])
    assert installation.inject() == "success"
    installation.wait(lambda: installation.task_states().get((LATE, "deliver")) == "done", 600, "the candidate")


def payloads(installation: Installation) -> list[tuple[int, int, int, str]]:
    table = tables.payload.c
    query = select(table.first_run, table.last_run, table.revision, table.state).where(table.workflow == WORKFLOW)
    return [tuple(row) for row in installation.rows(query.order_by(table.id))]


def content(installation: Installation) -> list[str]:
    """The runs that the constants were made of."""
    text = installation.calib("payload", "get", "BelatedConstants", "7002")
    return sorted({line.split()[0] for line in text.splitlines()})


def published(installation: Installation, revision: int) -> Any:
    table = tables.payload
    query = select(table).where(
        table.c.workflow == WORKFLOW, table.c.state == "published", table.c.revision == revision
    )
    found = installation.rows(query)
    return found[0] if found else None


def test_what_a_late_group_has_made_is_a_candidate(installation: Installation) -> None:
    """What needs it in its own DAG waits for a person."""
    tasks = lambda: installation.airflow_tasks(f"{WORKFLOW}__sum", "prompt__sum-r7003")  # noqa: E731
    installation.wait(lambda: tasks()["after"] == "deferred", 300, "the task after it to wait")
    assert {name: state for name, state in tasks().items() if name != "after"} == dict.fromkeys(
        ["wait_for_group", "total.locks", "total", "deliver"], "success"
    )
    assert payloads(installation) == [(7001, 7005, 1, "published"), (7003, 7003, 1, "candidate")]
    assert content(installation) == ["7001", "7002", "7004", "7005"]
    assert "only a candidate there, not published" in installation.calib(
        "explain", "sum-r7003", "--workflow", WORKFLOW, "--task", "after"
    )


def test_a_person_publishes_it_and_what_needs_it_goes_on(installation: Installation) -> None:
    installation.add_runs([6999])
    assert installation.inject() == "success"
    key = (f"{WORKFLOW}/sum-r6999", "after")
    installation.wait(lambda: installation.task_states().get(key) == "waiting", 600, "a candidate")
    installation.calib("payload", "publish", "sum-r6999", "--workflow", WORKFLOW)
    installation.wait(lambda: installation.task_states().get(key) == "done", 300, "the task after it")
    assert payloads(installation)[-1] == (6999, 6999, 1, "published")


def test_the_command_dies_and_injection_clears_the_dag_run(installation: Installation) -> None:
    crash = {"CALIB_CRASH_AT": "amend.after_commit", "CALIB_CRASH_FOLDER": str(installation.crashes)}
    died = installation.run_calib(*AMEND, "--add", "7003", **crash)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (7003, 7003, 1, "expired") in payloads(installation)
    assert "run 7003 is in sum-r7001 already" in installation.run_calib(*AMEND, "--add", "7003").stderr
    # The task that waited for the candidate has nothing to do any more.
    installation.wait_run_ended(f"{WORKFLOW}__sum", "prompt__sum-r7003")
    assert installation.airflow_tasks(f"{WORKFLOW}__sum", "prompt__sum-r7003")["after"] == "skipped"
    # A clear before the DAG run has ended is lost, and asked for again.
    installation.wait_run_ended(f"{WORKFLOW}__sum", "prompt__sum-r7001")
    assert installation.inject() == "success"
    row = installation.wait(lambda: published(installation, 2), 600, "the next revision")
    assert (row.first_run, row.last_run, row.provenance["edition"]) == (7001, 7005, 2)
    assert content(installation) == ["7001", "7002", "7003", "7004", "7005"]
    assert installation.inject() == "success"
    assert [row.state for row in installation.rows(select(tables.group_edition.c.state))] == ["settled"]
    table, group = tables.generation, tables.run_group
    made = select(table.c.state).join(group).where(group.c.name == "sum-r7001", table.c.task == "total")
    assert [row.state for row in installation.rows(made)] == ["done", "done"]
    jobs = [key[0] for key in installation.executions() if 7001 <= key[0] <= 7005]
    assert len(jobs) == 2 * 5, "what a run has made is not made again"


def test_a_run_is_removed_and_airflow_asked_at_once(installation: Installation) -> None:
    installation.wait_run_ended(f"{WORKFLOW}__sum", "prompt__sum-r7001")
    said = json.loads(installation.calib(*AMEND, "--remove", "7005", "--json"))
    assert (said["edition"], said["runs"], said["stale"]) == (
        3,
        [7001, 7002, 7003, 7004],
        ["total", "deliver", "after"],
    )
    assert said["cleared"] == ["prompt__sum-r7001"]
    row = installation.wait(lambda: published(installation, 3), 600, "the next revision")
    assert (row.first_run, row.last_run) == (7001, 7004)
    assert content(installation) == ["7001", "7002", "7003", "7004"]
    assert "closed, edition 3" in installation.calib("groups", "--workflow", WORKFLOW)
