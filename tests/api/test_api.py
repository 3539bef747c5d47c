"""What programs may use is what the page says, and reads what the command line shows."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from airflow_calib_provider import api
from airflow_calib_provider.api.comparing import _pieces
from airflow_calib_provider.errors import CalibError, NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.results import GroupValue, PublishedLine
from tests.cli.conftest import Calib, busy, calib, database, folder, world
from tests.cli.test_results import record_product, report
from tests.cli.world import World

__all__ = ["busy", "calib", "database", "folder", "world"]

PAGE = (Path(__file__).parents[2] / "docs" / "python-api.md").read_text(encoding="utf-8")


def test_every_name_is_on_the_page() -> None:
    assert sorted(api.__all__) == sorted(set(api.__all__))
    functions = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert {name for name in functions if f"{name}(" not in PAGE} == set()
    assert {name for name in api.__all__ if not re.search(rf"\b{name}\b", PAGE)} - {"GroupValue"} == set()


@pytest.mark.parametrize(
    "name", ["products", "values", "group_values", "steps_made", "payloads", "runs", "groups", "campaigns"]
)
def test_the_page_has_all_arguments(name: str) -> None:
    (stated,) = re.findall(rf"^\| `{name}\((.*?)\)`", PAGE, re.M)
    wanted = list(inspect.signature(getattr(api, name)).parameters)
    assert [part.split("=")[0] for part in stated.split(", ") if part != "*"] == wanted


def test_its_records_are_frozen(busy: World) -> None:
    record_product(busy)
    listed: list[Any] = [*api.products(busy.ledger), *api.groups(busy.ledger), *api.runs(busy.ledger)]
    listed += [*api.campaigns(busy.ledger), *api.payloads(busy.ledger)]
    assert {type(item).__name__ for item in listed} == {
        "ProductRecord", "GroupRecord", "RunLine", "CampaignLine", "Payload"
    }  # fmt: skip
    for item in listed:
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            item.campaign = "x"


def test_it_imports_no_airflow() -> None:
    code = "import sys, airflow_calib_provider.api; print('airflow' in sys.modules, 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"


def test_the_examples_of_the_page_run(busy: World) -> None:
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(code.replace("355872", "2"), {})


def test_lists(busy: World, calib: Calib) -> None:
    record_product(busy)
    report(busy, "run-r2", "skim", "pairs", 10.0, 20.0)
    with api.open_ledger() as ledger:
        (product,) = api.products(ledger, 2, task="scale")
        assert product == api.products(ledger, "fill-r2", last=5)[0]
        assert str(product.path) == calib.json("products", "fill-r2")[0]["path"]
        assert [item.value for item in api.values(ledger, name="pairs")] == [10.0, 20.0]
        (point,) = api.group_values(ledger, name="pairs")
        assert (point.value, point.n, point.error) == (15.0, 2, None)
        assert [item.name for item in api.groups(ledger, workflow="demo")] == [
            item["name"] for item in calib.json("groups", "--workflow", "demo")
        ]
        (payload,) = api.payloads(ledger, "Scale")
        assert api.payload_path(payload).is_file()
        assert [item.state for item in api.check_products(ledger)] == [api.Found.SAME]


@pytest.mark.parametrize(
    "call",
    [
        lambda ledger: api.products(ledger, campaign="nope"),
        lambda ledger: api.products(ledger, "fill-r9"),
        lambda ledger: api.values(ledger, 4000),
        lambda ledger: api.group_values(ledger, workflow="nope"),
        lambda ledger: api.payloads(ledger, "Nope"),
        lambda ledger: api.runs(ledger, source="nope"),
        lambda ledger: list(api.check_products(ledger, task="nope")),
        lambda ledger: api.compare_campaigns(ledger, "prompt", "nope"),
    ],
)
def test_a_name_that_nothing_has(busy: World, call: Any) -> None:
    with pytest.raises(NotFound) as caught:
        call(busy.ledger)
    assert caught.value.hint


class TestCompare:
    @pytest.fixture
    def other(self, busy: World, calib: Calib) -> World:
        """A second campaign of the same groups: its values and payloads are to be compared."""
        report(busy, "run-r2", "skim", "pairs", 10.0, 20.0)
        report(busy, "run-r3", "skim", "pairs", 30.0)
        calib.plain("campaign", "create", "again", "--streamed")
        group, generation, payload = tables.run_group, tables.generation, tables.payload
        with busy.ledger.write() as connection:
            for old in connection.execute(group.select().where(group.c.name.in_(["run-r2", "fill-r2"]))).all():
                if old.workflow != "demo":
                    continue
                about = {k: v for k, v in old._mapping.items() if k != "id"}
                made = connection.execute(insert(group).values(**{**about, "campaign": "again"}))
                new = made.inserted_primary_key[0]
                of_task = generation.select().where(generation.c.group_id == old.id)
                for row in connection.execute(of_task).all():
                    copy = {k: v for k, v in row._mapping.items() if k != "id"}
                    done = connection.execute(insert(generation).values(**{**copy, "group_id": new}))
                    if old.name == "run-r2":
                        key = {"generation_id": done.inserted_primary_key[0], "step": 0, "job_index": 0}
                        connection.execute(insert(tables.value).values(**key, name="pairs", value=16.5))
                for row in connection.execute(payload.select().where(payload.c.group_id == old.id)).all():
                    copy = {k: v for k, v in row._mapping.items() if k != "id"}
                    more = {"campaign": "again", "group_id": new, "content_hash": "f" * 64}
                    connection.execute(insert(payload).values(**{**copy, **more}))
        return busy

    def test_values_and_payloads(self, other: World) -> None:
        found = api.compare_campaigns(other.ledger, "prompt", "again")
        assert [(pair.group, pair.first, pair.second, pair.difference) for pair in found.values] == [
            ("run-r2", 15.0, 16.5, 1.5),
            ("run-r3", 30.0, None, None),
        ]
        assert [(pair.tag, pair.first_run, pair.last_run, pair.state) for pair in found.payloads] == [
            ("Scale", 2, 3, "different")
        ]

    def test_as_people_see_it(self, other: World, calib: Calib, tmp_path: Path) -> None:
        text = calib.plain("campaign", "compare", "prompt", "again")
        (line,) = [line.split() for line in text.splitlines() if "pairs" in line]
        assert line == ["pairs", "demo.skim", "1", "15", "16.5", "1.5", "1.5", "(run-r2)", "0", "1", "0"]
        each = calib.plain("campaign", "compare", "again", "prompt", "--groups", "--value", "pairs")
        assert "-1.5" in each
        assert "different" in each
        file = tmp_path / "both.png"
        assert "drawn into" in calib.plain("campaign", "compare", "prompt", "again", "--plot", str(file))
        assert file.read_bytes().startswith(b"\x89PNG")
        found = calib.json("campaign", "compare", "prompt", "again", "--tag", "Scale")
        assert found["payloads"][0]["second"]["content_hash"] == "f" * 64

    def test_groups_of_other_runs_are_marked(self, other: World, calib: Calib) -> None:
        group = tables.run_group
        with other.ledger.write() as connection:
            here = (group.c.campaign == "again", group.c.name == "run-r2")
            connection.execute(update(group).where(*here).values(last_run=99))
        assert [pair.same_runs for pair in api.compare_campaigns(other.ledger, "prompt", "again").values] == [
            False,
            True,
        ]

    def test_with_itself(self, busy: World, calib: Calib) -> None:
        with pytest.raises(CalibError):
            api.compare_campaigns(busy.ledger, "prompt", "prompt")
        assert "compared with itself" in calib.fails("campaign", "compare", "prompt", "prompt", code=2)


def line(first: int, last: int, content: str) -> PublishedLine:
    return PublishedLine("T", first, last, 1, content, 1, f"g{first}")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([(1, 9, "a")], [(1, 9, "a")], [(1, 9, "same")]),
        ([(1, 9, "a")], [(1, 4, "a"), (5, 9, "b")], [(1, 4, "same"), (5, 9, "different")]),
        ([(1, 4, "a"), (7, 9, "a")], [(3, 8, "a")], [(1, 2, "only first"), (3, 4, "same"), (5, 6, "only second"),
                                                      (7, 8, "same"), (9, 9, "only first")]),
        ([(1, 2, "a")], [(5, 6, "b")], [(1, 2, "only first"), (5, 6, "only second")]),
        ([], [(5, 6, "b")], [(5, 6, "only second")]),
        ([], [], []),
    ],
)  # fmt: skip
def test_payloads_of_other_intervals(first: Any, second: Any, expected: Any) -> None:
    pieces = _pieces("T", [line(*one) for one in first], [line(*one) for one in second])
    assert [(piece.first_run, piece.last_run, piece.state) for piece in pieces] == expected


def point(value: float, error: float | None = None) -> GroupValue:
    return GroupValue("w", "t", "n", "g", 1, 1, None, 1, value, error)


@pytest.mark.parametrize(
    ("numbers", "error", "deviation"),
    [
        ([1.0] * 6, None, 0.0),
        ([1.0] * 5 + [2.0], None, float("inf")),
        ([1.0] * 5 + [0.0], 0.5, -2.0),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 2.0 + 3 * 1.4826], None, 3.0),
    ],
)
def test_deviation(numbers: list[float], error: float | None, deviation: float) -> None:
    *before, newest = numbers
    found = api.drift_of([*map(point, before), point(newest, error)])
    assert found is not None
    assert found.deviation == pytest.approx(deviation)
    assert api.drift_of([point(1.0)] * 5) is None


class TestDeciding:
    def test_why_a_group_waits_and_a_skip(self, busy: World, calib: Calib) -> None:
        (cause,) = [item for item in api.explain(busy.ledger, "fill-r4", task="scale") if item.code == "needs"]
        assert (cause.reason["done"], cause.campaign) == (1, "prompt")
        assert [item.code for item in api.explain(busy.ledger, 5, specs=busy.specs, task="scale")] == ["needs"]
        (skipped,) = api.skip_runs(busy.ledger, 5, reason=" magnet off ", person="ada", workflow="demo", task="skim")
        assert (skipped.workflow, skipped.task, skipped.runs) == ("demo", "skim", [5])
        assert "needs" not in {item.code for item in api.explain(busy.ledger, "fill-r4", task="scale")}
        (again,) = api.skip_runs(busy.ledger, "run-r5", reason="the same", workflow="demo", task="skim")
        assert again.runs == []

    @pytest.mark.parametrize(
        "call",
        [
            lambda ledger: api.explain(ledger, 77),
            lambda ledger: api.explain(ledger, "fill-r4", task="scael"),
            lambda ledger: api.explain(ledger, "fill-r4", source="daq"),
            lambda ledger: api.skip_runs(ledger, 77, reason="x"),
            lambda ledger: api.skip_runs(ledger, "fill-r4", reason="x", source="daq"),
            lambda ledger: api.skip_runs(ledger, 5, reason=" "),
            lambda ledger: api.record_runs(ledger, Path("workflow_specs"), Path("more.csv"), "daq"),
            lambda ledger: api.record_runs(ledger, Path("nowhere"), Path("more.csv"), "daq"),
        ],
    )
    def test_mistakes(self, busy: World, call: Any) -> None:
        with pytest.raises(CalibError):
            call(busy.ledger)

    def test_runs_by_hand(self, busy: World) -> None:
        file = busy.folder / "more.csv"
        file.write_text("number,start,end,completed,fill,lumi\n9,,,true,3,6.0\n2,,,true,1,7.0\n")
        found = api.record_runs(busy.ledger, busy.specs, file, "daq")
        assert (found.listed, found.new, found.changed) == (2, 1, 1)

    def test_a_file_with_mistakes_keeps_no_campaign_from_being_closed(self, busy: World) -> None:
        (busy.specs / "other.yaml").write_text("workflow: [")
        assert api.close_campaign(busy.ledger, busy.specs, "prompt") > 0
        with pytest.raises(CalibError, match="closed already"):
            api.close_campaign(busy.ledger, busy.specs, "prompt")
