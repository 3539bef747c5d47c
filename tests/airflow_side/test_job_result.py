"""What a done job set of a spec leaves in XCom: where it lies, and its products, as absolute paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import DAG
from sqlalchemy import insert

from airflow_calib_provider.ledger import generations, tables
from airflow_calib_provider.operators import jobs as jobs_module
from airflow_calib_provider.operators.jobs import JobsOperator
from tests.cli.world import World, row


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    made = World(tmp_path)
    made.inject(row(2), row(3))
    made.open_dag_runs()
    return made


def result(world: World, task: str, generation_id: int, *products: tuple[int, str]) -> dict[str, object]:
    with world.ledger.write() as connection:
        rows = [
            {"generation_id": generation_id, "step": 0, "job_index": job, "name": name, "file": "constants.json"}
            for job, name in products
        ]
        if rows:
            connection.execute(insert(tables.product), rows)
        held = generations.by_id(connection, generation_id)
    with DAG("demo__run", schedule=None):
        operator = JobsOperator(task_id=task, workflow=world.workflows["demo"], task=task)
    return operator.result({}, world.ledger, held)  # type: ignore[typeddict-item]


def test_products_are_absolute_and_there(world: World) -> None:
    found = result(world, "skim", world.do("run-r2", "skim"), (0, "skim"), (1, "skim"))
    assert Path(str(found["folder"])).is_dir()
    products = found["products"]
    assert isinstance(products, dict)
    assert list(products) == ["0", "1"]
    for files in products.values():
        path = Path(files["skim"])
        assert path.is_absolute()
        assert path.read_text() == '{"scale": 1.01}'
        assert path.is_relative_to(str(found["folder"]))


def test_without_products(world: World) -> None:
    found = result(world, "skim", world.do("run-r2", "skim"))
    assert found["products"] == {}
    assert (found["group"], found["generation"]) == ("run-r2", 1)


def test_too_many_are_left_to_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MANY_PRODUCTS", 1)
    found = result(world, "skim", world.do("run-r2", "skim"), (0, "skim"), (1, "skim"))
    assert found["products"] is None
    assert Path(str(found["folder"])).is_absolute()
