"""Airflow and a real HTCondor pool: whatever dies when, nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation
from tests.integration.test_kills import assert_done_exactly_once
from tests.pool.pool import Pool

pytestmark = [pytest.mark.airflow, pytest.mark.condor, pytest.mark.timeout(900)]

ON_POOL = True
POINTS = (
    "generation.after_create",
    "round.before_submit",
    "round.after_submit",
    "round.after_record",
    "jobs.before_apply",
    "jobs.after_apply",
    "products.before_promote",
    "generation.before_done",
)
CRASH_AT = [f"{point}@run-r{4001 + n}" for n, point in enumerate(POINTS)]
HELD = {"held.before_act@run-r4101", "held.after_act@run-r4102"}
CRASH_AT += sorted(HELD)


def task_done(installation: Installation, run: int, task: str = "pool") -> bool:
    return installation.task_states().get((f"far/run-r{run}", task)) == "done"


def jobs(installation: Installation, run: int) -> list:
    query = (
        select(tables.job)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group, tables.run_group.c.id == tables.generation.c.group_id)
        .where(tables.run_group.c.name == f"run-r{run}", tables.generation.c.task == "pool")
    )
    return installation.rows(query)


def wait_running(installation: Installation, run: int) -> None:
    installation.wait(
        lambda: [row.state for row in jobs(installation, run)] == ["running"] * 2, 240, f"the jobs of {run} to run"
    )


@pytest.mark.long  # on this machine: test_kills.py; what a pool adds: the backends' conformance suite
def test_each_group_dies_at_its_own_point(installation: Installation) -> None:
    """One task on the pool, the next on this machine, with processes that die at every point of the first."""
    runs = [4001 + n for n in range(len(POINTS))]
    installation.add_runs(runs, fill=300)
    assert installation.inject() == "success"
    installation.wait(lambda: all(task_done(installation, run, "here") for run in runs), 400, "all groups to be done")
    fired = {path.name for path in installation.crashes.iterdir()}
    assert fired.issuperset(entry for entry in CRASH_AT if "held" not in entry)
    assert_done_exactly_once(installation, runs, "far", "pool")
    assert {row.host for row in jobs(installation, 4001)} == {"127-0-0-1.pool.test"}


@pytest.mark.long  # some minutes, most of them of waiting
def test_kills_holds_and_silence_around_running_jobs(installation: Installation, pool: Pool) -> None:
    runs = list(range(4101, 4106))
    killed = 4105
    for run in runs:
        installation.control_job(run, "hold")
    installation.add_runs(runs, fill=300)
    assert installation.inject() == "success"
    for run in runs:
        wait_running(installation, run)
    for run in (4101, 4102):
        pool.tool("condor_hold", "-constraint", f'CalibGroup == "run-r{run}"')
    installation.wait(lambda: kill_helpers(installation), 240, "a helper process to kill")
    installation.kill("triggerer")
    time.sleep(5)
    pool.restart("schedd")
    silent_schedd_is_told_and_recovers(installation, pool, 4103)
    installation.wait(lambda: {path.name for path in installation.crashes.iterdir()} >= HELD, 240, "deaths at holds")
    time.sleep(10)  # the sign of life of one that is dead is old by then
    health = lambda: installation.airflow.call("GET", "/api/v2/monitor/health")["triggerer"]["status"]  # noqa: E731
    installation.wait(lambda: health() == "healthy", 240, "the triggerer, which tells jobs of a person's kill")
    # A person's kill removes the cluster, and it is verified that it is gone.
    installation.set_state("far__run", f"prompt__run-r{killed}", "pool", "failed")
    installation.wait(
        lambda: installation.task_states().get((f"far/run-r{killed}", "pool")) == "failed", 180, "the kill"
    )
    assert pool.tool(
        "condor_q", "-all", "-constraint", f'CalibGroup == "run-r{killed}"', "-af", "JobStatus"
    ).split() in (
        [],
        ["3", "3"],
    )
    for run in runs:
        (installation.control / str(run)).unlink()
    survivors = [run for run in runs if run != killed]
    installation.wait(lambda: all(task_done(installation, run, "here") for run in survivors), 400, "the survivors")
    assert all(row.attempt == 1 for run in survivors for row in jobs(installation, run)), "nothing was submitted twice"
    assert {row.state for row in jobs(installation, killed)} == {"removed"}
    assert pool.tool("condor_q", "-all", "-af", "CalibRound").split() == []


def kill_helpers(installation: Installation) -> int:
    """Kill -9 all helper processes of this installation."""
    count = 0
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "backends.condor.calls" in line and str(installation.home) in line:
            os.kill(process.pid, signal.SIGKILL)
            count += 1
    return count


def silent_schedd_is_told_and_recovers(installation: Installation, pool: Pool, run: int) -> None:
    pool.stop_silently("schedd")
    try:
        installation.wait(
            lambda: "did not answer" in installation.calib("explain", f"run-r{run}", "--workflow", "far"),
            240,
            "explain to tell that the schedd is silent",
        )
    finally:
        pool.resume("schedd")
    installation.wait(
        lambda: "did not answer" not in installation.calib("explain", f"run-r{run}", "--workflow", "far"),
        150,
        "the schedd to work again",
    )


def test_the_connection_has_a_form_and_a_test(installation: Installation) -> None:
    connection = json.loads(installation.environment["AIRFLOW_CONN_CALIB_CONDOR"])
    body = {"connection_id": "trial", **connection, "extra": json.dumps(connection["extra"])}
    said = installation.airflow.call("POST", "/api/v2/connections/test", body)
    assert said["status"] is True, said
    assert "answers as calib@pool.test" in said["message"]
    wrong = {**body, "extra": json.dumps({**connection["extra"], "schedd": "nobody@nowhere"})}
    said = installation.airflow.call("POST", "/api/v2/connections/test", wrong)
    assert said["status"] is False
    assert "nobody@nowhere" in said["message"]


def test_orphans_are_found_through_the_airflow_connection(installation: Installation) -> None:
    os.environ.update({name: installation.environment[name] for name in ("AIRFLOW_CONN_CALIB_CONDOR",)})
    try:
        assert "no orphans" in installation.calib("jobs", "orphans", "--backend", "condor")
    finally:
        del os.environ["AIRFLOW_CONN_CALIB_CONDOR"]
    listed = json.loads(installation.calib("jobs", "list", "--workflow", "far", "--task", "pool", "--json"))
    assert {row["state"] for row in listed} <= {"succeeded", "removed"}
