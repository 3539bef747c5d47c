"""Two parses of an unchanged spec give the identical serialized DAG, whatever the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from airflow.models.taskinstance import TaskInstance
from airflow.serialization.serialized_objects import DagSerialization

from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.dags.system import SYSTEM_WEIGHT, system_dags
from airflow_calib_provider.plugins.priority import PROMPT_WEIGHT
from airflow_calib_provider.spec.loader import load_workflow

SCRIPT = """
import json, sys
from pathlib import Path
from airflow.serialization.serialized_objects import DagSerialization
from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.dags.system import system_dags
from airflow_calib_provider.spec.loader import load_workflow

dags = list(system_dags(sys.argv[1]).values())
for file in sorted(Path(sys.argv[1]).parent.glob("[!s]*.yaml")):
    workflow = load_workflow(file)
    dags += [build_dag(workflow, grouping) for grouping in workflow.groupings()]
# The order of keys is Airflow's own, and no part of a DAG: it sorts them before it compares.
print(json.dumps([DagSerialization.to_dict(dag) for dag in dags], sort_keys=True))
"""
SOURCES = """
apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {start: time, end: time, completed: bool, fill: int, lumi_pb: float}
"""
SPEC = """
apiVersion: calib/v1
workflow: {name}
description: "{name} and more"
tags: [z, y, x, calibration, b, a]
runs: {{source: daq, since: 1}}
params: {{b: 1, a: two, c: 3.5, d: true}}
tasks:
  skim: {{group_by: run, jobs: {{command: [/bin/true, "{{{{ params.a }}}}"]}}, products: {{c: c.txt, d: d.txt}}}}
  scale:
    group_by: {{fill: {{at_least: {{lumi_pb: 1}}}}}}
    needs: [skim]
    locks: [{{payload: {{tag: Two}}}}, {{payload: {{tag: One}}}}]
    jobs: {{command: [/bin/true]}}
    products: {{c: c.txt}}
  deliver: {{needs: [scale], publish: {{tag: {name}Tag, file: "{{{{ tasks.scale.products.c }}}}"}}}}
"""


def serialized(folder: Path, seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "AIRFLOW_HOME": str(folder), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", SCRIPT, str(folder / "stub.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_two_parses_give_identical_dags(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "sources.yaml").write_text(SOURCES)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(SPEC.format(name=name))
    first = serialized(folder, 1)
    assert len(first) > 5000
    assert first == serialized(folder, 2)


def test_the_injection_comes_before_all_that_waits_for_a_slot(tmp_path: Path) -> None:
    """New data wait for it, also where a campaign has filled Airflow's queue."""
    (tmp_path / "workflow_specs").mkdir()
    inject = system_dags(str(tmp_path / "dags" / "stub.py"))["calib_inject"]
    stored = DagSerialization.from_dict(DagSerialization.to_dict(inject))
    (task,) = stored.task_dict.values()
    made = TaskInstance(task=task, run_id="manual__1", dag_version_id=None)  # type: ignore[arg-type]
    assert made.priority_weight == SYSTEM_WEIGHT


def test_tasks_of_prompt_come_before_those_of_campaigns(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "one.yaml").write_text(SPEC.format(name="one"))
    dag = build_dag(load_workflow(tmp_path / "one.yaml"), "fill")
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    weights = {
        name: [
            TaskInstance(task=task, run_id=run_id, dag_version_id=None).priority_weight  # type: ignore[arg-type]
            for run_id in ("prompt__fill-r1", "again__fill-r1", "prompt-2__fill-r1", "manual__2026-11-29T00:00:00")
        ]
        for name, task in stored.task_dict.items()
    }
    assert weights["wait_for_group"] == [PROMPT_WEIGHT + 4, 4, 4, 4], "itself and what comes after it"
    assert weights["deliver"] == [PROMPT_WEIGHT + 1, 1, 1, 1]
    assert max(found[0] for found in weights.values()) < SYSTEM_WEIGHT
