"""Our watcher and a KubernetesJobOperator, each in a process of its own, so that what both spend can be told apart.

``python -m benchmarks.kubernetes.alone WHAT PLAN ANSWER`` is one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.figures import Figure, Report
from benchmarks.kubernetes.by_hand import JOBS, PARALLELISM, PATIENCE, SCRIPT, job
from benchmarks.kubernetes.place import Place, Set, progress

GOAL_CPU, GOAL_REQUESTS = 10.0, 10.0


def run(place: Place, report: Report, jobs: int = JOBS) -> None:
    """Measure one of each."""
    machine = report.machine()
    plan = {"jobs": jobs, "namespace": place.namespace.name}
    ours_folder, theirs = place.folder / "alone-ours", place.folder / "alone-operator"
    theirs.mkdir()
    block = place.block(ours_folder, parallelism=PARALLELISM, cpu_request="10m")
    ours = _child(place, "ours", {**plan, "folder": str(ours_folder), "block": block})
    operator = _child(place, "operator", {**plan, "folder": str(theirs), "job": job("operator", theirs, jobs)})
    cpu = operator["cpu"] / ours["cpu"]
    requests = operator["requests"] / max(1, ours["requests"])
    report.add(
        Figure(
            "operator",
            f"{jobs} jobs: one KubernetesJobOperator {operator['cpu']:.2f} s CPU and {operator['requests']} requests, "
            f"ours {ours['cpu']:.2f} s and {ours['requests']}: ratios {cpu:.1f} and {requests:.1f}",
            machine,
            f"CPU ratio at least {GOAL_CPU:g}, requests at least {GOAL_REQUESTS:g}",
            cpu >= GOAL_CPU and requests >= GOAL_REQUESTS,
            [
                "both without the start of their processes: the operator's execute(), which waits for its Job and "
                f"reads the logs of {min(jobs, PARALLELISM)} pods, as it does by default; ours from the first line in "
                "the ledger to the end of the generation, with all products accepted and the jobs on record",
                f"with the start of the process: {operator['whole']:.1f} s and {ours['whole']:.1f} s",
                f"wall: {operator['wall']:.0f} s and {ours['wall']:.0f} s",
            ],
            {"operator": operator, "ours": ours, "jobs": jobs},
        )
    )


def _child(place: Place, what: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    account = place.account(f"alone-{what}")
    given, answer = place.folder / f"{what}.json", place.folder / f"{what}.answer.json"
    given.write_text(json.dumps({**plan, "account": str(account)}))
    with (place.folder / f"{what}.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.kubernetes.alone", what, str(given), str(answer)]
        home = str(place.folder / f"{what}-airflow")
        variables = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, stdout=log, stderr=log, env=variables, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} failed: {(place.folder / f'{what}.log').read_text()[-2000:]}")
    found: dict[str, Any] = json.loads(answer.read_text())
    found["requests"] = place.requests(f"alone-{what}")
    progress(f"{what}: {found}")
    place.empty()
    return found


def ours(plan: Mapping[str, Any]) -> Callable[[], None]:
    """Our job set."""
    place: Any = SimpleNamespace(namespace=SimpleNamespace(name=plan["namespace"]))
    account, folder = Path(plan["account"]), Path(plan["folder"])
    products = {"out": "out.txt"}
    world = Set(place, folder, account, SCRIPT, plan["jobs"], products=products, options=plan["block"])
    # As in a triggerer, which has talked to the cluster before.
    world.backend.rounds()

    def work() -> None:
        state = world.watched(PATIENCE)
        if state != "done":
            raise RuntimeError(f"the job set is {state}")

    return work


def operator(plan: Mapping[str, Any]) -> Callable[[], None]:
    """The operator of the provider cncf.kubernetes."""
    from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator

    folder = Path(plan["folder"])
    (folder.parent / "operator-job.yaml").write_text(json.dumps(plan["job"]))
    extra = {"kube_config_path": plan["account"], "namespace": plan["namespace"]}
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({"conn_type": "kubernetes", "extra": extra})
    made = KubernetesJobOperator(
        task_id="jobs",
        kubernetes_conn_id="bench",
        namespace=plan["namespace"],
        job_template_file=str(folder.parent / "operator-job.yaml"),
        parallelism=min(plan["jobs"], PARALLELISM),
        wait_until_job_complete=True,
    )
    instance = SimpleNamespace(dag_id="bench", task_id="jobs", map_index=-1, try_number=1, xcom_push=lambda **_: None)
    context: Any = {"ti": instance, "run_id": "one", "dag": None}

    def work() -> None:
        made.execute(context)

    return work


def main(arguments: Sequence[str]) -> None:
    """Do one of them, and write what it cost."""
    what, plan, answer = arguments
    os.umask(0)
    work = {"ours": ours, "operator": operator}[what](json.loads(Path(plan).read_text()))
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    said = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "whole": time.process_time()}
    Path(answer).write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
