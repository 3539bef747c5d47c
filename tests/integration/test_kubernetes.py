"""Airflow and a real Kubernetes cluster: a connection as a person makes it, jobs, kills, clears, a hand-written DAG."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.backends.kubernetes_rights import account_with
from tests.cluster.api import Namespace
from tests.cluster.cluster import Cluster
from tests.cluster.images import SHELL
from tests.integration.harness import Installation
from tests.integration.test_kills import assert_done_exactly_once

pytestmark = [pytest.mark.airflow, pytest.mark.kubernetes, pytest.mark.timeout(900)]

ON_CLUSTER = True
CONNECTION = "near"

BLOCK = """{image: IMAGE, image_pull_policy: Never, run_as_user: 1000, run_as_group: 1000, cpu_request: 10m,
      spool: {pvc: folder, sub_path: calib}, volumes: {all: {pvc: folder, mount: FOLDER}}}"""
SPEC = f"""
apiVersion: calib/v1
workflow: near
description: One task on a Kubernetes cluster, and one on this machine that uses what it makes.
owner: tests
runs: {{source: near, since: 1}}
defaults:
  retries: 2
  kubernetes: {BLOCK}
tasks:
  pod:
    group_by: run
    backend: kubernetes:{CONNECTION}
    jobs:
      split: {{count: 2}}
      command: ["FOLDER/installation/job.sh", "{{{{ run.number }}}}", "{{{{ job.index }}}}"]
      environment: {{TOY_CONTROL: FOLDER/control}}
    products: {{result: result.txt}}
  here:
    group_by: run
    needs: [pod]
    jobs:
      inputs: "{{{{ tasks.pod.products.result }}}}"
      command: ["cp", "{{{{ job.inputs[0] }}}}", "copy.txt"]
    products: {{copy: copy.txt}}
"""
STUB = '''"""DAGs of ../workflow_specs/near.yaml; `calib spec stubs` writes this file."""

from airflow_calib_provider.dags.factory import workflow_dags

globals().update(workflow_dags(__file__))
'''
OPERATOR = '''"""Numbers are made by jobs on the cluster, and added up by another."""

from airflow.sdk import DAG

from airflow_calib_provider.operators.kubernetes import KubernetesJobsOperator

with DAG("near_by_hand", schedule=None, params={"offset": 10}):
    make = KubernetesJobsOperator(
        task_id="make",
        command=["sh", "-c", 'echo $(($1 + $2)) > number.txt', "sh", "{{ params.offset }}", "{{ job.index }}"],
        count=3,
        memory="50MB",
        products={"number": "number.txt"},
        kubernetes=BLOCK,
        kubernetes_conn_id="near",
    )
    KubernetesJobsOperator(
        task_id="add",
        command=["sh", "-c", 'xargs cat < "$1" > all.txt', "sh", "{{ job.inputs_file }}"],
        inputs=make.output["number"],
        products={"all": "all.txt"},
        kubernetes=BLOCK,
        kubernetes_conn_id="near",
    )
'''


@pytest.fixture(scope="module")
def place(installation: Installation) -> Iterator[Namespace]:
    """A namespace with the strictest Pod Security, of all tests here, on the cluster of the installation."""
    said = json.loads(installation.environment["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]
    with Cluster.attach(Path(said["kube_config_path"]).parents[1]).namespace("restricted") as made:
        yield made


@pytest.fixture(scope="module")
def connected(installation: Installation, place: Namespace) -> Installation:
    """The installation with a connection to the cluster, with no more rights than are needed, and what uses it."""
    # Pods have it as a whole, as another user than the tests.
    installation.folder.chmod(0o755)
    place.claim(installation.folder, "folder")
    extra = {"kube_config": account_with(place).read_text(), "namespace": place.name}
    body = {"connection_id": CONNECTION, "conn_type": "kubernetes", "extra": json.dumps(extra)}
    installation.airflow.call("POST", "/api/v2/connections", body)
    installation.take_runs_from("near")
    sources = installation.specs / "sources.yaml"
    lines = sources.read_text().splitlines()
    sources.write_text("\n".join([*lines, *(line.replace("runs", "near") for line in lines[2:5]), ""]))
    filled = {"IMAGE": SHELL, "FOLDER": str(installation.folder)}
    spec, block = SPEC, BLOCK
    for name, value in filled.items():
        spec, block = spec.replace(name, value), block.replace(name, value)
    (installation.specs / "near.yaml").write_text(spec)
    stubs = installation.folder / "installation" / "dags"
    (stubs / "near.py").write_text(STUB)
    (stubs / "near_by_hand.py").write_text(OPERATOR.replace("BLOCK", repr(yaml.safe_load(block))))
    installation.airflow.wait_for_dags("near__run", "near_by_hand")
    for dag in ("near__run", "near_by_hand"):
        installation.airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
    return installation


def state(installation: Installation, run: int, task: str) -> str:
    return installation.task_states().get((f"near/run-r{run}", task), "")


def jobs(installation: Installation, run: int) -> list[str]:
    query = (
        select(tables.job.c.state)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group, tables.run_group.c.id == tables.generation.c.group_id)
        .where(tables.run_group.c.name == f"run-r{run}", tables.run_group.c.workflow == "near")
        .where(tables.generation.c.task == "pod")
    )
    return [row.state for row in installation.rows(query)]


def pods(place: Namespace, run: int) -> list[str]:
    """The phases of the pods of a group, found as the page says."""
    selector = f"airflow-calib-provider/workflow=near,airflow-calib-provider/group=run-r{run}"
    return [pod["status"]["phase"] for pod in place.list("pods", labelSelector=selector)]


def test_jobs_run_on_the_cluster(connected: Installation, place: Namespace) -> None:
    connected.control_job(7002, "once")
    connected.add_runs([7001, 7002])
    assert connected.inject() == "success"
    connected.wait(lambda: all(state(connected, run, "here") == "done" for run in (7001, 7002)), 300, "both groups")
    assert_done_exactly_once(connected, [7001, 7002], "near", "pod")
    listed = json.loads(connected.calib("jobs", "list", "--group", "run-r7002", "--task", "pod", "--json"))
    assert [(row["job_index"], row["attempt"]) for row in listed] == [(0, 2), (1, 1)]
    (node,) = [one["metadata"]["name"] for one in place.api.items("/api/v1/nodes")]
    assert {row["host"] for row in listed} == {node}
    assert pods(place, 7001) == ["Succeeded", "Succeeded"]


def test_a_kill_removes_pods_a_clear_goes_on_and_a_death_does_nothing(
    connected: Installation, place: Namespace
) -> None:
    killed, survivor = 7101, 7102
    for run in (killed, survivor):
        connected.control_job(run, "hold")
    connected.add_runs([killed, survivor])
    assert connected.inject() == "success"
    for run in (killed, survivor):
        connected.wait(lambda run=run: jobs(connected, run) == ["running"] * 2, 240, f"the jobs of {run} to run")
    connected.set_state("near__run", f"prompt__run-r{killed}", "pod", "failed")
    connected.wait(lambda: state(connected, killed, "pod") == "failed", 240, "the kill")
    assert jobs(connected, killed) == ["removed", "removed"]
    assert "Running" not in pods(place, killed)
    connected.kill("triggerer")
    connected.kill("scheduler")
    assert pods(place, survivor) == ["Running", "Running"], "who is killed or dies takes nothing along"
    for run in (killed, survivor):
        (connected.control / str(run)).unlink()
    connected.clear("near__run", f"prompt__run-r{killed}", "pod", downstream=True)
    connected.wait(
        lambda: all(state(connected, run, "here") == "done" for run in (killed, survivor)), 300, "both to be done"
    )
    assert_done_exactly_once(connected, [survivor], "near", "pod")


def test_a_hand_written_dag(connected: Installation) -> None:
    connected.airflow.call("POST", "/api/v2/dags/near_by_hand/dagRuns", {"dag_run_id": "one", "logical_date": None})
    connected.wait(
        lambda: connected.airflow.run_state("near_by_hand", "one") in ("success", "failed"), 300, "the DAG run"
    )
    assert connected.airflow.run_state("near_by_hand", "one") == "success"
    path = "/api/v2/dags/near_by_hand/dagRuns/one/taskInstances/add/xcomEntries/all"
    found = connected.airflow.call("GET", path)["value"]
    (file,) = json.loads(found) if isinstance(found, str) else found
    assert Path(file).read_text().split() == ["10", "11", "12"]


def test_the_connection_is_checked_and_nothing_is_left(connected: Installation, place: Namespace) -> None:
    extra = {"kube_config": place.account("airflow").read_text(), "namespace": place.name}
    variables = {"AIRFLOW_CONN_NEAR": json.dumps({"conn_type": "kubernetes", "extra": extra})}
    said = connected.run_calib("backend", "check", f"kubernetes:{CONNECTION}", **variables)
    assert said.returncode == 0, said.stderr
    assert f"system:serviceaccount:{place.name}:airflow may run jobs in the namespace {place.name}" in said.stdout
    left = connected.run_calib("jobs", "orphans", "--backend", f"kubernetes:{CONNECTION}", **variables)
    assert left.stdout == "no orphans\n", left.stderr
