"""Plans of campaigns to be, of sources without a ledger, and how long locks are shut."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import campaigns, generations, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning.plans import PlanBasis, PlanSpecs, basis_of, plan_on
from airflow_calib_provider.planning.records import PlannedLock, PlanRequest, SpecPlan
from airflow_calib_provider.spec.models import Lock, Workflow
from tests.ledger.making import (
    SOURCE,
    T0,
    done,
    enough,
    fill,
    group_ids,
    new_ledger,
    task,
    total,
    workflow,
    write_runs,
)
from tests.planning.test_replay import Detector, decisions_in, decisions_of, groups_in, groups_of

HOUR = timedelta(hours=1)
NOW = T0 + timedelta(days=100)


def plan_of(
    flows: Mapping[str, Workflow], folder: Path, ledger: Ledger | None = None, now: datetime = NOW, **wanted: Any
) -> SpecPlan:
    specs = PlanSpecs(flows, {"daq": SOURCE})
    basis: PlanBasis = basis_of(ledger, specs, [specs], PlanRequest(folder, **wanted), now)
    return plan_on(specs, wanted.get("workflows") or list(flows), basis, now)


def named(*flows: Workflow) -> dict[str, Workflow]:
    return {flow.name: flow for flow in flows}


@pytest.mark.parametrize("seed", range(20, 24))
def test_the_plan_of_a_campaign_to_be_is_what_becomes_of_it(seed: int, tmp_path: Path) -> None:
    detector = Detector(seed)
    flows = detector.workflows()
    flows["mu"] = workflow("mu", task("align", total(60, tail="previous")))
    write_runs(tmp_path / "runs.csv", detector.listed(10**7))
    members = [number for number in range(3, 19) if number not in (7, 8)]
    plan = plan_of(flows, tmp_path, runs="3-6,9-18", finite=True)
    with new_ledger(tmp_path) as ledger:
        with ledger.write() as connection:
            campaigns.create(connection, "again", kind="finite", runs={"daq": members})
        inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=NOW, campaign="again")
        assert decisions_of(plan) == decisions_in(ledger)
        assert groups_of(plan) == groups_in(ledger)
        assert plan.groups
        assert groups_of(plan_of(flows, tmp_path, ledger, runs="3-6,9-18", finite=True)) == groups_of(plan)


def test_a_campaign_waits_for_its_incomplete_runs(tmp_path: Path) -> None:
    rows = [{"number": n} for n in (1, 2)] + [{"number": 3, "completed": "false", "end": None}, {"number": 4}]
    write_runs(tmp_path / "runs.csv", rows)
    plan = plan_of(named(workflow("ecal", task("skim"))), tmp_path, finite=True)
    assert (plan.groups, plan.groupings[0].waits_for) == ([], (3,))
    without = plan_of(named(workflow("ecal", task("skim"))), tmp_path, finite=True, runs="1-2,4")
    assert [group.name for group in without.groups] == ["run-r1", "run-r2", "run-r4"]


def test_a_grouping_that_waits_for_values_is_planned_as_far_as_they_are_known(tmp_path: Path) -> None:
    flows = named(workflow("muon", task("select"), task("scale", enough("sum.pairs >= 100.0"))))
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(1, 6)])
    of_source = next(one for one in plan_of(flows, tmp_path).groupings if one.grouping == "until")
    assert (of_source.unknown, list(of_source.groups)) == (1, [])
    with new_ledger(tmp_path) as ledger:
        inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=NOW)
        later = NOW + HOUR
        for run in (1, 2, 3, 5):
            done(ledger, group_ids(ledger, "run")[f"run-r{run}"], "select", {"pairs": 60.0}, at=later)
        inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=later)
        plan = plan_of(flows, tmp_path, ledger, now=later)
        assert decisions_of(plan) == decisions_in(ledger)
        assert groups_of(plan) == groups_in(ledger)
        planned = next(one for one in plan.groupings if one.grouping == "until")
        assert (planned.unknown, [one.name for one in planned.groups]) == (4, ["until-r1", "until-r3"])
        again = plan_of(flows, tmp_path, ledger, finite=True)
        assert next(one for one in again.groupings if one.grouping == "until").unknown == 1, "its own are to be made"


def test_runs_of_a_source_are_known_from_their_start_and_completed_from_their_end(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, 13)])
    plan = plan_of(named(workflow("ecal", task("scale", fill(max_wait=3 * HOUR)))), tmp_path)
    ended = [T0 + timedelta(hours=number, minutes=50) for number in range(13)]
    found = [
        (one.name, len(one.runs), one.opened_at, one.closed_at, one.reason and one.reason["code"])
        for one in plan.groups
    ]
    assert found == [
        ("fill-r4", 4, ended[4], ended[8], "later_fill"),
        ("fill-r8", 4, ended[8], ended[12], "later_fill"),
        ("fill-r12", 1, ended[12], ended[12] + 3 * HOUR, "max_wait"),
    ]


def test_runs_without_times_are_known_with_the_one_before(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"number": 1}, {"number": 2, "start": None, "end": None}, {"number": 3, "end": None}]
    write_runs(tmp_path / "runs.csv", rows)
    plan = plan_of(named(workflow("ecal", task("skim"))), tmp_path)
    assert [one.opened_at for one in plan.groups] == [T0 + timedelta(minutes=110)] * 2 + [T0 + 3 * HOUR]
    write_runs(tmp_path / "runs.csv", [{"number": 1, "start": None, "end": None}])
    assert [one.opened_at for one in plan_of(named(workflow("ecal", task("skim"))), tmp_path).groups] == [NOW]


ECAL = workflow(
    "ecal", task("skim"), task("scale", fill(), needs=["ecal.skim@run"]), task("deliver", fill(), publish="S")
)
LASER = workflow("laser", task("watch", payloads=["S"]), task("check", needs=["ecal.scale@fill"]))


def locks_of(plan: SpecPlan, flow: str) -> dict[tuple[int, str], PlannedLock]:
    return {(one.runs[0], lock.what): lock for one in plan.groups if one.workflow == flow for lock in one.locks}


def test_a_lock_is_shut_until_what_it_waits_for_could_begin(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, 10)])
    plan = plan_of(named(ECAL, LASER), tmp_path, workflows=["laser"])
    assert {group.workflow for group in plan.groups} == {"laser"}
    locks = locks_of(plan, "laser")
    for what in ("S", "ecal.scale"):
        # Fill 1 closes when run 8 ends.
        assert (locks[5, what].state, locks[5, what].basis, locks[5, what].shut_for) == ("opens", "planned", 3 * HOUR)
    assert (locks[9, "ecal.scale"].state, locks[9, "ecal.scale"].missing[0][0]) == ("shut", 9)
    assert locks[9, "S"].missing == ((9, "no payload would be there yet"),)


def test_what_late_groups_publish_opens_nothing(tmp_path: Path, database: str) -> None:
    """A late run is covered by the payload of the group in whose interval it lies; alone it would have a candidate."""
    late = fill(late_runs="new_group")
    each = Grouping(kind="run", label="run", late_runs="new_group")
    ecal = workflow("ecal", task("scale", late), task("deliver", late, publish="S"))
    laser = workflow("laser", task("watch", each, payloads=["S"]), task("check", each, needs=["ecal.deliver@fill"]))
    flows, runs = named(ecal, laser), [4, 6, 7, 12, 16]
    with new_ledger(tmp_path) as ledger:
        for listed in (runs, sorted([*runs, 5, 9])):
            write_runs(tmp_path / "runs.csv", [{"number": number} for number in listed])
            inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=NOW - (2 if listed is runs else 1) * HOUR)
        plan = plan_of(flows, tmp_path, ledger)
    assert {group.name for group in plan.groups if group.late and group.workflow == "ecal"} == {"fill-r5", "fill-r9"}
    locks = locks_of(plan, "laser")
    assert (locks[5, "S"].state, locks[7, "S"].state) == ("opens", "opens")
    assert locks[9, "S"].missing == ((9, "no payload would be there yet"),)
    assert locks[5, "ecal.deliver"].missing == ((5, "only a candidate there, not published"),)


def test_a_lock_on_runs_that_are_not_selected_never_opens(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, 6)])
    none = workflow("ecal", *ECAL.tasks.values(), where="run.lumi_pb > 1000.0")
    assert locks_of(plan_of(named(none, LASER), tmp_path), "laser")[4, "ecal.scale"].state == "never"


def test_what_is_not_planned_keeps_a_lock_of_a_campaign_shut(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": 4}])
    plan = plan_of(named(ECAL, LASER), tmp_path, workflows=["laser"], finite=True)
    assert locks_of(plan, "laser")[4, "ecal.scale"].missing == ((4, "what it waits for is not in the plan"),)


def end_at(ledger: Ledger, group_id: int, name: str, at: datetime) -> None:
    new = generations.NewGeneration(
        group_id, name, 0, "local", "h", None, "d", [], [], [], {}, 0, 1.0, {}, f"f/{name}/{group_id}", "r", [{}]
    )
    with ledger.write() as connection:
        row = generations.by_id(connection, generations.create(connection, new, at))
        generations.end(connection, row, "done", {"code": "done"}, at)


def test_what_the_ledger_has_as_done_is_when_it_was_done(tmp_path: Path, database: str) -> None:
    flows = named(ECAL, LASER)
    with new_ledger(tmp_path) as ledger:
        for last in range(4, 13):
            write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, last + 1)])
            inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=T0 + last * HOUR)
        closed = T0 + 8 * HOUR
        end_at(ledger, group_ids(ledger, "fill", "ecal")["fill-r4"], "scale", closed + 2 * HOUR)
        end_at(ledger, group_ids(ledger, "run", "ecal")["run-r8"], "skim", T0 + 20 * HOUR)
        values = {
            **{"campaign": "prompt", "tag": "S", "first_run": 4, "last_run": 6, "revision": 1, "state": "published"},
            **{"content_hash": "0", "file_name": "s", "size": 1, "workflow": "ecal", "task": "deliver"},
            **{
                "group_id": group_ids(ledger, "fill", "ecal")["fill-r4"],
                "provenance": {},
                "published_at": closed + HOUR,
            },
        }
        with ledger.write() as connection:
            connection.execute(insert(tables.payload).values(values))
        plan = plan_of(flows, tmp_path, ledger)
        locks, own = locks_of(plan, "laser"), locks_of(plan, "ecal")
        based = plan_of(flows, tmp_path, ledger, workflows=["laser"], finite=True, base="prompt", runs="5")
    assert (locks[5, "ecal.scale"].basis, locks[5, "ecal.scale"].opens_at) == ("recorded", closed + 2 * HOUR)
    assert (locks[5, "S"].basis, locks[5, "S"].opens_at) == ("recorded", closed + HOUR)
    assert (locks[7, "S"].basis, locks[7, "S"].opens_at) == ("planned", closed)
    assert (own[8, "ecal.skim"].basis, own[8, "ecal.skim"].opens_at) == ("mixed", T0 + 20 * HOUR)
    assert locks[9, "ecal.scale"].opens_at == T0 + 20 * HOUR
    assert [lock.basis for lock in based.groups[0].locks] == ["recorded", "recorded"]


def test_a_finite_campaign_of_the_past_is_not_replayed_as_if_it_took_runs_as_they_come(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": 4}])
    with new_ledger(tmp_path) as ledger:
        with ledger.write() as connection:
            campaigns.create(connection, "again", kind="finite", runs={"daq": [4]})
        inject(ledger, named(ECAL), {"daq": SOURCE}, tmp_path, now=NOW)
        with pytest.raises(CalibError, match="grouped at once"):
            plan_of(named(ECAL), tmp_path, ledger, campaign="again")
        with pytest.raises(CalibError, match="the ledger has none of the runs 99 of daq"):
            plan_of(named(ECAL), tmp_path, ledger, runs="99")


def test_a_workflow_that_cannot_be_planned_keeps_no_other_back(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": 4}])
    plan = plan_of(
        named(
            workflow("good", task("skim")),
            workflow("gone", task("skim", Grouping(kind="gone", label="gone"))),
            workflow("unfit", task("skim"), where="run.nothing > 1"),
        ),
        tmp_path,
    )
    assert [group.workflow for group in plan.groups] == ["good"]
    assert plan.failed == {"gone", "unfit"}
    assert [text.partition(":")[0] for text in plan.troubles] == ["workflow gone", "workflow unfit"]


def test_locks_on_the_clock_are_foreseen_and_others_say_why_not(tmp_path: Path) -> None:
    """The groups of runs 4 to 7 close when run 8 has ended: at 08:50 of the first day, by T0's clock."""
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, 13)])
    hours = {"not_from": f"{T0:%H:%M}", "not_until": f"{T0 + 10 * HOUR:%H:%M}", "zone": "UTC"}
    locks = (
        Lock(kind="delay", parameters={"for": 3600, "after": "run_end"}),
        Lock(kind="delay", parameters={"for": 7200, "after": "group_closed"}),
        Lock(kind="time", parameters=hours),
        Lock(kind="file", parameters={"path": "/data/x", "what": "/data/x", "every": 60}),
        Lock(kind="product", parameters={"workflow": "ecal", "task": "skim", "product": "c"}),
        Lock(kind="product", parameters={"workflow": "mu", "task": "skim", "product": "c"}),
    )
    waits = task("scale").model_copy(update={"locks": locks})
    plan = plan_of(named(workflow("ecal", task("skim"), waits)), tmp_path)
    group = next(one for one in plan.groups if one.name == "run-r4")
    closed = group.closed_at
    assert closed is not None
    assert group.end is not None
    found = {lock.what: lock for lock in group.locks}
    said = {what: (lock.state, lock.opens_at) for what, lock in found.items()}
    assert said["1h after run_end"] == ("opens", max(closed, group.end + HOUR))
    assert said["2h after group_closed"] == ("opens", closed + 2 * HOUR)
    assert said[f"not from {hours['not_from']} until {hours['not_until']} UTC"] == ("opens", T0 + 10 * HOUR)
    assert said["/data/x"] == ("unknown", None)
    assert "asked outside" in found["/data/x"].why
    assert said["ecal.skim.c"] == ("opens", closed)
    assert said["mu.skim.c"] == ("shut", None)
    assert "another campaign" in found["mu.skim.c"].missing[0][1]
