"""Groups between given runs, whose list is data, read at every injection, also for a forming group (rule 47)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.injection import assigning, ended
from airflow_calib_provider.injection.bringing import bring_in
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.spec.models import Workflow
from tests.injection.test_inject import World
from tests.ledger.making import SOURCE, new_ledger, task, workflow


class Died(BaseException):
    """Instead of a death between two transactions."""


def between(*runs: int, **options: Any) -> Grouping:
    return Grouping(kind="boundaries", label="period", options={"first_runs": list(runs)}, **options)


def flow(policy: Grouping, folder: Path = Path("/nowhere")) -> Workflow:
    return workflow("ecal", task("fit", policy), task("skim"), text=str(policy), file=str(folder / "w.yaml"))


def periods(world: World) -> list[tuple[str, str, int, dict[str, float], Any]]:
    table = tables.run_group
    with world.ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.grouping == "period").order_by(table.c.first_run)).all()
    return [(row.name, row.state, row.last_run, row.amounts, (row.close_reason or {}).get("code")) for row in rows]


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


def test_a_group_closes_when_the_runs_before_the_next_boundary_are_complete(world: World) -> None:
    world.runs(*range(8, 16))
    world.inject(flow(between(10, 13, 16)))
    found = [one[:3] for one in periods(world)]
    assert found == [("period-r10", "closed", 12), ("period-r13", "closed", 15)]
    assert world.members("period")[8] == "refused before_boundaries"
    world.runs(*range(8, 18))
    world.inject(flow(between(10, 13, 16)))
    assert periods(world)[-1][:2] == ("period-r16", "forming")


def test_a_new_boundary_parts_the_group_that_is_forming(world: World) -> None:
    world.runs(*range(1, 11))
    world.inject(flow(between(1, minimum={"lumi_pb": 1.0})))
    assert [one[:3] for one in periods(world)] == [("period-r1", "forming", 10)]
    report = world.inject(flow(between(1, 7, minimum={"lumi_pb": 1.0})))
    assert report.errors == []
    assert periods(world) == [
        ("period-r1", "closed", 6, {"lumi_pb": 120.0}, "boundary"),
        ("period-r7", "forming", 10, {"lumi_pb": 80.0}, None),
    ]
    assert world.members("period") == {run: "period-r1" if run < 7 else "period-r7" for run in range(1, 11)}
    again = world.inject(flow(between(1, 7, minimum={"lumi_pb": 1.0})))
    assert (again.assigned, again.groups_opened, again.errors) == (0, 0, [])


def test_a_boundary_that_would_cut_a_closed_group_is_named_and_all_else_goes_on(world: World) -> None:
    world.runs(*range(1, 11))
    world.inject(flow(between(1, 7)))
    world.runs(*range(1, 13))
    wrong = flow(between(1, 4, 7))
    other = workflow("muon", task("fit", between(1, 4)))
    report = world.inject(wrong, other)
    (said,) = report.errors
    assert "the boundary 4 of period would cut the closed group period-r1, of runs 1–6" in said
    assert world.members("run")[12] == "run-r12", "the other grouping of this workflow goes on"
    assert 12 not in world.members("period")
    assert world.members("period", flow="muon")[12] == "period-r4"
    with world.ledger.read() as connection:
        found = explain_run(connection, Scope("prompt", world.now, specs={"ecal": wrong, "muon": other}), 12)
    assert [cause.text for cause in found.causes if cause.code == "boundary_cuts"]
    world.inject(flow(between(1, 7)), other)
    assert world.members("period")[12] == "period-r7"


def test_boundaries_of_a_file_are_read_at_every_injection(world: World, tmp_path: Path) -> None:
    file = tmp_path / "periods.csv"
    policy = Grouping(kind="boundaries", label="period", options={"file": "periods.csv", "column": "first_run"})
    spec = flow(policy, tmp_path)
    file.write_text("first_run,name\n1,A\n")
    world.runs(*range(1, 11))
    assert world.inject(spec).errors == []
    file.write_text("first_run,name\n1,A\n5,B\n")
    world.inject(spec)
    assert [one[:3] for one in periods(world)] == [("period-r1", "closed", 4), ("period-r5", "forming", 10)]
    with world.ledger.read() as connection:
        rows = connection.execute(select(tables.run_group).where(tables.run_group.c.grouping == "period")).all()
    digests = [row.open_reason["sha256"] for row in rows]
    assert len(set(digests)) == 2
    assert all("first_runs" not in row.policy["options"] for row in rows)
    for text, said in (
        ("first_run\n1\n1\n", "periods.csv:3:0: 1 comes after 1"),
        ("first_run\nx\n", "periods.csv:2:0: 'x' is no run number"),
        ("run\n1\n", "periods.csv:1:0: it has no column 'first_run'"),
        ("first_run\n", "periods.csv:0:0: it has no boundaries"),
    ):
        file.write_text(text)
        world.runs(*range(1, 12))
        (error,) = world.inject(spec).errors
        assert said in error
    file.unlink()
    (error,) = world.inject(spec).errors
    assert "periods.csv:0:0: the boundaries cannot be read: No such file or directory" in error
    assert 11 not in world.members("period")
    assert world.members("run")[11] == "run-r11"
    with world.ledger.read() as connection:
        found = explain_run(connection, Scope("prompt", world.now, specs={"ecal": spec}), 11)
    assert any("cannot be read" in cause.text for cause in found.causes if cause.code == "not_read")


def test_a_grouping_that_has_no_boundaries_any_more_goes_on_with_its_new_kind(world: World) -> None:
    world.runs(*range(1, 8))
    world.inject(flow(between(1, 4)))
    edited = flow(Grouping(kind="count", label="period", options={"runs": 2}))
    world.inject(edited)
    assert [one[:3] for one in periods(world)] == [("period-r1", "closed", 3), ("period-r4", "closed", 7)]
    world.runs(*range(1, 11))
    world.inject(edited)
    assert [(one[0], one[1], one[4]) for one in periods(world)[1:]] == [
        ("period-r4", "closed", "regrouped"),
        ("period-r8", "closed", "counted"),
        ("period-r10", "forming", None),
    ]
    assert world.inject(edited).errors == []


def test_a_backfill_groups_late_runs_between_the_boundaries_of_the_file(world: World, tmp_path: Path) -> None:
    options = {"file": "periods.csv", "column": "first_run"}
    (tmp_path / "periods.csv").write_text("first_run\n1\n3\n6\n")
    early = flow(Grouping(kind="boundaries", label="period", options=options), tmp_path)
    world.runs(1, 7)
    world.inject(early)
    world.runs(1, 2, 4, 5, 7)
    world.inject(early)
    assert world.members("period")[4] == "late late"
    now = flow(Grouping(kind="boundaries", label="period", options=options, late_runs="new_group"), tmp_path)
    assert bring_in(world.ledger, "prompt", now, SOURCE, [2, 4, 5], world.now).grouped == {2, 4, 5}
    groups = {1: "period-r1", 2: "period-r2", 4: "period-r4", 5: "period-r4", 7: "period-r7"}
    assert world.members("period") == groups
    assert world.inject(now).errors == []


def test_a_campaign_that_is_grouped_follows_no_boundaries_any_more(world: World, tmp_path: Path) -> None:
    file = tmp_path / "periods.csv"
    options = {"file": "periods.csv", "column": "first_run"}
    spec = flow(Grouping(kind="boundaries", label="period", options=options), tmp_path)
    world.runs(*range(1, 8))
    with world.ledger.write() as connection:
        campaigns.create(
            connection, "c", kind="finite", runs={"daq": list(range(1, 6))}, spec_hashes={"ecal": spec.hash}
        )
    (error, of_it) = world.inject(spec).errors
    assert "in campaign prompt: " in error
    assert "in campaign c: " in of_it
    file.write_text("first_run\n1\n4\n")
    assert world.inject(spec).errors == []
    for text in ("first_run\n1\n3\n4\n", "first_run\n"):
        file.write_text(text)
        (error,) = world.inject(spec).errors
        assert "in campaign prompt: " in error
    assert world.members("period", campaign="c")[5] == "period-r4"


def test_a_short_group_goes_on_beyond_a_boundary_which_does_not_cut_it_then(world: World) -> None:
    policy = between(1, 3, 6, minimum={"lumi_pb": 70.0}, short="next")
    world.runs(*range(1, 8))
    world.inject(flow(policy))
    assert [one[:3] for one in periods(world)] == [("period-r1", "closed", 5), ("period-r6", "forming", 7)]
    assert world.inject(flow(policy)).errors == []


def test_a_short_group_that_is_parted_still_knows_the_boundaries_that_it_has_gone_beyond(world: World) -> None:
    short: dict[str, Any] = {"minimum": {"lumi_pb": 90.0}, "short": "next"}
    world.runs(*range(1, 8))
    world.inject(flow(between(1, 4, **short)))
    assert [one[:3] for one in periods(world)] == [("period-r1", "forming", 7)]
    closed = [("period-r1", "closed", 5), ("period-r6", "forming", 8)]
    for last in (8, 9):
        world.runs(*range(1, last + 1))
        assert world.inject(flow(between(1, 4, 6, **short))).errors == []
        assert [one[:2] for one in periods(world)] == [one[:2] for one in closed]
    with world.ledger.read() as connection:
        marks = connection.execute(select(tables.run_group.c.marks).where(tables.run_group.c.name == "period-r1"))
        assert marks.scalar_one() == {"absorbed": [4]}


def test_many_boundaries_cost_no_more_than_few() -> None:
    class Counting(list[int]):
        looked = 0

        def __getitem__(self, place: Any) -> Any:
            Counting.looked += 1
            return super().__getitem__(place)

        def __iter__(self) -> Any:
            raise AssertionError("all boundaries are gone through")

    policy = between(1)
    policy.options["first_runs"] = Counting(range(1, 2_000_000, 10))
    group = GroupDraft(policy, first_run=1)
    for number in (1, 5, 25, 500_000):
        policy.rules.before(group, RunFacts(number, None, None, {}))
        policy.rules.took(group, RunFacts(number, None, None, {}))
        group.last_run = number
        policy.rules.cut(GroupDraft(policy, first_run=1, last_run=5), policy)
    assert len(group.marks["absorbed"]) == 49_999  # type: ignore[arg-type]
    assert Counting.looked < 500


@given(
    first=st.sets(st.integers(2, 20), max_size=3),
    more=st.sets(st.integers(2, 20), max_size=3),
    until=st.integers(1, 14),
    deaths=st.sets(st.integers(1, 8), max_size=2),
    least=st.sampled_from([0.0, 50.0, 90.0]),
)
@settings(max_examples=8, deadline=None)
def test_boundaries_that_come_later_give_the_groups_of_those_that_were_there_before(
    tmp_path_factory: Any, first: set[int], more: set[int], until: int, deaths: set[int], least: float
) -> None:
    """Unless they would cut a closed group; wherever an injection dies between two of its transactions."""
    folder = tmp_path_factory.mktemp("cut")
    short: dict[str, Any] = {"minimum": {"lumi_pb": least}, "short": "next"} if least else {}
    late, known = World(new_ledger(folder), folder), flow(between(1, *sorted(first | more), **short))
    late.runs(*range(1, until + 1))
    late.inject(flow(between(1, *sorted(first), **short)))
    late.runs(*range(1, 16))
    seen = 0

    def point(name: str, scope: str = "") -> None:
        nonlocal seen
        seen += name == "inject.after_commit"
        if name == "inject.after_commit" and seen in deaths:
            raise Died

    with pytest.MonkeyPatch.context() as patched:
        for module in (assigning, ended):
            patched.setattr(module, "AT_ONCE", 4)
            patched.setattr(module, "crash_point", point)
        for _ in range(len(deaths) + 1):
            try:
                report = late.inject(known)
            except Died:
                continue
    other = tmp_path_factory.mktemp("known")
    early = World(new_ledger(other), other)
    early.runs(*range(1, 16))
    inject(early.ledger, {"ecal": known}, {"daq": SOURCE}, other, now=early.now)
    if report.errors:
        assert "would cut the closed group" in report.errors[0]
    else:
        assert late.members("period") == early.members("period")
        assert periods(late) == periods(early)
    for world in (late, early):
        world.ledger.close()
