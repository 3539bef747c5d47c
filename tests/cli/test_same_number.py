"""Two run sources that both have a run of one number: it is named by its source where that matters."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert

from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import World, row

LASER = """\
apiVersion: calib/v1
workflow: laser
runs: {source: mc, since: 1}
tasks:
  pulse:
    group_by: run
    jobs: {command: [echo, "{{ run.number }}"]}
"""


@pytest.fixture
def both(world: World) -> World:
    """Run 5 in the sources daq and mc, run 6 in daq only, run 9 in mc only; ``laser`` takes those of mc."""
    sources = world.specs / "sources.yaml"
    sources.write_text(
        sources.read_text()
        + "  mc:\n    csv: {path: mc.csv}\n    fields: {start: time, end: time, completed: bool, lumi: float}\n"
    )
    (world.specs / "laser.yaml").write_text(LASER)
    world.runs(row(5, lumi=1.0), row(9), file="workflow_specs/mc.csv")
    world.inject(row(5), row(6))
    world.open_dag_runs()
    return world


class TestRead:
    def test_runs_of_a_workflow(self, both: World, calib: Calib) -> None:
        listed = {(line["run"], line["source"]) for line in calib.json("runs", "list", "--workflow", "laser")}
        assert listed == {(5, "mc"), (9, "mc")}
        listed = {(line["run"], line["source"]) for line in calib.json("runs", "list", "--workflow", "demo")}
        assert listed == {(5, "daq"), (6, "daq")}

    def test_runs_of_a_source(self, both: World, calib: Calib) -> None:
        assert {line["run"] for line in calib.json("runs", "list", "--source", "mc")} == {5, 9}
        assert "no run source nowhere" in calib.fails("runs", "list", "--source", "nowhere")

    def test_runs_of_a_workflow_that_has_none_yet(self, both: World, calib: Calib) -> None:
        (both.specs / "late.yaml").write_text(LASER.replace("laser", "late").replace("since: 1", "since: 2030-01-01"))
        (both.specs / "sources.yaml").write_text(
            (both.specs / "sources.yaml").read_text() + "  test:\n    csv: {path: mc.csv}\n    fields: {lumi: float}\n"
        )
        both.inject()
        assert {line["source"] for line in calib.json("runs", "list", "--workflow", "late")} == {"mc"}

    def test_status(self, both: World, calib: Calib) -> None:
        lines = {line["source"]: line["states"] for line in calib.json("status", "--run", "5")["runs"]}
        assert set(lines["mc"]) == {"laser.pulse"}
        assert "laser.pulse" not in lines["daq"]
        assert "demo.skim" in lines["daq"]
        assert [line["source"] for line in calib.json("status", "--run", "5", "-w", "laser")["runs"]] == ["mc"]
        assert [line["run"] for line in calib.json("status", "--source", "mc")["runs"]] == [5, 9]
        assert "source" in calib.plain("status", "--run", "5")

    def test_explain(self, both: World, calib: Calib) -> None:
        both.inject(row(5, lumi=0.5), row(6))
        causes = calib.json("explain", "5", "--no-airflow")["causes"]
        changed = {cause["about"] for cause in causes if cause["code"] == "source_changed"}
        assert changed == {"run 5 of daq in demo", "run 5 of daq in other", "run 5 of daq in third"}
        own = calib.json("explain", "5", "--source", "mc", "--no-airflow")["causes"]
        assert {cause["workflow"] for cause in own} == {"laser"}
        assert "run 5 of" not in calib.plain("explain", "5", "--source", "mc", "--no-airflow", "-w", "laser")


class TestSkip:
    def test_it_must_be_said_which(self, both: World, calib: Calib) -> None:
        said = calib.fails("skip", "5", "--reason", "bad")
        assert "several sources have a run 5: daq, mc" in said
        assert "--source" in said

    def test_of_a_source(self, both: World, calib: Calib) -> None:
        done = calib.json("skip", "5", "--source", "mc", "--reason", "bad")["skipped"]
        assert [(item["workflow"], item["runs"]) for item in done] == [("laser", [5])]
        lines = {line["source"]: line["states"] for line in calib.json("status", "--run", "5")["runs"]}
        assert lines["mc"] == {"laser.pulse": "skipped"}
        assert "skipped" not in lines["daq"].values()
        (cause,) = [
            item for item in calib.json("explain", "5", "--no-airflow")["causes"] if item["code"] == "run_skipped"
        ]
        assert cause["about"] == "run 5 of mc in laser"

    def test_one_that_only_one_source_has(self, both: World, calib: Calib) -> None:
        done = calib.json("skip", "9", "--reason", "bad")["skipped"]
        assert [item["workflow"] for item in done] == ["laser"]

    def test_of_a_workflow(self, both: World, calib: Calib) -> None:
        assert "skipped 5" in calib.plain("skip", "5", "--workflow", "laser", "--reason", "bad")
        said = calib.fails("skip", "6", "--workflow", "laser", "--reason", "bad")
        assert "the workflow laser takes runs of mc: run 6 is of daq" in said


class TestResults:
    @pytest.fixture(autouse=True)
    def done(self, both: World) -> None:
        both.do("run-r5", "skim")
        generation = tables.generation
        with both.ledger.write() as connection:
            found = connection.execute(generation.select()).one()
            product = {"generation_id": found.id, "step": 0, "job_index": 0, "name": "c", "file": "constants.json"}
            connection.execute(insert(tables.product), [product])

    def test_products(self, both: World, calib: Calib) -> None:
        assert "several sources have a run 5" in calib.fails("products", "5")
        (line,) = calib.json("products", "5", "--source", "daq")
        assert Path(line["path"]).is_file()
        assert calib.json("products", "5", "--source", "mc") == []
        assert calib.json("products", "5", "--workflow", "demo") == [line]

    def test_values(self, both: World, calib: Calib) -> None:
        assert "several sources have a run 5" in calib.fails("values", "--group", "5")
        assert calib.json("values", "--group", "5", "--source", "daq") is not None
        assert "--group" in calib.fails("values", "--source", "daq", code=2)

    def test_logs(self, both: World, calib: Calib) -> None:
        assert calib.plain("jobs", "logs", "5", "skim", "--source", "daq") == "job 0 says\nhello\n"
        assert "in no group" in calib.fails("jobs", "logs", "5", "skim", "--source", "mc")
        assert "is no run" in calib.fails("jobs", "logs", "run-r5", "skim", "--source", "daq", code=2)
