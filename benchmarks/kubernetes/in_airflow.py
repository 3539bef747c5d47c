"""One job set in a real Airflow, beside mapped KubernetesPodOperator tasks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from demo.airflow_server import AirflowServer

from benchmarks.condor.mapped import IDLE_SECONDS, _used
from benchmarks.figures import Figure, Report
from benchmarks.kubernetes.by_hand import JOBS, SCRIPT, job
from benchmarks.kubernetes.place import Place, progress, wait
from tests.postgres.places import migrated

TASKS = 20
GOAL = 100.0
PATIENCE = 1800.0
ACCOUNTS = ("ours", "mapped")

DAGS = '''\
"""The same work in two ways, and a task that does nothing: what Airflow itself costs."""

import os

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from kubernetes.client import models

from airflow_calib_provider.operators.kubernetes import KubernetesJobsOperator

GIVEN = GIVEN_HERE

with DAG("bench_ours", schedule=None):
    KubernetesJobsOperator(
        task_id="jobs",
        command=["sh", "-c", GIVEN["script"]],
        count=GIVEN["jobs"],
        products={"out": "out.txt"},
        kubernetes=GIVEN["block"],
        kubernetes_conn_id="bench_ours",
    )

with DAG("bench_mapped", schedule=None):
    KubernetesPodOperator.partial(
        task_id="pod",
        kubernetes_conn_id="bench_mapped",
        image=GIVEN["block"]["image"],
        image_pull_policy="Never",
        cmds=["sh", "-c", GIVEN["by_hand"]],
        volumes=[models.V1Volume(name="folder", host_path=models.V1HostPathVolumeSource(path=GIVEN["folder"]))],
        volume_mounts=[models.V1VolumeMount(name="folder", mount_path=GIVEN["folder"])],
        container_resources=models.V1ResourceRequirements(requests={"cpu": "10m"}),
        security_context={"runAsUser": 1000},
        automount_service_account_token=False,
    ).expand(env_vars=[{"FOLDER": GIVEN["mapped"], "JOB_COMPLETION_INDEX": str(n)} for n in range(GIVEN["tasks"])])

with DAG("bench_nothing", schedule=None):
    PythonOperator(task_id="nothing", python_callable=print)
'''


@dataclass
class Spent:
    """What one DAG run cost.

    :ivar cpu: seconds of all of Airflow's components, without what they spend when idle.
    """

    wall: float
    cpu: float
    requests: int


def run(place: Place, report: Report, jobs: int = JOBS, tasks: int = TASKS) -> None:
    """Measure both in one Airflow, one after the other."""
    machine = report.machine()
    spent = _measure(place, jobs, tasks)
    ours, mapped = spent["ours"], spent["mapped"]
    nothing = spent["nothing"].cpu
    each = mapped.cpu / tasks
    ratio = each * jobs / ours.cpu
    report.add(
        Figure(
            "mapped",
            f"{jobs} mapped KubernetesPodOperator tasks: {each * jobs:,.0f} s CPU, scaled up from {tasks} of "
            f"{each:.1f} s each; ours {ours.cpu:.1f} s: ratio {ratio:.0f}",
            machine,
            f"ratio at least {GOAL:g}",
            ratio >= GOAL,
            [
                f"requests: {mapped.requests / tasks:.0f} for each task, {ours.requests} of ours for {jobs} jobs",
                f"{tasks} tasks took {mapped.wall:.0f} s; a task that does nothing costs {nothing:.1f} s CPU",
            ],
            {"each": each, "tasks": tasks, "ratio": ratio, "requests": mapped.requests},
        )
    )


def _measure(place: Place, jobs: int, tasks: int) -> dict[str, Spent]:
    folder = place.folder / "airflow"
    home = folder / "calib"
    for one in (folder, folder / "dags", home, folder / "mapped"):
        one.mkdir()
    given = {
        "script": SCRIPT,
        "jobs": jobs,
        "tasks": tasks,
        "block": place.block(home, parallelism=50, cpu_request="10m"),
        "folder": str(folder),
        "mapped": str(folder / "mapped"),
        "by_hand": job("x", folder, 1)["spec"]["template"]["spec"]["containers"][0]["command"][2],
    }
    (folder / "dags" / "bench.py").write_text(DAGS.replace("GIVEN_HERE", repr(given)))
    environment = {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False", "CALIB_HOME": str(home)}
    for name in ACCOUNTS:
        extra = {"kube_config_path": str(place.account(f"airflow-{name}")), "namespace": place.namespace.name}
        environment[f"AIRFLOW_CONN_BENCH_{name.upper()}"] = json.dumps({"conn_type": "kubernetes", "extra": extra})
    airflow = AirflowServer(folder / "airflow", folder / "dags", environment)
    airflow.prepare()
    migrated(f"sqlite:///{home / 'ledger.db'}").close()
    airflow.start()
    try:
        airflow.wait_healthy()
        airflow.wait_for_dags(*(f"bench_{name}" for name in (*ACCOUNTS, "nothing")))
        return _all(place, airflow)
    finally:
        airflow.stop()


def _all(place: Place, airflow: AirflowServer) -> dict[str, Spent]:
    time.sleep(5)
    before = _used(airflow)
    time.sleep(IDLE_SECONDS)
    idle = {name: (value - before[name]) / IDLE_SECONDS for name, value in _used(airflow).items()}
    spent = {}
    for name in ("nothing", *ACCOUNTS):
        asked, used, begin = place.requests(f"airflow-{name}"), _used(airflow), time.perf_counter()
        run_id = airflow.trigger(f"bench_{name}")
        dag_id = f"bench_{name}"
        wait(
            lambda dag_id=dag_id, run_id=run_id: airflow.run_state(dag_id, run_id) in ("success", "failed"),
            PATIENCE,
            f"the run of {dag_id}",
            2.0,
        )
        wall, after = time.perf_counter() - begin, _used(airflow)
        state = airflow.run_state(dag_id, run_id)
        if state != "success":
            raise RuntimeError(f"the run of {dag_id} is {state}; see {airflow.home}")
        cpu = sum(max(0.0, value - used[part] - idle[part] * wall) for part, value in after.items())
        spent[name] = Spent(wall, cpu, place.requests(f"airflow-{name}") - asked)
        progress(f"{name}: {spent[name]}")
    return spent
