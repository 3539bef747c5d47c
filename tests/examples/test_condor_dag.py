"""The example of a hand-written DAG: Airflow parses it, and its jobs do what it says."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

EXAMPLE = Path(__file__).parents[2] / "examples" / "condor_dag.py"


@pytest.fixture(scope="module")
def dag() -> DAG:
    found: dict[str, Any] = runpy.run_path(str(EXAMPLE))
    with DAG("probe", schedule=None) as probe:
        pass
    return next(value.dag for value in found.values() if isinstance(getattr(value, "dag", None), type(probe)))


def test_it_is_a_dag(dag: DAG) -> None:
    assert dag.dag_id == "condor_toys"
    assert dag.task_dict.keys() == {"toys", "merge"}
    assert dag.task_dict["merge"].upstream_task_ids == {"toys"}
    assert {task.backend for task in dag.tasks} == {"condor"}  # type: ignore[union-attr]


def test_its_jobs_do_what_it_says(dag: DAG, tmp_path: Path) -> None:
    toys: Any = dag.task_dict["toys"]
    merge: Any = dag.task_dict["merge"]
    files = []
    for index in range(5):
        folder = tmp_path / str(index)
        folder.mkdir()
        known = {"{{ job.index }}": str(index), "{{ params.toys }}": "2000"}
        command = [_filled(argument, known) for argument in toys.command]
        subprocess.run(command, cwd=folder, check=True, timeout=30)
        files.append(folder / toys.products["toys"])
    assert len({file.read_text() for file in files}) > 1, "every job has a seed of its own"
    (tmp_path / "inputs.txt").write_text("".join(f"{file}\n" for file in files))
    command = [_filled(argument, {"{{ job.inputs_file }}": "inputs.txt"}) for argument in merge.command]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    assert float((tmp_path / merge.products["pi"]).read_text()) == pytest.approx(3.14, abs=0.15)


def _filled(text: str, known: dict[str, str]) -> str:
    for template, value in known.items():
        text = text.replace(template, value)
    return text
