"""Runs that arrive late form groups among themselves, if the spec says so (rule 50)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.injection import assigning, ended
from airflow_calib_provider.injection.inject import InjectionReport, close_campaign
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.injection.test_inject import World
from tests.injection.test_parts import Died
from tests.ledger.making import RUN, fill, new_ledger, task, total, workflow

EACH = RUN.model_copy(update={"late_runs": "new_group"})
FILL = fill(50, short="next", late_runs="new_group")
FLOW = workflow("ecal", task("skim", EACH), task("scale", FILL, needs=["ecal.skim@run"]))


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


def groups_of(world: World, label: str) -> dict[str, tuple[list[int], str, bool, Any]]:
    """Group → its runs, its state, whether it is late, and why it closed."""
    table, member = tables.run_group, tables.membership
    with world.ledger.read() as connection:
        rows = connection.execute(select(table).where(table.c.grouping == label).order_by(table.c.first_run)).all()
        runs = connection.execute(select(member.c.group_id, member.c.run).order_by(member.c.run)).all()
    return {
        row.name: (
            [run for group_id, run in runs if group_id == row.id],
            row.state,
            row.late,
            row.close_reason and row.close_reason["code"],
        )
        for row in rows
    }


def test_late_runs_of_one_injection_are_groups_of_their_own(world: World) -> None:
    world.runs(1, 4, 8, 12)
    world.inject(FLOW)
    assert world.members("fill") == {1: "fill-r1", 4: "fill-r1", 8: "fill-r1", 12: "fill-r12"}
    world.runs(1, 2, 4, 5, 6, 7, 8, 9, 12, 13)
    report = world.inject(FLOW)
    assert (report.late, report.errors) == (2 * 5, [])
    assert groups_of(world, "fill") == {
        "fill-r1": ([1, 4, 8], "closed", False, "later_fill"),
        # Fill 0 has too little alone, so that it is joined by the next one; fill 2 is the last.
        "fill-r2": ([2, 5, 6, 7], "closed", True, "later_fill"),
        "fill-r9": ([9], "closed", True, "tail"),
        "fill-r12": ([12, 13], "forming", False, None),
    }
    assert {name: late for name, (_, _, late, _) in groups_of(world, "run").items() if late} == {
        f"run-r{run}": True for run in (2, 5, 6, 7, 9)
    }
    assert world.inject(FLOW) == InjectionReport()
    # Those of the next injection are among themselves, too.
    world.runs(*range(1, 14))
    world.inject(FLOW)
    assert groups_of(world, "fill")["fill-r3"] == ([3, 10, 11], "closed", True, "last_fill")
    assert {name for name, found in groups_of(world, "fill").items() if found[2]} == {"fill-r2", "fill-r3", "fill-r9"}


def test_the_reason_stays_with_the_run(world: World) -> None:
    world.runs(1, 5)
    world.inject(FLOW)
    world.runs(1, 2, {"number": 3, "lumi_pb": None}, 5)
    world.inject(FLOW)
    assert world.members("fill") == {1: "fill-r1", 2: "fill-r2", 3: "refused field_missing", 5: "fill-r1"}
    with world.ledger.read() as connection:
        member = tables.membership
        reason = connection.execute(select(member.c.reason).where(member.c.run == 2, member.c.grouping == "fill"))
    assert reason.scalar() == {"code": "late", "assigned_below": 6}


def test_a_short_group_of_late_runs_is_dropped_where_short_ones_are(world: World) -> None:
    flow = workflow("ecal", task("scale", fill(50, short="drop", late_runs="new_group")))
    world.runs(1, 9)
    world.inject(flow)
    world.runs(1, 4, 5, 6, 8, 9)
    world.inject(flow)
    assert {name: found[1:3] for name, found in groups_of(world, "fill").items()} == {
        "fill-r1": ("dropped", False),
        "fill-r4": ("closed", True),
        "fill-r8": ("dropped", True),
        "fill-r9": ("forming", False),
    }
    assert world.members("fill")[8] == "dropped dropped"


def test_what_was_late_before_the_key_was_there_stays_late(world: World) -> None:
    flow = workflow("ecal", task("skim"))
    world.runs(1, 4)
    world.inject(flow)
    world.runs(1, 2, 4)
    world.inject(flow)
    world.runs(1, 2, 3, 4)
    world.inject(workflow("ecal", task("skim", EACH)))
    assert world.members() == {1: "run-r1", 2: "late late", 3: "run-r3", 4: "run-r4"}


POLICIES = [
    EACH,
    FILL,
    fill(50, short="drop", late_runs="new_group"),
    total(70, late_runs="new_group"),
    total(1e6, tail="drop", late_runs="new_group"),
]


def injected(folder: Path, policy: Grouping, first: set[int], at_once: int, deaths: set[int]) -> dict[str, Any]:
    """What two injections make, of which the second brings what the first did not list, and dies now and then."""
    folder.mkdir()
    world = World(new_ledger(folder), folder)
    flow = workflow("ecal", task("fit", policy))
    world.runs(*sorted(first))
    world.inject(flow, now=world.now)
    world.runs(*range(1, 31))
    seen = 0

    def point(name: str, scope: str = "") -> None:
        nonlocal seen
        seen += name == "inject.after_commit"
        if name == "inject.after_commit" and seen in deaths:
            raise Died

    with pytest.MonkeyPatch.context() as patched:
        for module in (assigning, ended):
            patched.setattr(module, "AT_ONCE", at_once)
            patched.setattr(module, "crash_point", point)
        for _ in range(len(deaths) + 1):
            try:
                assert world.inject(flow, now=world.now).errors == []
            except Died:
                continue
    assert world.inject(flow, now=world.now) == InjectionReport()
    found = groups_of(world, policy.label)
    members = world.members(policy.label)
    world.ledger.close()
    return {"groups": found, "members": members}


@given(
    policy=st.sampled_from(POLICIES),
    first=st.sets(st.integers(1, 30), min_size=1),
    at_once=st.integers(1, 31),
    deaths=st.sets(st.integers(1, 12), max_size=3),
)
@settings(max_examples=12, deadline=None)
def test_wherever_it_dies_the_groups_are_the_same(
    tmp_path_factory: Any, policy: Grouping, first: set[int], at_once: int, deaths: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("late")
    whole = injected(folder / "whole", policy, first, 1_000, set())
    assert injected(folder / "parts", policy, first, at_once, deaths) == whole
    # Each run is in one place, late groups hold late runs only, and none of them is left forming.
    assert set(whole["members"]) == set(range(1, 31))
    below = max(first)
    for runs, state, late, _ in whole["groups"].values():
        assert not (late and state == "forming")
        assert all(late == (run not in first and run < below) for run in runs)


def test_a_campaign_that_is_closed_over_a_half_written_group_closes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = workflow("ecal", task("fit", total(1e6, late_runs="new_group")))
    world.runs(1, 9)
    world.inject(flow)
    world.runs(*range(1, 10))

    def die(name: str, scope: str = "") -> None:
        if name == "inject.after_commit":
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(assigning, "AT_ONCE", 3)
        patched.setattr(assigning, "crash_point", die)
        with pytest.raises(Died):
            world.inject(flow)
    assert groups_of(world, "sum")["sum-r2"][:3] == ([2, 3, 4], "forming", True)
    close_campaign(world.ledger, {"ecal": flow}, "prompt", world.now)
    assert {found[1] for found in groups_of(world, "sum").values()} == {"closed"}
