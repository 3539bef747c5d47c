"""The same work as mapped tasks of a real Airflow."""

from __future__ import annotations

import time

import psutil
from demo.airflow_server import AirflowServer

from benchmarks.condor.jobset import SCRIPT, Ours
from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Report

TASKS, SCALED = 50, 1_000
GOAL = 100.0
OWN_TASKS = 2
"""Executions that a job set costs Airflow: its task until it defers, and after its trigger fired."""

IDLE_SECONDS, PATIENCE = 30.0, 900.0

DAG = '''\
"""Mapped tasks that each do what a job of the benchmark does."""

import os
import subprocess
from pathlib import Path

from airflow.sdk import dag, task


@dag(schedule=None)
def mapped():
    @task
    def one(number):
        folder = Path(os.environ["BENCH_PRODUCTS"]) / str(number)
        folder.mkdir(parents=True)
        variables = {**os.environ, "CALIB_JOB": str(number)}
        subprocess.run(["/bin/sh", "-c", os.environ["BENCH_SCRIPT"]], cwd=folder, env=variables, check=True)

    one.expand(number=list(range(int(os.environ["BENCH_TASKS"]))))


mapped()
'''


def run(place: Place, report: Report, ours: Ours, alone: Ours, tasks: int = TASKS) -> None:
    """Measure as many mapped tasks beside a job set.

    :param ours: our run of a job set, in this run.
    :param alone: our run of a job set of one job.
    """
    machine = report.machine()
    wall, spent, idle = _measure(place, tasks)
    scheduler, server = spent["scheduler"] / tasks, spent["api-server"] / tasks
    each = scheduler + server
    scaled, own_tasks = each * SCALED, OWN_TASKS * each
    watched = (ours.ran.cpu - alone.ran.cpu) * SCALED / ours.jobs
    own = watched + own_tasks
    whole = ours.ran.cpu * SCALED / ours.jobs + OWN_TASKS * scheduler
    report.add(
        Figure(
            "airflow",
            f"mapped tasks: {each:.2f} s CPU each, hence {scaled:,.0f} s for {SCALED:,}, scaled up from {tasks}; "
            f"ours {own:.1f} s: ratio {scaled / own:.0f}",
            machine,
            f"ratio at least {GOAL:g}",
            scaled / own >= GOAL,
            [
                f"a mapped task: {scheduler:.2f} s of the scheduler and the task's process, {server:.2f} s of the API "
                "server; what both spend when idle is not counted",
                f"ours: {watched:.1f} s for {ours.jobs:,} jobs as in 'set', without the {alone.ran.cpu:.1f} s of a set "
                f"of one job, since a triggerer runs already, as Airflow does; and {own_tasks:.1f} s for the "
                f"{OWN_TASKS} executions of its own Airflow task, at the price of a mapped one",
                f"the strictest reading, our process from its start and Airflow without its API server: ratio "
                f"{scheduler * SCALED / whole:.0f}",
                f"{tasks} mapped tasks took {wall:.0f} s",
            ],
            {
                "scheduler_each": scheduler,
                "api_server_each": server,
                "idle": idle,
                "tasks": tasks,
                "scaled": scaled,
                "ours": own,
                "strictest": scheduler * SCALED / whole,
                "wall": wall,
            },
        )
    )


def _measure(place: Place, tasks: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Run the mapped tasks.

    :returns: seconds on the clock; CPU seconds of each component, without what it spends when idle; and that, a second.
    """
    folder = place.new("mapped")
    (folder / "dags").mkdir()
    (folder / "dags" / "mapped.py").write_text(DAG)
    products = folder / "products"
    environment = {
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "BENCH_PRODUCTS": str(products),
        "BENCH_SCRIPT": SCRIPT,
        "BENCH_TASKS": str(tasks),
    }
    airflow = AirflowServer(folder / "airflow", folder / "dags", environment)
    airflow.prepare()
    airflow.start()
    try:
        airflow.wait_healthy()
        airflow.wait_for_dags("mapped")
        time.sleep(5)
        before = _used(airflow)
        time.sleep(IDLE_SECONDS)
        idle = {name: (value - before[name]) / IDLE_SECONDS for name, value in _used(airflow).items()}
        before, begin = _used(airflow), time.perf_counter()
        run_id = airflow.trigger("mapped")
        until = time.monotonic() + PATIENCE
        while (state := airflow.run_state("mapped", run_id)) not in ("success", "failed"):
            if time.monotonic() > until:
                raise TimeoutError(f"the mapped tasks are not done after {PATIENCE:g} s")
            time.sleep(2)
        wall, after = time.perf_counter() - begin, _used(airflow)
    finally:
        airflow.stop()
    if state != "success" or len(list(products.glob("*/out.txt"))) != tasks:
        raise RuntimeError(f"the run of the mapped tasks is {state}")
    spent = {name: max(0.0, value - before[name] - idle[name] * wall) for name, value in after.items()}
    return wall, spent, idle


def _used(airflow: AirflowServer) -> dict[str, float]:
    """CPU seconds of each component with all its children, those that have ended among them."""
    used = {}
    for name, process in airflow.processes.items():
        top = psutil.Process(process.pid)
        total = 0.0
        for one in [top, *top.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue  # its parent has it now
            total += times.user + times.system + times.children_user + times.children_system
        used[name] = total
    return used
