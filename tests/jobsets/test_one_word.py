"""One workflow on this machine, on an HTCondor pool, on a Kubernetes cluster: one word is another, and nothing else."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.ledger import tables
from tests.cluster.api import Namespace
from tests.cluster.images import SHELL
from tests.pool.pool import Pool
from tests.postgres.places import migrated
from tests.worlds import WithJobs, WithSpecs

pytestmark = pytest.mark.timeout(900)

SOURCES = """
apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {start: time, end: time, completed: bool}
"""
RUNS = """number,start,end,completed
1,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,true
2,2026-03-01T01:00:00Z,2026-03-01T02:00:00Z,true
"""
SPEC = """
apiVersion: calib/v1
workflow: w
runs: {source: daq, since: 1}
defaults:
  backend: THE_WORD
  retries: 1
  timeout: 10s
  condor: {max_idle: 100}
  kubernetes:
    image: IMAGE
    image_pull_policy: Never
    run_as_user: 1000
    run_as_group: 1000
    spool: {host_path: HOME}
  failures: [{when: {exit_code: 65}, then: fail}]
tasks:
  make:
    group_by: run
    jobs:
      split: {count: 6}
      environment: {NUMBER: "{{ run.number }}{{ job.index }}"}
      command:
      - sh
      - -c
      - |
        echo "job $NUMBER" >&2
        [ "$1" = 1 ] || case $CALIB_JOB in
          1) [ "$CALIB_ATTEMPT" = 2 ] || exit 3 ;;
          2) exit 65 ;;
          3) kill -SEGV $$ ;;
          4) exit 0 ;;
          5) sleep 300 ;;
        esac
        echo "{\\"type\\": \\"value\\", \\"name\\": \\"number\\", \\"value\\": $NUMBER}" >> "$CALIB_REPORT"
        echo "$NUMBER" > number.txt
      - sh
      - "{{ run.number }}"
    products: {number: number.txt}
  merge:
    needs: [make]
    jobs:
      inputs: "{{ tasks.make.products.number }}"
      command: [sh, -c, 'xargs cat < "$1" > all.txt', sh, "{{ job.inputs_file }}"]
    products: {all: all.txt}
  absent:
    group_by: run
    jobs: {command: [/no/such/program, "{{ run.number }}"], retries: 0}
"""

OF_A_PLACE = ("host", "start", "end", "memory", "round", "generation_id")
"""What is listed of a job and differs from place to place."""


@dataclass
class World(WithSpecs, WithJobs):
    """An installation of one backend."""

    home: Path
    word: str
    make_backend: Callable[[], Backend]

    def __post_init__(self) -> None:
        self.specs = self.home / "specs"
        self.specs.mkdir(parents=True)
        (self.specs / "sources.yaml").write_text(SOURCES)
        (self.specs / "runs.csv").write_text(RUNS)
        text = SPEC.replace("THE_WORD", self.word).replace("IMAGE", SHELL).replace("HOME", str(self.home))
        (self.specs / "w.yaml").write_text(text)
        self.ledger = migrated(f"sqlite:///{self.home / 'ledger.db'}")
        self.take()
        self.backend = self.make_backend()

    def backend_of(self, name: str) -> Backend:
        assert name == self.word
        return self.backend

    def run(self, task: str, run: int) -> str:
        """Run a task of a group to its end; returns the state of its generation."""
        workflow = self.workflows["w"]
        (group,) = [row.id for row in self.rows(tables.run_group) if row.name == f"run-r{run}"]
        now = datetime.now(UTC)
        made = begin(
            self.ledger, workflow, workflow.tasks[task], group, max_tries=0, dag_run_id=f"prompt__run-r{run}", now=now
        )
        return self.finish(made.generation_id, 240).state

    def calib(self, *command: str) -> Any:
        result = CliRunner().invoke(app, [*command, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def alike(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a job, or an attempt, wherever it ran."""
    told = {name: value for name, value in row.items() if name not in OF_A_PLACE}
    if told["failure"] == "timeout":
        # Who ends what is late, a keeper, the pool by a hold or a starter, says so in its own way.
        assert "time-out" in told["reason"]
        told |= dict.fromkeys(("reason", "exit_code", "signal", "hold_code"))
    return told


def found(world: World) -> dict[str, Any]:
    """Everything that a person or a task learns of the jobs, but for where and when they ran."""
    ends = {f"{task} {run}": world.run(task, run) for task, run in (("make", 1), ("merge", 1), ("make", 2))}
    ends["absent 1"] = world.run("absent", 1)
    listed = world.calib("jobs", "list")
    rows = world.rows(tables.generation)
    (merged,) = [row.folder for row in rows if row.task == "merge"]
    (made,) = [row.folder for row in rows if row.task == "make" and "run-r1/" in row.folder]
    return {
        "ends": ends,
        "jobs": [alike(row) for row in listed],
        "attempts": [alike(row._asdict()) for row in world.rows(tables.attempt)],
        "merged": product_path(merged, 0, "all.txt").read_text(),
        "numbers": [product_path(made, index, "number.txt").read_text() for index in range(6)],
        "values": sorted((row.job_index, row.name, row.value) for row in world.rows(tables.value)),
        "stderr": world.calib("jobs", "logs", "run-r2", "make", "2", "--stderr")["text"],
        "status": world.calib("status"),
    }


@pytest.fixture
def open_folders() -> Iterator[None]:
    """Jobs run as other users than the tests; at a site both are one."""
    before = os.umask(0)
    yield
    os.umask(before)


def of(folder: Path, word: str, make: Callable[[], Backend], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    home = folder / "home"
    monkeypatch.setenv("CALIB_HOME", str(home))
    world = World(home, word, make)
    try:
        return found(world)
    finally:
        for key in world.backend.rounds():
            world.backend.remove(key)
        world.ledger.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_folders: None) -> Mapping[str, Any]:
    """What is found on this machine."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    said = of(tmp_path / "here", "local", lambda: LocalBackend(grace=0.5), monkeypatch)
    assert said["ends"] == {"make 1": "done", "merge 1": "done", "make 2": "failed", "absent 1": "failed"}
    assert said["merged"] == "10\n11\n12\n13\n14\n15\n"
    assert said["stderr"].startswith("job 22")
    states = {row["job_index"]: row["state"] for row in said["jobs"] if row["group_name"] == "run-r2"}
    assert states == {0: "succeeded", 1: "succeeded", **dict.fromkeys((2, 3, 4, 5), "failed")}
    return said


def assert_alike(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    lines = [list(map(str, _lines(found))) for found in (here, there)]
    if different := list(difflib.unified_diff(*lines, "here", "there", n=0, lineterm="")):
        pytest.fail("\n".join(different))


def _lines(found: Mapping[str, Any]) -> Iterator[object]:
    for what, said in found.items():
        yield from ((what, item) for item in said) if isinstance(said, list) else [(what, said)]


@pytest.mark.condor
def test_on_a_pool(here: Mapping[str, Any], pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.shared is not None
    settings = CondorSettings.from_mapping("calib_condor", pool.connection())
    there = of(pool.shared / tmp_path.name, "condor", lambda: CondorBackend(settings), monkeypatch)
    assert_alike(there, here)


def test_on_a_cluster(
    here: Mapping[str, Any], namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_KUBERNETES_INTERVAL", "1")
    settings = KubernetesSettings(kube_config_path=str(namespace.api.kubeconfig), namespace=namespace.name)
    there = of(tmp_path / "there", "kubernetes", lambda: KubernetesBackend(settings), monkeypatch)
    assert_alike(there, here)
