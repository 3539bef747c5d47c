"""Whatever dies when: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

FIRST = 1001
OF_GROUP = (
    "generation.before_create",
    "generation.after_create",
    "round.before_submit",
    "round.after_submit",
    "round.after_record",
    "jobs.before_apply",
    "jobs.after_apply",
    "products.before_promote",
    "products.after_promote",
    "generation.before_done",
    "generation.after_done",
    "supervisor.after_start",
    "supervisor.job_started",
)
OF_REQUEST = ("request.after_claim", "request.after_trigger", "request.after_record")
TWICE = (
    ("generation.after_create", "round.after_submit"),
    ("round.before_submit", "generation.after_done"),
    ("round.after_submit", "round.after_record"),
    ("generation.before_create", "generation.after_create"),
)
PROCESS_WIDE = ("inject.before_commit@toy", "inject.after_commit@toy")
PUBLISH = ("payload.before_store@deliver", "payload.after_store@deliver", "payload.after_publish@deliver")


def entries() -> list[str]:
    """The crash points of all groups, each with its own run."""
    plan = [[f"{point}@run-r{FIRST + n}"] for n, point in enumerate(OF_GROUP)]
    plan += [[f"{point}@prompt__run-r{FIRST + len(plan) + n}"] for n, point in enumerate(OF_REQUEST)]
    plan += [[f"{point}@run-r{FIRST + len(plan) + n}" for point in points] for n, points in enumerate(TWICE)]
    return [*PROCESS_WIDE, *PUBLISH, *(entry for group in plan for entry in group)]


CRASH_AT = entries()
RUNS = list(range(FIRST, FIRST + len(OF_GROUP) + len(OF_REQUEST) + len(TWICE)))


def assert_done_exactly_once(
    installation: Installation, runs: list[int], workflow: str = "toy", task: str = "work"
) -> None:
    """One DAG run per group, one generation per task, one accepted attempt per job, each attempt executed once."""
    wanted = {f"prompt__run-r{run}" for run in runs}
    opened = Counter(item["dag_run_id"] for item in installation.airflow_runs(f"{workflow}__run"))
    assert {run_id: opened[run_id] for run_id in wanted} == dict.fromkeys(wanted, 1)
    group, generation, job, attempt = tables.run_group, tables.generation, tables.job, tables.attempt
    names = [f"run-r{run}" for run in runs]
    mine = select(generation.c.id).join(group).where(group.c.name.in_(names), group.c.workflow == workflow)
    mine = mine.where(generation.c.task == task)
    counts = installation.rows(
        select(generation.c.group_id, func.count()).where(generation.c.id.in_(mine)).group_by(generation.c.group_id)
    )
    assert [row[1] for row in counts] == [1] * len(runs)
    jobs = installation.rows(select(job).where(job.c.generation_id.in_(mine)))
    assert len(jobs) == 2 * len(runs)
    assert all(row.state == "succeeded" and row.accepted_attempt is not None for row in jobs)
    accepted = installation.rows(
        select(func.count()).where(attempt.c.generation_id.in_(mine), attempt.c.state == "succeeded")
    )
    assert accepted[0][0] == 2 * len(runs)
    executed = {key: n for key, n in installation.executions().items() if key[0] in runs}
    assert set(executed.values()) == {1}, executed
    for row in jobs:
        assert row.attempt <= 2, f"job {row.job_index} of generation {row.generation_id} took {row.attempt} attempts"


def test_each_group_dies_at_its_own_point(installation: Installation) -> None:
    # One sum is enough.
    installation.add_runs(RUNS[:4])
    installation.add_runs(RUNS[4:], luminosity=0)
    installation.inject(timeout=240)

    def all_done() -> bool:
        states = installation.task_states()
        return all(states.get((f"toy/run-r{run}", "work")) == "done" for run in RUNS)

    installation.wait(all_done, 420, "all groups to be done")
    fired = {path.name for path in installation.crashes.iterdir()}
    assert fired.issuperset(entry for entry in CRASH_AT if "deliver" not in entry), "a crash point was never reached"

    def airflow_done() -> bool:
        runs = {item["dag_run_id"]: item["state"] for item in installation.airflow_runs("toy__run")}
        return all(runs.get(f"prompt__run-r{run}") == "success" for run in RUNS)

    installation.wait(airflow_done, 180, "Airflow to agree")
    assert_done_exactly_once(installation, RUNS)
    rounds = installation.rows(select(tables.round_.c.key, tables.round_.c.state))
    late = f"run-r{FIRST + OF_GROUP.index('generation.after_done')}"
    assert len([row for row in rounds if row.key.group == late]) == 1, "the retry of a finished job set submitted"
    installation.wait(
        lambda: fired_names(installation).issuperset(PUBLISH), 300, "the publication to have died at its three points"
    )
    installation.wait(
        lambda: installation.task_states().get((f"toy/sum-r{FIRST}", "deliver")) == "done", 180, "the publication"
    )
    payloads = installation.rows(select(tables.payload).where(tables.payload.c.first_run == FIRST))
    assert [(row.revision, row.state) for row in payloads] == [(1, "published")]


def fired_names(installation: Installation) -> set[str]:
    return {path.name for path in installation.crashes.iterdir()}


def test_process_wide_kills(installation: Installation) -> None:
    runs = list(range(1101, 1107))
    for run in runs:
        installation.control_job(run, "sleep 15")
    installation.add_runs(runs, luminosity=0)
    assert installation.inject() == "success"
    keys = [(f"toy/run-r{run}", "work") for run in runs]
    installation.wait(
        lambda: sum(installation.task_states().get(key) == "processing" for key in keys) >= 4, 120, "running job sets"
    )
    installation.kill("triggerer")
    time.sleep(3)
    killed = kill_supervisors(installation, 1)
    assert killed
    installation.kill("api-server")
    time.sleep(3)
    installation.kill("scheduler")
    installation.wait(
        lambda: all(installation.task_states().get(key) == "done" for key in keys), 420, "all groups after the kills"
    )

    def airflow_done() -> bool:
        states = {item["dag_run_id"]: item["state"] for item in installation.airflow_runs("toy__run")}
        return all(states.get(f"prompt__run-r{run}") == "success" for run in runs)

    installation.wait(airflow_done, 240, "Airflow to agree")
    assert_done_exactly_once(installation, runs)


def kill_supervisors(installation: Installation, count: int) -> list[int]:
    """Kill -9 this many of the installation's local supervisors that have running jobs."""
    killed = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if (
            "backends.local.supervisor" in line
            and str(installation.home) in line
            and process.children()
            and len(killed) < count
        ):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)
    return killed


def test_triggers_handed_over_remove_nothing(installation: Installation) -> None:
    runs = list(range(1201, 1204))
    for run in runs:
        installation.control_job(run, "sleep 45")
    installation.add_runs(runs, luminosity=0)
    assert installation.inject() == "success"
    keys = [(f"toy/run-r{run}", "work") for run in runs]

    def all_deferred() -> bool:
        return all(
            installation.airflow_tasks("toy__run", f"prompt__run-r{run}").get("work") == "deferred" for run in runs
        )

    installation.wait(lambda: len(installation.airflow_runs("toy__run")) and all_deferred(), 120, "deferred tasks")
    first = installation.airflow.processes.pop("triggerer")
    stopped = [first.pid, *(child.pid for child in psutil.Process(first.pid).children(recursive=True))]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    installation.airflow.start("triggerer")
    time.sleep(25)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    installation.wait(
        lambda: all(installation.task_states().get(key) == "done" for key in keys), 240, "groups after the hand-over"
    )
    os.killpg(first.pid, signal.SIGKILL)
    assert_done_exactly_once(installation, runs)
    jobs = installation.rows(
        select(tables.job.c.attempt)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group, tables.run_group.c.id == tables.generation.c.group_id)
        .where(tables.run_group.c.name.in_([f"run-r{run}" for run in runs]))
    )
    assert {row.attempt for row in jobs} == {1}, "a false on_kill removed jobs"
    assert Path(installation.folder).exists()
