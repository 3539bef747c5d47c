"""A large assignment is written in parts: whatever their size, and wherever it dies between two of them, the groups are
the same, and nothing of a finite campaign opens before the last."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from airflow_calib_provider.injection import assigning, ended
from airflow_calib_provider.injection.inject import close_campaign
from airflow_calib_provider.ledger import campaigns, edited_specs, runs, skips, tables
from airflow_calib_provider.ledger.explain import Scope, explain_group
from tests.injection.test_inject import World
from tests.ledger.making import RUN, count, counted, fill, group_ids, new_ledger, nightly, task, total, workflow

POLICIES = [RUN, fill(50, short="next"), fill(50, short="drop"), total(70), total(70, tail="previous"), total(1e6)]
POLICIES += [
    counted(4, at_most={"lumi_pb": 60.0}, break_on=("fill",)),
    counted(3, minimum={"lumi_pb": 55.0}, short="next", tail="previous"),
    nightly(every=8, minimum={"lumi_pb": 100.0}, short="next", break_after=timedelta(hours=2), tail="previous"),
    nightly(every=5 * 24, minimum={"lumi_pb": 900.0}, short="drop"),
]
LISTED = [{"number": n, "fill": n // 3, "lumi_pb": None if n % 13 == 0 else 15.0 + n % 4} for n in range(1, 42)]


class Died(BaseException):
    """Instead of a death between two transactions."""


def shape(world: World, campaign: str) -> dict[str, Any]:
    """Members and groups, with what was recorded of each."""
    table = tables.run_group
    with world.ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.campaign == campaign).order_by(table.c.first_run)).all()
    names = (
        "name",
        "first_run",
        "last_run",
        "state",
        "amounts",
        "fills",
        "start",
        "end",
        "open_reason",
        "close_reason",
    )
    found = [{name: getattr(row, name) for name in names} for row in rows]
    labels = sorted({row.grouping for row in rows})
    return {"groups": found, **{label: world.members(label, campaign=campaign) for label in labels}}


def injected(folder: Path, policy: Any, at_once: int, deaths: set[int], finite: bool) -> dict[str, Any]:
    """What a history of injections makes, each of which dies after so many transactions."""
    folder.mkdir()
    world = World(new_ledger(folder), folder)
    flow = workflow("ecal", task("fit", policy), task("skim"))
    campaign = "again" if finite else "prompt"
    with world.ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        if finite:
            campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 42)})
    world.runs(*LISTED)
    seen = 0

    def point(name: str, scope: str = "") -> None:
        nonlocal seen
        seen += name == "inject.after_commit"
        if name == "inject.after_commit" and seen in deaths:
            assert not finite or not count(world.ledger, tables.dag_run_request)
            raise Died

    with pytest.MonkeyPatch.context() as patched:
        for module in (assigning, ended):
            patched.setattr(module, "AT_ONCE", at_once)
            patched.setattr(module, "crash_point", point)
        for _ in range(len(deaths) + 1):
            try:
                report = world.inject(flow, now=world.now, campaign=campaign)
            except Died:
                continue
            assert report.errors == []
    again = world.inject(flow, now=world.now, campaign=campaign)
    assert (again.assigned, again.groups_closed) == (0, 0)
    return shape(world, campaign)


@cache
def injected_at_once(policy: int, finite: bool) -> dict[str, Any]:
    """What one transaction makes."""
    with TemporaryDirectory() as folder:
        return injected(Path(folder, "whole"), POLICIES[policy], 1000, set(), finite)


@given(
    policy=st.sampled_from(POLICIES),
    at_once=st.integers(1, 45),
    deaths=st.sets(st.integers(1, 20), max_size=3),
    finite=st.booleans(),
)
@settings(max_examples=15)
def test_any_division_gives_the_same_groups(
    tmp_path_factory: Any, policy: Any, at_once: int, deaths: set[int], finite: bool
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    whole = deepcopy(injected_at_once(POLICIES.index(policy), finite))
    parts = injected(folder / "parts", policy, at_once, deaths, finite)
    assert parts == whole


def die_after_ten_runs(world: World, flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An injection into the campaign ``again`` that dies behind its first part."""

    def die(name: str, scope: str = "") -> None:
        if name == "inject.after_commit":
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(assigning, "AT_ONCE", 10)
        patched.setattr(assigning, "crash_point", die)
        with pytest.raises(Died):
            world.inject(flow, campaign="again")


def test_nothing_of_a_finite_campaign_opens_before_it_is_grouped_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    flow = workflow("ecal", task("skim"), task("scale", total(70)))
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 42)})
    world.runs(*LISTED)
    die_after_ten_runs(world, flow, monkeypatch)
    assert len(group_ids(world.ledger, "run", campaign="again")) == 10
    world.inject(campaign="again")  # by which another workflow, or none, is injected
    assert count(world.ledger, tables.dag_run_request) == 0
    assert count(world.ledger, tables.campaign, tables.campaign.c.state == "grouping") == 1
    world.inject(flow, campaign="again")
    assert count(world.ledger, tables.campaign, tables.campaign.c.state == "grouping") == 0
    assert len(group_ids(world.ledger, "run", campaign="again")) == 41
    assert count(world.ledger, tables.dag_run_request) > 0


def test_what_is_closed_half_grouped_never_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    flow = workflow("ecal", task("scale", total(70)))
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 42)})
    world.runs(*LISTED)
    die_after_ten_runs(world, flow, monkeypatch)
    close_campaign(world.ledger, {"ecal": flow}, "again", world.now)
    world.inject(flow)
    assert count(world.ledger, tables.dag_run_request, tables.dag_run_request.c.run_id.startswith("again")) == 0
    assert len(group_ids(world.ledger, "sum", campaign="again")) > 1, "what was written stays"
    with world.ledger.read() as connection:
        found = explain_group(connection, Scope("again", now=world.now), "sum-r1")
    assert [cause.reason["code"] for cause in found.causes] == ["campaign_closed", "campaign_half_grouped"]


def test_an_injection_that_is_outrun_decides_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    flow = workflow("ecal", task("scale", total(70)))
    world.runs(*LISTED)
    outrun = []

    def other(name: str, scope: str = "") -> None:
        if name == "inject.after_commit" and not outrun:
            outrun.append(name)
            assert world.inject(flow).errors == []

    monkeypatch.setattr(assigning, "AT_ONCE", 10)
    monkeypatch.setattr(assigning, "crash_point", other)
    assert world.inject(flow).errors == []
    parts = shape(world, "prompt")
    (tmp_path / "alone").mkdir()
    alone = World(new_ledger(tmp_path / "alone"), tmp_path)
    alone.inject(flow)
    assert {key: value for key, value in parts.items() if key != "groups"} == {
        key: value for key, value in shape(alone, "prompt").items() if key != "groups"
    }


def test_an_edit_is_followed_some_groups_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    world.runs(*range(1, 30))
    world.inject(workflow("ecal", task("skim")))
    monkeypatch.setattr(edited_specs, "AT_ONCE", 7)
    edited = workflow("ecal", task("skim"), task("check", needs=["ecal.skim"]))
    world.inject(edited)
    assert {tuple(sorted(tasks)) for tasks in world.tasks().values()} == {("check", "skim")}
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [3], reason="x", person="ada", now=world.now)
    assert world.inject(edited).errors == []


def test_a_long_listing_is_recorded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    flow = workflow("ecal", task("skim"))
    monkeypatch.setattr(runs, "AT_ONCE", 5)
    world.runs(*range(1, 30))
    assert world.inject(flow).new_runs == 29
    world.runs(*({"number": n, "lumi_pb": 1.5 + n} for n in range(1, 40)))
    report = world.inject(flow)
    assert (report.new_runs, report.changed_runs) == (10, 29)
    again = world.inject(flow)
    assert (again.new_runs, again.changed_runs) == (0, 0)
    listed = select(tables.run.c.number).where(tables.run.c.listed)
    with world.ledger.read() as connection:
        assert len(connection.execute(listed).all()) == 39


@pytest.mark.parametrize(("at_once", "deaths"), [(1, {39}), (1, {37, 40}), (3, {13}), (20, {2})])
def test_an_injection_that_goes_on_knows_which_runs_had_joined_as_a_tail(
    tmp_path: Path, at_once: int, deaths: set[int]
) -> None:
    policy = total(70, tail="previous")
    whole = injected(tmp_path / "whole", policy, 1000, set(), finite=True)
    last = [group for group in whole["groups"] if group["name"].startswith("sum")][-1]["close_reason"]
    assert (last["code"], last["rule"]) == ("tail", "previous")
    assert injected(tmp_path / "parts", policy, at_once, deaths, finite=True) == whole


def test_a_large_group_is_dropped_in_parts_and_a_death_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "AT_ONCE", 4)
    flow = workflow("ecal", task("scale", total(1e6, tail="drop")))
    world = World(new_ledger(tmp_path), tmp_path)
    world.runs(*range(1, 20))
    world.inject(flow)

    def die(name: str, scope: str = "") -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(ended, "crash_point", die)
        with pytest.raises(Died):
            close_campaign(world.ledger, {"ecal": flow}, "prompt", world.now)
    dropped = tables.membership.c.state == "dropped"
    assert count(world.ledger, tables.membership, dropped) == 4
    assert count(world.ledger, tables.run_group, tables.run_group.c.state == "forming") == 1
    world.runs(*range(1, 22))
    world.inject(flow)
    assert group_ids(world.ledger, "sum").keys() == {"sum-r1"}, "what comes meanwhile is taken as before"
    assert close_campaign(world.ledger, {"ecal": flow}, "prompt", world.now) == 1
    assert count(world.ledger, tables.membership, dropped) == 21
    assert world.tasks("sum") == {"sum-r1": {"scale": "skipped"}}


def test_one_workflow_that_waits_for_its_runs_keeps_the_others_from_opening(tmp_path: Path) -> None:
    world = World(new_ledger(tmp_path), tmp_path)
    flows = (workflow("ecal", task("skim")), workflow("hcal", task("skim")))
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 2]})
    world.runs(1, {"number": 2, "end": None, "completed": "false"})
    world.inject(*flows, campaign="again")
    with world.ledger.write() as connection:
        skips.add(connection, "again", "ecal", [2], reason="x", person="ada", now=world.now)
    world.inject(*flows, campaign="again")
    assert list(group_ids(world.ledger, "run", "ecal", "again")) == ["run-r1"], "it is grouped"
    assert count(world.ledger, tables.dag_run_request) == 0
    world.runs(1, 2)
    world.inject(*flows, campaign="again")
    assert count(world.ledger, tables.dag_run_request) == 3
