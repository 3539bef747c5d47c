"""What job sets have left, and where it lies: logs by run and generation, products, values."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert

from airflow_calib_provider.cli.result_commands import trend
from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import World


def report(world: World, group: str, task: str, name: str, *numbers: float, error: float | None = 0.1) -> None:
    """Values as they are when the jobs of the latest generation were accepted."""
    generation = tables.generation
    group_id = world.group(group).id
    with world.ledger.write() as connection:
        here = (generation.c.group_id == group_id, generation.c.task == task)
        latest = connection.execute(generation.select().where(*here).order_by(generation.c.n.desc())).first()
        assert latest is not None
        rows = [
            {"generation_id": latest.id, "step": 0, "job_index": job, "name": name, "value": number, "error": error}
            for job, number in enumerate(numbers)
        ]
        connection.execute(insert(tables.value), rows)


class TestLogs:
    def test_a_run_names_its_group(self, busy: World, calib: Calib) -> None:
        assert calib.plain("jobs", "logs", "2", "skim") == "job 0 says\nhello\n"
        assert calib.plain("jobs", "logs", "3", "scale") == calib.plain("jobs", "logs", "fill-r2", "scale")

    def test_an_older_generation(self, busy: World, calib: Calib) -> None:
        busy.begin("run-r2", "skim", max_tries=17)
        assert calib.plain("jobs", "logs", "run-r2", "skim", "--generation", "1") == "job 0 says\nhello\n"
        assert calib.json("jobs", "logs", "2", "skim", "--generation", "1")["generation"] == 1
        assert "no generation 7" in calib.fails("jobs", "logs", "run-r2", "skim", "--generation", "7")

    def test_a_run_that_is_in_no_group(self, busy: World, calib: Calib) -> None:
        assert "explain 7" in calib.fails("jobs", "logs", "7", "skim")
        assert "explain 4000" in calib.fails("jobs", "logs", "4000", "skim")
        assert "run-r2 has no task nope" in calib.fails("jobs", "logs", "run-r2", "nope", "-w", "demo")


class TestProducts:
    @pytest.fixture(autouse=True)
    def recorded(self, busy: World) -> None:
        """As it is when a job is accepted."""
        generation = tables.generation
        with busy.ledger.write() as connection:
            done = connection.execute(generation.select().where(generation.c.task == "scale")).one()
            row = {"generation_id": done.id, "step": 0, "job_index": 0, "name": "constants", "file": "constants.json"}
            connection.execute(insert(tables.product), [row])

    def test_where_they_lie(self, busy: World, calib: Calib) -> None:
        (line,) = calib.json("products", "fill-r2")
        assert (line["task"], line["product"], line["job"], line["generation"]) == ("scale", "constants", 0, 1)
        path = Path(line["path"])
        assert path.is_absolute()
        assert path.read_text() == '{"scale": 1.01}'
        assert line["size"] == path.stat().st_size
        assert line["path"] in calib.plain("products", "fill-r2")

    def test_by_run(self, busy: World, calib: Calib) -> None:
        assert calib.json("products", "2", "--task", "scale") == calib.json("products", "fill-r2")

    def test_one_that_is_gone_is_missing(self, busy: World, calib: Calib) -> None:
        Path(calib.json("products", "fill-r2")[0]["path"]).unlink()
        assert calib.json("products", "fill-r2")[0]["size"] is None
        assert "missing" in calib.plain("products", "fill-r2")

    def test_none(self, busy: World, calib: Calib) -> None:
        assert "no products" in calib.plain("products", "run-r5")
        assert "no group" in calib.fails("products", "run-r999")


class TestValues:
    @pytest.fixture
    def reported(self, busy: World) -> World:
        report(busy, "run-r2", "skim", "pairs", 10.0, 20.0)
        report(busy, "run-r3", "skim", "pairs", 30.0, 30.0)
        report(busy, "run-r4", "skim", "pairs", 7.5, 7.5)
        report(busy, "fill-r2", "scale", "scale_EB", 1.01)
        return busy

    def test_a_line_for_each_with_its_trend(self, reported: World, calib: Calib) -> None:
        text = calib.plain("values")
        (pairs,) = [line for line in text.splitlines() if "pairs" in line]
        assert "▃█▁" in pairs
        assert "7.5" in pairs
        assert "scale_EB" in text

    def test_one_value_group_by_group_is_the_mean_of_its_jobs(self, reported: World, calib: Calib) -> None:
        lines = [line.split() for line in calib.plain("values", "pairs").splitlines() if "run-r" in line]
        assert [(line[0], line[4]) for line in lines] == [("run-r2", "15"), ("run-r3", "30"), ("run-r4", "7.5")]

    def test_json_lists_each_job(self, reported: World, calib: Calib) -> None:
        found = calib.json("values", "pairs", "--group", "run-r2")
        assert [(item["job"], item["value"], item["error"]) for item in found] == [(0, 10.0, 0.1), (1, 20.0, 0.1)]
        assert [item["group"] for item in calib.json("values", "pairs", "--last", "1")] == ["run-r4", "run-r4"]

    def test_a_mistyped_name_says_what_there_is(self, reported: World, calib: Calib) -> None:
        assert "pairs, scale_EB" in calib.fails("values", "pears")

    def test_a_plot(self, reported: World, calib: Calib, tmp_path: Path) -> None:
        file = tmp_path / "trend.png"
        calib.plain("values", "--plot", str(file))
        assert file.read_bytes().startswith(b"\x89PNG")
        assert "cannot be written" in calib.fails("values", "--plot", str(tmp_path / "no" / "trend.png"))

    def test_trend_of_equal_and_of_no_numbers(self) -> None:
        assert trend([2.0, 2.0]) == "▄▄"
        assert trend([float("nan"), 1.0]) == "·▄"
        assert trend([]) == ""
