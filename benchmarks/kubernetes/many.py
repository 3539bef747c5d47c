"""Ten thousand jobs in one round, on a node that only says that they ran: what our part of them costs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

from airflow_calib_provider.jobsets.folders import attempts_folder
from airflow_calib_provider.ledger import tables
from benchmarks.figures import Figure, Report
from benchmarks.kubernetes import pretended
from benchmarks.kubernetes.place import Place, Set

JOBS, PARALLELISM = 10_000, 500
GOAL_CPU = 30.0
PATIENCE = 5400.0


def run(place: Place, report: Report, jobs: int = JOBS) -> None:
    """Measure."""
    machine = report.machine()
    account = place.account("many")
    folder = place.folder / "many"
    tolerated = {"key": pretended.TAINT["key"], "value": pretended.TAINT["value"]}
    block = place.block(
        folder, parallelism=PARALLELISM, node_selector=pretended.LABEL, tolerations=[tolerated], cpu_request="1m"
    )
    world = Set(place, folder, account, "true", jobs, options=block)
    (first,) = [world.begin().generation_id]
    (generation,) = [row for row in world.rows(tables.generation) if row.id == first]
    attempts = attempts_folder(generation.folder)
    command = [sys.executable, "-m", "benchmarks.kubernetes.pretended"]
    node = subprocess.Popen(
        [*command, str(place.cluster.kubeconfig), place.namespace.name, str(attempts)], env={**os.environ}
    )
    try:
        spent, asked, begin = time.process_time(), place.requests("many"), time.perf_counter()
        state = world.watched(PATIENCE)
        cpu, wall = time.process_time() - spent, time.perf_counter() - begin
        requests = place.requests("many") - asked
    finally:
        node.terminate()
        node.wait(30)
    states = world.states(tables.job)
    if state != "done" or states.count("succeeded") != jobs:
        raise RuntimeError(f"the job set is {state}, with {states.count('succeeded')} jobs that succeeded")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.add(
        Figure(
            "many",
            f"{jobs:,} jobs in one round, on a pretended node: CPU of ours {cpu:.1f} s, {requests} requests in "
            f"{wall:.0f} s",
            machine,
            f"at most {GOAL_CPU:g} s",
            cpu <= GOAL_CPU,
            [
                f"{jobs / wall:.0f} pods a second, {PARALLELISM} at a time, as fast as the cluster makes them; peak of "
                f"our process {peak:.0f} MiB",
                "ours: rendering, files and Job, watching, the ledger, acceptance; no pod runs, what a kubelet and "
                "the pods' starters say is said by another process",
            ],
            {"cpu": cpu, "wall": wall, "requests": requests, "jobs": jobs, "peak_mib": peak},
        )
    )
