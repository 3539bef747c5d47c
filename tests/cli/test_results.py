"""What job sets have left, and where it lies: logs by run and generation, products, values."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from airflow_calib_provider.cli import product_commands
from airflow_calib_provider.cli.value_commands import trend
from airflow_calib_provider.errors import PayloadError
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import NOW, World


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


CONSTANTS = '{"scale": 1.01}'
SUM = hashlib.sha256(CONSTANTS.encode()).hexdigest()


def record_product(world: World) -> None:
    generation = tables.generation
    with world.ledger.write() as connection:
        done = connection.execute(generation.select().where(generation.c.task == "scale")).one()
        row = {"generation_id": done.id, "step": 0, "job_index": 0, "name": "constants", "file": "constants.json"}
        connection.execute(insert(tables.product), [{**row, "size": len(CONSTANTS), "checksum": SUM}])


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
        record_product(busy)

    def test_where_they_lie(self, busy: World, calib: Calib) -> None:
        (line,) = calib.json("products", "fill-r2")
        assert (line["task"], line["product"], line["job"], line["generation"]) == ("scale", "constants", 0, 1)
        path = Path(line["path"])
        assert path.is_absolute()
        assert path.read_text() == CONSTANTS
        assert line["size"] == line["recorded_size"] == path.stat().st_size
        assert (line["state"], line["checksum"]) == ("accepted", SUM)
        shown = calib.plain("products", "fill-r2")
        assert line["path"] in shown, "in one piece, however long it is"
        assert SUM[:12] in shown

    def test_by_run(self, busy: World, calib: Calib) -> None:
        assert calib.json("products", "2", "--task", "scale") == calib.json("products", "list", "fill-r2")

    def test_all_of_them_and_those_of_runs(self, busy: World, calib: Calib) -> None:
        (line,) = calib.json("products")
        assert line["group"] == "fill-r2"
        assert calib.json("products", "--runs", "3-4,9") == [line]
        assert calib.json("products", "--runs", "4") == []
        assert calib.json("products", "--last", "1", "--task", "scale") == [line]
        assert calib.json("products", "-n", "5", "--task", "skim") == []
        assert "neither a run nor a range" in calib.fails("products", "--runs", "x")

    def test_one_that_is_gone_is_missing(self, busy: World, calib: Calib) -> None:
        Path(calib.json("products", "fill-r2")[0]["path"]).unlink()
        (line,) = calib.json("products", "fill-r2")
        assert (line["size"], line["state"]) == (None, "missing")
        assert "missing" in calib.plain("products", "fill-r2")

    def test_one_of_another_size_has_changed(self, busy: World, calib: Calib) -> None:
        Path(calib.json("products", "fill-r2")[0]["path"]).write_text("?")
        assert calib.json("products", "fill-r2")[0]["state"] == "changed"

    def test_one_that_is_dropped(self, busy: World, calib: Calib) -> None:
        with busy.ledger.write() as connection:
            connection.execute(update(tables.product).values(state="dropped", drop_at=NOW))
        (line,) = calib.json("products", "fill-r2")
        assert line["state"] == "dropped"
        assert line["drop_at"].startswith(str(NOW.date()))
        assert "dropped" in calib.plain("products", "fill-r2")
        assert "0 products compared" in calib.plain("products", "check")

    def test_one_that_is_dropped_is_not_published(self, busy: World) -> None:
        with busy.ledger.write() as connection:
            connection.execute(update(tables.product).values(state="dropped", drop_at=NOW))
        flow = busy.workflows["demo"]
        with pytest.raises(PayloadError, match=r"constants.json was dropped: its task keeps it until") as caught:
            publish_group(busy.ledger, flow, flow.tasks["deliver"], busy.group("fill-r2").id, now=NOW)
        assert "calib retry fill-r2 --task scale" in str(caught.value.hint)

    def test_none(self, busy: World, calib: Calib) -> None:
        assert "no products" in calib.plain("products", "run-r5")
        assert "no group" in calib.fails("products", "run-r999")


class TestCheckOfProducts:
    @pytest.fixture
    def path(self, busy: World, calib: Calib) -> Path:
        record_product(busy)
        return Path(calib.json("products", "fill-r2")[0]["path"])

    def test_all_is_well(self, path: Path, calib: Calib) -> None:
        assert calib.plain("products", "check") == "1 products compared by checksum: all as they should be\n"
        assert calib.json("products", "check", "--everything") == {"counts": {"same": 1}, "findings": [], "told": 0}

    @pytest.mark.parametrize(
        "arguments", [(), ("fill-r2",), ("2", "--task", "scale"), ("--runs", "1-3"), ("-w", "demo")]
    )
    def test_what_is_missing(self, path: Path, calib: Calib, arguments: tuple[str, ...]) -> None:
        path.unlink()
        done = calib("products", "check", *arguments)
        assert done.exit_code == 1
        assert "constants of job 0 of demo.scale, fill-r2" in done.stdout
        assert "1 missing" in done.stdout

    def test_what_has_changed(self, path: Path, calib: Calib) -> None:
        path.write_text(CONSTANTS.replace("1", "2"))
        assert calib("products", "check", "--sizes").exit_code == 0
        done = calib("products", "check", "--json")
        assert done.exit_code == 1
        (found,) = json.loads(done.stdout)["findings"]
        assert (found["state"], found["group"], found["task"]) == ("changed", "fill-r2", "scale")
        assert "its checksum is" in found["why"]

    def test_what_the_ledger_does_not_know(self, path: Path, calib: Calib) -> None:
        path.parents[2].with_name("g9").mkdir()
        done = calib("products", "check")
        assert (done.exit_code, "1 unknown" in done.stdout) == (1, True)
        assert calib("products", "check", "--task", "scale").exit_code == 0
        assert "leave out one" in calib.fails("products", "check", "fill-r2", "--everything", code=2)

    def test_the_rest_is_counted(self, path: Path, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(product_commands, "SHOWN", 0)
        path.unlink()
        assert "1 more are not shown" in calib("products", "check").stdout


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

    def test_a_mistyped_name_of_a_comparison_says_what_there_is(self, reported: World, calib: Calib) -> None:
        calib.plain("campaign", "create", "again", "--source", "daq", "--workflow", "demo")
        told = calib.fails("campaign", "compare", "prompt", "again", "--value", "scal")
        assert "neither prompt nor again has a value scal" in told
        assert "did you mean 'scale" in told

    @pytest.mark.parametrize("name", ["x$_$", "$\\nothing$"])
    def test_a_name_is_no_formula(self, busy: World, calib: Calib, tmp_path: Path, name: str) -> None:
        report(busy, "run-r2", "skim", name, 10.0)
        calib.plain("values", name, "--plot", str(tmp_path / "one.png"))
        calib.plain("campaign", "create", "again", "--workflow", "demo")
        calib.plain("campaign", "compare", "prompt", "again", "--plot", str(tmp_path / "two.png"))

    def test_the_axis_of_runs_has_whole_numbers(self, reported: World, calib: Calib, tmp_path: Path) -> None:
        file = tmp_path / "trend.svg"
        calib.plain("values", "scale_EB", "--plot", str(file))
        axis = file.read_text().partition('id="matplotlib.axis_1"')[2].partition('id="matplotlib.axis_2"')[0]
        ticks = re.findall(r"<!-- ([\d.]+) -->", axis)
        assert ticks
        assert all(tick.isdigit() for tick in ticks), ticks

    def test_trend_of_equal_and_of_no_numbers(self) -> None:
        assert trend([2.0, 2.0]) == "▄▄"
        assert trend([float("nan"), 1.0]) == "·▄"
        assert trend([]) == ""

    def test_of_some_runs(self, reported: World, calib: Calib) -> None:
        assert {item["group"] for item in calib.json("values", "pairs", "--runs", "3-4")} == {"run-r3", "run-r4"}

    def test_without_matplotlib(self, reported: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        said = calib.fails("values", "--plot", "trend.png")
        assert "--plot needs matplotlib" in said
        assert "airflow-calib-provider[plot]" in said

    def test_a_group_has_no_trend(self, reported: World, calib: Calib) -> None:
        assert "leave out one" in calib.fails("values", "--group", "run-r2", "--plot", "trend.png", code=2)


class TestDrift:
    @pytest.mark.parametrize(("newest", "code"), [(10.4, 0), (25.0, 1)])
    def test_of_the_newest_group(self, busy: World, calib: Calib, newest: float, code: int) -> None:
        numbers = [9.8, 10.1, 10.0, 9.9, 10.3, newest]
        rows = put_trend(busy, "pairs", numbers)
        done = calib("values", "check", "--against", "5")
        assert done.exit_code == code, done.stdout
        listed = calib.json("values", "check") if code == 0 else json.loads(calib("values", "check", "--json").stdout)
        assert [(item["name"], item["expected"], item["drifted"]) for item in listed] == [("pairs", 10.0, bool(code))]
        assert listed[0]["first_run"] == max(rows)
        assert calib("values", "check", "--limit", "1000").exit_code == 0

    def test_a_mistyped_name_never_drifts_and_is_told(self, busy: World, calib: Calib) -> None:
        report(busy, "run-r2", "skim", "pairs", 10.0)
        assert "there is no value pears" in calib.fails("values", "check", "pears")

    def test_too_few_groups(self, busy: World, calib: Calib) -> None:
        put_trend(busy, "pairs", [1.0, 2.0, 3.0])
        assert "0 values compared" in calib.plain("values", "check")


def put_trend(world: World, name: str, numbers: list[float]) -> list[int]:
    """A value of groups of a grouping of its own, of which there may be as many as are wanted."""
    group, generation = tables.run_group, tables.generation
    with world.ledger.write() as connection:
        old = connection.execute(group.select().where(group.c.name == "run-r2", group.c.workflow == "demo")).one()
        made = connection.execute(generation.select().where(generation.c.group_id == old.id)).one()
        for number in range(1000, 1000 + len(numbers)):
            about = {**old._mapping, "name": f"run-r{number}", "first_run": number, "last_run": number}
            of_group = connection.execute(insert(group).values({k: v for k, v in about.items() if k != "id"}))
            copy = {**made._mapping, "group_id": of_group.inserted_primary_key[0]}
            done = connection.execute(insert(generation).values({k: v for k, v in copy.items() if k != "id"}))
            key = {"generation_id": done.inserted_primary_key[0], "step": 0, "job_index": 0, "name": name}
            connection.execute(insert(tables.value).values(**key, value=numbers[number - 1000]))
    return list(range(1000, 1000 + len(numbers)))
