"""What a source says otherwise after a run was assigned: recorded as an event, and told with how to do it anew."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.injection.inject import InjectionReport
from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import World, row

COUNT = """\
apiVersion: calib/v1
workflow: count
runs: {source: hits, where: "run.events > 0", since: 1}
tasks:
  sum:
    group_by: run
    jobs: {command: [echo, "{{ run.events }}"]}
"""


def changes(world: World) -> list[Any]:
    event = tables.event
    with world.ledger.read() as connection:
        query = select(event.c.run, event.c.data).where(event.c.entity == "run", event.c.to_state == "changed")
        return [(found.run, found.data["changes"]) for found in connection.execute(query.order_by(event.c.id))]


def told(calib: Calib, *what: str) -> list[Any]:
    """What ``explain`` says of changes."""
    causes = calib.json("explain", *what, "--no-airflow")["causes"]
    return [cause for cause in causes if cause["code"] == "source_changed"]


class TestEvents:
    @pytest.fixture(autouse=True)
    def counted(self, world: World) -> None:
        sources = world.specs / "sources.yaml"
        sources.write_text(sources.read_text() + "  hits:\n    events: {path: hits.csv}\n    fields: {events: int}\n")
        (world.specs / "count.yaml").write_text(COUNT)
        (world.specs / "hits.csv").write_text("run,adc\n7,1\n7,2\n8,3\n")
        world.runs(row(2))
        world.inject()

    def grow(self, world: World) -> InjectionReport:
        with (world.specs / "hits.csv").open("a") as stream:
            stream.write("7,5\n9,1\n")
        return world.inject()

    def test_a_file_that_grows(self, world: World, calib: Calib) -> None:
        report = self.grow(world)
        assert report.source_changes == ["run 7 of hits: the source changed after assignment: events: 2 → 3"]
        assert changes(world) == [(7, {"events": [2, 3]})]
        (cause,) = told(calib, "7")
        assert cause["text"] == "the source changed after assignment: events: 2 → 3"
        assert cause["about"] == "run 7 in count"
        assert "calib campaign create NAME --source hits --runs 7" in cause["release"]
        assert told(calib, "8") == []

    def test_the_remedy_works(self, world: World, calib: Calib) -> None:
        self.grow(world)
        calib.plain("campaign", "create", "anew", "--source", "hits", "--runs", "7", "--workflow", "count")
        world.inject()
        assert told(calib, "7", "--campaign", "anew") == []
        (line,) = [item for item in calib.json("runs", "list", "-w", "count", "-c", "anew") if item["run"] == 7]
        assert (line["state"], line["changes"]) == ("grouped", {})

    def test_lists_say_it(self, world: World, calib: Calib) -> None:
        self.grow(world)
        lines = {line["run"]: line for line in calib.json("runs", "list", "--workflow", "count")}
        assert lines[7]["changes"] == {"events": [2, 3]}
        assert lines[7]["why"] == "the source changed after assignment: events: 2 → 3"
        assert (lines[8]["changes"], lines[8]["why"]) == ({}, "")
        assert "events: 2 → 3" in " ".join(calib.plain("runs", "list", "--workflow", "count").split())

    def test_what_is_taken_back_is_no_change(self, world: World, calib: Calib) -> None:
        before = (world.specs / "hits.csv").read_text()
        self.grow(world)
        (world.specs / "hits.csv").write_text(before)
        world.inject()
        assert told(calib, "7") == []


class TestLines:
    def test_a_line_that_changes(self, busy: World, calib: Calib) -> None:
        busy.inject(row(2, lumi=7.5), row(3), row(4, fill=2), row(5, fill=2), row(6, fill=3), row(7, fill=3, lumi=1.0))
        assert [cause["text"] for cause in told(calib, "2", "--workflow", "demo")] == [
            "the source changed after assignment: lumi: 6 → 7.5"
        ]
        (of_group,) = told(calib, "fill-r2")
        assert of_group["text"] == "the source changed after assignment: lumi: 6 → 7.5"
        (not_selected,) = told(calib, "7", "--workflow", "demo")
        assert "lumi: 0 → 1" in not_selected["text"]

    def test_several_of_a_group(self, busy: World, calib: Calib) -> None:
        busy.inject(row(2, lumi=7.5), row(3, lumi=None), row(4, fill=2), row(5, fill=2), row(6, fill=3))
        (of_group,) = told(calib, "fill-r2")
        assert "run 2: lumi: 6 → 7.5; run 3: lumi: 6 → nothing" in of_group["text"]
        assert "--runs 2,3" in of_group["release"]

    def test_no_longer_completed(self, busy: World, calib: Calib) -> None:
        busy.inject(row(2, completed=False), row(3), row(4, fill=2), row(5, fill=2), row(6, fill=3), row(7, fill=3))
        (cause,) = told(calib, "2", "--workflow", "demo")
        assert "completed: true → false" in cause["text"]

    def test_a_line_that_vanishes_and_comes_back(self, busy: World, calib: Calib) -> None:
        rest = [row(3), row(4, fill=2), row(5, fill=2), row(6, fill=3), row(7, fill=3, lumi=0.0)]
        for _ in range(2):
            busy.inject(*rest, row(8, fill=3, completed=False))
        assert changes(busy) == [(2, {"listed": [True, False]})]
        (cause,) = told(calib, "2", "--workflow", "demo")
        assert cause["text"] == "the source changed after assignment: listed: true → false"
        assert [line["changes"] for line in calib.json("runs", "list", "-w", "demo") if line["run"] == 3] == [{}, {}]
        busy.inject(row(2), *rest, row(8, fill=3, completed=False))
        assert changes(busy)[1:] == [(2, {"listed": [False, True]})]
        assert told(calib, "2") == []

    def test_one_that_was_added_by_hand_never_vanishes(self, busy: World, calib: Calib) -> None:
        busy.runs(row(1), file="more.csv")
        calib.plain("runs", "add", "more.csv", "--source", "daq")
        busy.inject()
        busy.inject()
        assert changes(busy) == []
        assert told(calib, "1") == []

    def test_a_field_that_is_declared_later_is_no_change(self, busy: World, calib: Calib) -> None:
        sources = busy.specs / "sources.yaml"
        sources.write_text(sources.read_text().replace(", lumi: float", ", lumi: float, magnet: float"))
        listed = busy.specs / "runs.csv"
        head, *lines = listed.read_text().splitlines()
        listed.write_text("\n".join([head + ",magnet", *(line + ",3.8" for line in lines)]) + "\n")
        busy.inject()
        assert told(calib, "2") == []
