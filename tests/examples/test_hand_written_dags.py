"""The examples of hand-written DAGs: Airflow parses them, and their jobs do what they say."""

from __future__ import annotations

import math
import runpy
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from airflow.sdk import DAG

EXAMPLES = Path(__file__).parents[2] / "examples"


class Example(NamedTuple):
    """One file, and what it is about."""

    file: str
    backend: str
    dag_id: str
    many: str
    one: str
    value: float


FOUND = [
    Example("condor_dag.py", "condor", "condor_toys", "toys", "pi", math.pi),
    Example("kubernetes_dag.py", "kubernetes", "kubernetes_toys", "count", "e", math.e),
]


@pytest.fixture(scope="module", params=FOUND, ids=lambda example: example.backend)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


@pytest.fixture(scope="module")
def dag(example: Example) -> DAG:
    found: dict[str, Any] = runpy.run_path(str(EXAMPLES / example.file))
    with DAG("probe", schedule=None) as probe:
        pass
    return next(value.dag for value in found.values() if isinstance(getattr(value, "dag", None), type(probe)))


def test_it_is_a_dag(dag: DAG, example: Example) -> None:
    assert dag.dag_id == example.dag_id
    assert dag.task_dict.keys() == {example.many, "merge"}
    assert dag.task_dict["merge"].upstream_task_ids == {example.many}
    assert {task.backend for task in dag.tasks} == {example.backend}  # type: ignore[union-attr]


def test_its_jobs_do_what_it_says(dag: DAG, example: Example, tmp_path: Path) -> None:
    many: Any = dag.task_dict[example.many]
    merge: Any = dag.task_dict["merge"]
    (product,) = many.products.values()
    files = []
    for index in range(5):
        folder = tmp_path / str(index)
        folder.mkdir()
        known = {"{{ job.index }}": str(index), "{{ params.toys }}": "2000"}
        command = [_filled(argument, known) for argument in many.command]
        subprocess.run(command, cwd=folder, check=True, timeout=30)
        files.append(folder / product)
    assert len({file.read_text() for file in files}) > 1, "every job has a seed of its own"
    (tmp_path / "inputs.txt").write_text("".join(f"{file}\n" for file in files))
    command = [_filled(argument, {"{{ job.inputs_file }}": "inputs.txt"}) for argument in merge.command]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    assert float((tmp_path / merge.products[example.one]).read_text()) == pytest.approx(example.value, abs=0.15)


def _filled(text: str, known: dict[str, str]) -> str:
    for template, value in known.items():
        text = text.replace(template, value)
    return text
