"""Airflow and a real Kubernetes: whatever dies when, nothing is lost, nothing is done twice, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.backends.kubernetes.numbering import INDEX, INSTALLATION
from airflow_calib_provider.ledger import tables
from tests.cluster.api import Namespace, until
from tests.cluster.cluster import Cluster
from tests.integration.harness import Installation
from tests.integration.test_kills import assert_done_exactly_once

pytestmark = [pytest.mark.airflow, pytest.mark.kubernetes, pytest.mark.timeout(900)]

ON_CLUSTER = True
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
CRASH_AT = [f"{point}@run-r{6001 + n}" for n, point in enumerate(POINTS)]
SPEC = """
apiVersion: calib/v1
workflow: cloud
description: One task on a Kubernetes cluster, and one on this machine that uses what it makes.
owner: tests
runs: {{source: cloud, since: 1}}
defaults: {{retries: 2}}
tasks:
  pods:
    group_by: run
    backend: kubernetes
    jobs:
      split: {{count: 2}}
      command: ["{folder}/installation/job.sh", "{{{{ run.number }}}}", "{{{{ job.index }}}}"]
      environment: {{TOY_CONTROL: "{folder}/control"}}
      kubernetes:
        image: localhost/shell:1
        image_pull_policy: Never
        cpu_request: 100m
        run_as_user: 1000
        spool: {{host_path: "{home}"}}
        volumes:
          control: {{host_path: "{folder}/control", mount: "{folder}/control"}}
          programs: {{host_path: "{folder}/installation", mount: "{folder}/installation", read_only: true}}
    products: {{result: result.txt}}
  here:
    group_by: run
    needs: [pods]
    jobs:
      inputs: "{{{{ tasks.pods.products.result }}}}"
      command: ["cp", "{{{{ job.inputs[0] }}}}", "copy.txt"]
    products: {{copy: copy.txt}}
"""


@pytest.fixture
def cloud(installation: Installation) -> Installation:
    """The installation, with the workflow of this module and its run source."""
    stubs = installation.folder / "installation" / "dags"
    installation.take_runs_from("cloud")
    if not (stubs / "cloud.py").exists():
        sources = installation.specs / "sources.yaml"
        lines = sources.read_text().splitlines()
        sources.write_text("\n".join([*lines, *(line.replace("runs", "cloud") for line in lines[2:5]), ""]))
        spec = SPEC.format(folder=installation.folder, home=installation.home)
        (installation.specs / "cloud.yaml").write_text(spec)
        shutil.copy(stubs / "toy.py", stubs / "cloud.py")
        installation.airflow.wait_for_dags("cloud__run")
    return installation


@pytest.fixture
def namespace(installation: Installation) -> Namespace:
    """The one in which the jobs of the installation run."""
    said = json.loads(installation.environment["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]
    return Namespace(Cluster.attach(Path(said["kube_config_path"]).parents[1]), said["namespace"])


def task_done(installation: Installation, run: int, task: str = "pods") -> bool:
    return installation.task_states().get((f"cloud/run-r{run}", task)) == "done"


def jobs(installation: Installation, run: int) -> list:
    query = (
        select(tables.job)
        .join(tables.generation, tables.generation.c.id == tables.job.c.generation_id)
        .join(tables.run_group, tables.run_group.c.id == tables.generation.c.group_id)
        .where(tables.run_group.c.name == f"run-r{run}", tables.generation.c.task == "pods")
    )
    return installation.rows(query)


def pods(namespace: Namespace, group: str = "") -> list[dict]:
    """Pods of this package that run, of one group or all."""
    found = namespace.list("pods", labelSelector=INSTALLATION, fieldSelector="status.phase=Running")
    return [pod for pod in found if group in str(pod["metadata"]["annotations"])]


@pytest.mark.long  # on this machine: test_kills.py; what a cluster adds: the backends' conformance suite
def test_each_group_dies_at_its_own_point(cloud: Installation) -> None:
    runs = [6001 + n for n in range(len(POINTS))]
    cloud.add_runs(runs)
    assert cloud.inject() == "success"
    cloud.wait(lambda: all(task_done(cloud, run, "here") for run in runs), 400, "all groups to be done")
    fired = {path.name for path in cloud.crashes.iterdir()}
    assert fired.issuperset(CRASH_AT)
    assert_done_exactly_once(cloud, runs, "cloud", "pods")
    assert {row.host for row in jobs(cloud, 6001)} == {"localhost"}


def test_kills_and_silence_around_running_jobs(cloud: Installation, namespace: Namespace) -> None:
    runs = list(range(6101, 6105))
    robbed, killed = runs[-2:]
    for run in runs:
        cloud.control_job(run, "hold")
    cloud.add_runs(runs)
    assert cloud.inject() == "success"
    for run in runs:
        cloud.wait(lambda run=run: [one.state for one in jobs(cloud, run)] == ["running"] * 2, 240, f"jobs of {run}")
    cloud.kill("triggerer")
    victim = next(pod for pod in pods(namespace, f"run-r{robbed}") if pod["metadata"]["labels"][INDEX] == "0")
    namespace.delete("pods", victim["metadata"]["name"])
    cluster = namespace.api
    for name in ("controller-manager", "apiserver"):
        cluster.restart(name)
    silent_server_is_told_and_recovers(cloud, cluster, runs[0])
    # A person's kill removes the pods, and it is verified that they are gone.
    cloud.set_state("cloud__run", f"prompt__run-r{killed}", "pods", "failed")
    cloud.wait(lambda: cloud.task_states().get((f"cloud/run-r{killed}", "pods")) == "failed", 180, "the kill")
    assert pods(namespace, f"run-r{killed}") == []
    cloud.wait(lambda: [row.attempt for row in jobs(cloud, robbed)] == [2, 1], 180, "what was lost to run again")
    for run in runs:
        (cloud.control / str(run)).unlink()
    survivors = [run for run in runs if run != killed]
    cloud.wait(lambda: all(task_done(cloud, run, "here") for run in survivors), 400, "the survivors")
    assert_done_exactly_once(cloud, survivors, "cloud", "pods")
    assert {row.attempt for run in survivors if run != robbed for row in jobs(cloud, run)} == {1}
    assert {row.state for row in jobs(cloud, killed)} == {"removed"}


def silent_server_is_told_and_recovers(installation: Installation, cluster: Cluster, run: int) -> None:
    def explained() -> str:
        return installation.calib("explain", f"run-r{run}", "--workflow", "cloud")

    cluster.stop_silently("apiserver")
    try:
        installation.wait(lambda: "does not answer" in explained(), 240, "explain to tell that the server is silent")
    finally:
        cluster.resume("apiserver")
    installation.wait(lambda: "does not answer" not in explained(), 150, "the server to work again")


def test_nothing_is_left(cloud: Installation, namespace: Namespace) -> None:
    """After everything has ended: no orphan, and no pod that runs."""
    names = ("AIRFLOW_CONN_KUBERNETES_DEFAULT",)
    os.environ.update({name: cloud.environment[name] for name in names})
    try:
        assert "no orphans" in cloud.calib("jobs", "orphans", "--backend", "kubernetes")
    finally:
        for name in names:
            del os.environ[name]
    until(lambda: pods(namespace) == [], what="the end of all pods")
