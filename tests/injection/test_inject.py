"""Injection: from a run source to groups, again and again (rules 2–11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from airflow_calib_provider.errors import LedgerError, NotFound
from airflow_calib_provider.injection.inject import InjectionReport, close_campaign, inject
from airflow_calib_provider.ledger import campaigns, generations, groups, open_groups, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.models import RunSource, Workflow
from tests.ledger.making import (
    RUN,
    SOURCE,
    T0,
    count,
    done,
    fill,
    group_ids,
    new_ledger,
    set_state,
    task,
    total,
    workflow,
    write_runs,
)

LATER = T0 + timedelta(days=100)
ECAL = workflow("ecal", task("skim"), task("scale", fill(50, short="next"), needs=["ecal.skim@run"]))


class World:
    """A ledger, a folder with a run source, and a clock."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self.now = LATER

    def runs(self, *runs: Mapping[str, Any] | int) -> None:
        write_runs(self.folder / "runs.csv", [{"number": run} if isinstance(run, int) else run for run in runs])

    def inject(self, *flows: Workflow, now: datetime | None = None, **options: Any) -> InjectionReport:
        self.now = now or self.now + timedelta(hours=1)
        named = {flow.name: flow for flow in flows}
        return inject(self.ledger, named, {"daq": SOURCE}, self.folder, now=self.now, **options)

    def members(self, label: str = "run", flow: str = "ecal", campaign: str = "prompt") -> dict[int, str]:
        """Run → group, or its state with the code of the reason."""
        table, group = tables.membership, tables.run_group
        query = (
            select(table, group.c.name)
            .outerjoin(group, group.c.id == table.c.group_id)
            .where(table.c.grouping == label, table.c.workflow == flow, table.c.campaign == campaign)
        )
        with self.ledger.read() as connection:
            rows = connection.execute(query.order_by(table.c.run)).all()
        return {row.run: row.name if row.state == "grouped" else f"{row.state} {row.reason['code']}" for row in rows}

    def tasks(self, label: str = "run") -> dict[str, dict[str, str]]:
        table, group = tables.group_task, tables.run_group
        query = select(group.c.name, table.c.task, table.c.state).join(group, group.c.id == table.c.group_id)
        result: dict[str, dict[str, str]] = {}
        with self.ledger.read() as connection:
            for row in connection.execute(query.where(group.c.grouping == label)):
                result.setdefault(row.name, {})[row.task] = row.state
        return result


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


def test_injecting_twice_changes_nothing(world: World) -> None:
    world.runs(*range(1, 14))
    first = world.inject(ECAL)
    assert (first.new_runs, first.assigned, first.groups_opened, first.errors) == (13, 26, 13 + 4, [])
    events = count(world.ledger, tables.event)
    assert world.inject(ECAL) == InjectionReport()
    assert count(world.ledger, tables.event) == events


def test_fills_wait_for_their_end_and_short_ones_join_the_next(world: World) -> None:
    world.runs(1, 2, 3, 4)
    world.inject(ECAL)
    assert world.members("fill") == {1: "fill-r1", 2: "fill-r1", 3: "fill-r1", 4: "fill-r4"}
    world.runs(1, 2, 3, 4, {"number": 5, "fill": 8}, {"number": 6, "fill": 9}, {"number": 7, "fill": 10})
    world.inject(ECAL)
    assert world.members("fill")[7] == "fill-r7"
    assert {world.members("fill")[run] for run in (4, 5, 6)} == {"fill-r4"}
    with world.ledger.read() as connection:
        query = select(tables.run_group).where(tables.run_group.c.name == "fill-r4")
        row = connection.execute(query).one()
    assert (row.state, row.fills, row.last_run, row.amounts) == ("closed", [1, 8, 9], 6, {"lumi_pb": 60.0})


def test_changed_metadata_is_an_event_and_regroups_nothing(world: World) -> None:
    world.runs(1, 2, 3, 4)
    world.inject(ECAL)
    before = world.members("fill")
    events = count(world.ledger, tables.event)
    world.runs({"number": 1, "fill": 77, "lumi_pb": 500}, 2, 3, 4)
    changed = "run 1 of daq: the source changed after assignment: fill: 0 → 77, lumi_pb: 20 → 500"
    assert world.inject(ECAL) == InjectionReport(changed_runs=1, source_changes=[changed])
    assert world.members("fill") == before
    assert count(world.ledger, tables.event) == events + 1
    with world.ledger.read() as connection:
        row = connection.execute(select(tables.event).order_by(tables.event.c.id.desc()).limit(1)).one()
        record = connection.execute(select(tables.membership.c.record).where(tables.membership.c.run == 1)).scalars()
        assert {item["fill"] for item in record} == {0}
    assert (row.entity, row.run, row.to_state) == ("run", 1, "changed")
    assert row.data["changes"] == {"fill": [0, 77], "lumi_pb": [20.0, 500.0]}


def test_a_stuck_run_stops_the_horizon(world: World) -> None:
    flow = workflow("ecal", task("skim"), incomplete_after=timedelta(days=200))
    stuck = {"number": 2, "end": None, "completed": "false"}
    world.runs(1, stuck, 3)
    world.inject(flow)
    assert world.members() == {1: "run-r1"}
    world.inject(flow, now=T0 + timedelta(days=201))
    assert world.members() == {1: "run-r1", 2: "refused incomplete_too_long", 3: "run-r3"}
    # It is completed at last: refused once is refused.
    world.runs(1, 2, 3)
    world.inject(flow)
    assert world.members()[2] == "refused incomplete_too_long"


def test_skip_passes_a_stuck_run_in_its_own_workflow_only(world: World) -> None:
    other = workflow("other", task("skim"))
    world.runs(1, {"number": 2, "end": None, "completed": "false"}, 3)
    world.inject(ECAL, other)
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [2], reason="magnet off", person="ada", now=LATER)
    world.inject(ECAL, other)
    assert world.members() == {1: "run-r1", 2: "refused run_skipped", 3: "run-r3"}
    assert world.members(flow="other") == {1: "run-r1"}
    with world.ledger.read() as connection:
        reason = connection.execute(select(tables.membership.c.reason).where(tables.membership.c.run == 2)).scalar()
    assert reason == {"code": "run_skipped", "person": "ada", "reason": "magnet off"}
    with pytest.raises(NotFound, match="no run 99"), world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [99], reason="x", person="ada", now=LATER)


def test_group_of_nothing_but_skipped_runs_ends_as_skipped_when_it_closes(world: World) -> None:
    world.runs(1, 2, 3)
    world.inject(ECAL)
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [1, 2, 3], reason="x", person="ada", now=LATER)
    assert world.tasks("fill") == {"fill-r1": {"scale": "new"}}
    world.runs(1, 2, 3, 4)
    world.inject(ECAL)
    assert world.tasks("fill") == {"fill-r1": {"scale": "skipped"}, "fill-r4": {"scale": "new"}}


def test_settle_holds_recent_runs_back(world: World) -> None:
    flow = workflow("ecal", task("skim"), settle=timedelta(hours=2))
    world.runs(1, 2)
    world.inject(flow, now=T0 + timedelta(hours=4))
    assert world.members() == {1: "run-r1"}
    world.inject(flow, now=T0 + timedelta(hours=5))
    assert world.members() == {1: "run-r1", 2: "run-r2"}


def test_late_runs(world: World) -> None:
    world.runs(1, 3, 4)
    world.inject(ECAL)
    world.runs(1, 2, 3, 4)
    report = world.inject(ECAL)
    assert (report.late, report.groups_opened) == (2, 0)
    assert world.members() == {1: "run-r1", 2: "late late", 3: "run-r3", 4: "run-r4"}
    assert world.members("fill")[2] == "late late"
    assert world.inject(ECAL) == InjectionReport()


def test_refused_and_not_selected_runs_have_their_reason(world: World) -> None:
    flow = workflow("ecal", task("skim"), task("scale", fill(50)), where="run.lumi_pb > 10.0", since=2)
    world.runs(1, {"number": 2, "lumi_pb": 5.0}, {"number": 3, "lumi_pb": None}, {"number": 4, "fill": None}, 5)
    world.inject(flow)
    assert world.members("fill") == {
        1: "not_selected before_since",
        2: "not_selected where_false",
        3: "refused condition_error",
        4: "refused field_missing",
        5: "fill-r5",
    }
    assert world.members()[4] == "run-r4"


def test_new_workflow_takes_no_history(world: World) -> None:
    flow = workflow("ecal", task("skim"), since=None)
    world.runs(1, 2)
    seen = T0 + timedelta(hours=2, minutes=30)  # run 1 has ended, run 2 has not
    world.inject(flow, now=seen)
    assert world.members() == {1: "not_selected before_first_seen", 2: "run-r2"}


def test_new_workflow_takes_no_history_from_a_source_without_times(world: World) -> None:
    flow = workflow("ecal", task("skim"), since=None)
    timeless = {"start": None, "end": None}
    world.runs({"number": 1, **timeless})
    world.inject(flow)
    world.runs({"number": 1, **timeless}, {"number": 2, **timeless})
    world.inject(flow)
    assert world.members() == {1: "not_selected before_first_seen", 2: "run-r2"}


def test_since_a_time(world: World) -> None:
    flow = workflow("ecal", task("skim"), since=T0 + timedelta(hours=2))
    world.runs(1, 2)
    world.inject(flow)
    assert world.members() == {1: "not_selected before_since", 2: "run-r2"}


def test_grouping_added_later_takes_no_history(world: World) -> None:
    first = workflow("ecal", task("skim"), since=None)
    world.runs(1)
    world.inject(first, now=T0)
    world.inject(first, now=T0 + timedelta(hours=5))
    edited = workflow("ecal", task("skim"), task("scale", fill()), since=None)
    world.runs(1, 9)
    world.inject(edited, now=T0 + timedelta(hours=6))
    assert world.members() == {1: "run-r1", 9: "run-r9"}
    assert world.members("fill") == {1: "not_selected before_first_seen", 9: "fill-r9"}


def test_broken_source_does_not_hold_back_the_others(world: World) -> None:
    world.runs(1)
    broken = RunSource(name="broken", fields=SOURCE.fields, kind="csv", options={"path": "nowhere.csv"})
    flow = ECAL.model_copy(update={"name": "other", "runs": ECAL.runs.model_copy(update={"source": "broken"})})
    lost = ECAL.model_copy(update={"name": "lost", "runs": ECAL.runs.model_copy(update={"source": "unknown"})})
    flows = {"other": flow, "lost": lost, "ecal": ECAL}
    report = inject(world.ledger, flows, {"daq": SOURCE, "broken": broken}, world.folder, now=LATER)
    assert report.assigned == 2
    assert "nowhere.csv" in report.errors[0]
    assert report.errors[1].startswith("run source unknown, which lost takes its runs from, is not in")


def test_finite_campaign_is_grouped_completely_or_not_at_all(world: World) -> None:
    flow = workflow("ecal", task("fit", total(50, tail="previous")))
    stuck = {"number": 7, "end": None, "completed": "false"}
    world.runs(1, {"number": 2, "end": None, "completed": "false"}, *range(3, 7), stuck, 8, 9)
    world.inject(flow)
    with world.ledger.write() as connection:
        campaigns.create(connection, "rereco", kind="finite", runs={"daq": [3, 4, 5, 6, 9]})
        campaigns.create(connection, "stuck", kind="finite", runs={"daq": [3, 7]})
    world.inject(flow)
    # Run 2, stuck, and 8, of no concern, hold nothing back.
    assert world.members("sum", campaign="rereco") == {
        **dict.fromkeys((3, 4, 5, 6, 9), "sum-r3"),
        7: "not_selected not_in_campaign",
        8: "not_selected not_in_campaign",
    }
    assert world.members("sum", campaign="stuck") == {}
    with world.ledger.read() as connection:
        query = select(tables.run_group.c.state).where(tables.run_group.c.campaign == "rereco")
        assert connection.execute(query).scalars().all() == ["closed"]
    assert world.inject(flow) == InjectionReport()


def test_campaigns_of_some_workflows(world: World) -> None:
    other = workflow("other", task("skim"))
    world.runs(1)
    world.inject(ECAL, other)
    with world.ledger.write() as connection:
        campaigns.create(connection, "re", kind="finite", runs={"daq": [1]}, spec_hashes={"other": other.hash})
    world.inject(ECAL, other, campaign="re")
    assert world.members(campaign="re") == {}
    assert world.members(flow="other", campaign="re") == {1: "run-r1"}


def test_close_campaign(world: World) -> None:
    flow = workflow("ecal", task("fit", total(50, tail="drop")), task("skim"))
    world.runs(1, 2, 3, 4)
    world.inject(flow)
    with pytest.raises(LedgerError, match="its spec is not there"):
        close_campaign(world.ledger, {}, "prompt", LATER)
    assert close_campaign(world.ledger, {"ecal": flow}, "prompt", LATER) == 1
    assert world.members("sum") == {1: "sum-r1", 2: "sum-r1", 3: "sum-r1", 4: "dropped dropped"}
    assert world.tasks("sum")["sum-r4"] == {"fit": "skipped"}
    world.runs(1, 2, 3, 4, 5)
    world.inject(flow)
    assert 5 not in world.members()
    with pytest.raises(LedgerError, match="the campaign prompt is closed"):
        world.inject(flow, campaign="prompt")
    with pytest.raises(NotFound, match="no campaign nobody; known: prompt"):
        world.inject(flow, campaign="nobody")


def test_edit_while_groups_wait(world: World) -> None:
    old = workflow("ecal", task("skim"), task("scale", fill(50, short="next"), needs=["ecal.skim@run"]), task("old"))
    world.runs(1, 2, 3, 4)
    world.inject(old)
    ids, fills = group_ids(world.ledger, "run"), group_ids(world.ledger, "fill")
    done(world.ledger, ids["run-r1"], "skim")
    done(world.ledger, ids["run-r1"], "old")
    set_state(world.ledger, ids["run-r2"], "skim", "processing")
    set_state(world.ledger, fills["fill-r1"], "scale", "waiting")
    new = workflow(
        "ecal",
        task("skim", payloads=["Laser"]),
        task("more"),
        task("scale", fill(10, short="drop"), payloads=["Laser"]),
    )
    members, names = world.members("fill"), {**ids, **fills}
    events = count(world.ledger, tables.event)
    report = world.inject(new)
    assert (report.groups_opened, report.assigned) == (0, 0)
    assert world.members("fill") == members
    assert {**group_ids(world.ledger, "run"), **group_ids(world.ledger, "fill")} == names
    assert world.tasks() == {
        "run-r1": {"skim": "done", "old": "done"},  # nothing was left to do there
        "run-r2": {"skim": "processing", "more": "new"},
        "run-r3": {"skim": "new", "more": "new"},
        "run-r4": {"skim": "new", "more": "new"},
    }
    assert world.tasks("fill") == {"fill-r1": {"scale": "waiting"}, "fill-r4": {"scale": "new"}}
    with world.ledger.read() as connection:
        locks = connection.execute(select(tables.lock)).all()
        policy = open_groups.forming_group(connection, "prompt", "ecal", "fill")
    assert policy is not None
    assert policy.policy.short == "next"
    assert {(row.group_id, row.task, row.kind, row.parameters["tag"]) for row in locks} == {
        *((group, "scale", "payload", "Laser") for group in fills.values()),
        *((ids[name], "skim", "payload", "Laser") for name in ("run-r3", "run-r4")),
    }
    assert count(world.ledger, tables.event) > events
    again = count(world.ledger, tables.event)
    world.inject(new)
    assert count(world.ledger, tables.event) == again


def test_edit_that_removes_a_task_which_is_running_or_has_failed(world: World) -> None:
    old = workflow("ecal", task("skim"), task("fit"))
    world.runs(1, 2)
    world.inject(old)
    ids = group_ids(world.ledger, "run")
    done(world.ledger, ids["run-r1"], "fit")
    set_state(world.ledger, ids["run-r1"], "fit", "processing", "failed")
    set_state(world.ledger, ids["run-r2"], "fit", "failed")
    world.inject(workflow("ecal", task("skim")))
    # What ran is kept, with its generations; what failed by a lock has never begun.
    assert world.tasks() == {"run-r1": {"skim": "new", "fit": "failed"}, "run-r2": {"skim": "new"}}
    with world.ledger.read() as connection:
        assert generations.latest(connection, ids["run-r1"], "fit") is not None


def test_edit_that_removes_a_grouping_loses_nothing(world: World) -> None:
    world.runs(1, 2, 3, 4)
    world.inject(ECAL)
    before = world.tasks("fill")
    world.inject(workflow("ecal", task("skim")))
    assert world.tasks("fill") == before
    world.inject(ECAL)
    assert world.tasks("fill") == before


def test_task_that_was_added_too_late_gets_its_row_when_it_runs(world: World) -> None:
    world.runs(1)
    world.inject(workflow("ecal", task("skim")))
    group = group_ids(world.ledger, "run")["run-r1"]
    done(world.ledger, group, "skim")
    edited = workflow("ecal", task("skim"), task("more"))
    world.inject(edited)
    with world.ledger.write() as connection:
        groups.ensure_task(connection, edited, group, edited.tasks["more"], LATER)
        groups.ensure_task(connection, edited, group, edited.tasks["more"], LATER)
    assert world.tasks() == {"run-r1": {"skim": "done", "more": "new"}}


def test_statements_do_not_depend_on_the_number_of_runs(world: World) -> None:
    from tests.ledger.test_waiting import statements

    flow = workflow("ecal", task("skim", RUN, payloads=["X"]), task("scale", fill(50, short="next")))
    counts = []
    for highest in (100, 140, 290):  # within one batch of all that is done in batches, with more than may be opened
        world.runs(*range(1, highest))
        with statements(world.ledger) as seen:
            world.inject(flow)
        counts.append(len(seen))
    assert counts[1] == counts[2]


@given(
    data=st.data(),
    policy=st.sampled_from(
        [RUN, fill(50, short="next"), fill(50, short="drop"), fill(max_wait=timedelta(hours=5)), total(50)]
    ),
)
@settings(max_examples=12)
def test_order_of_arrival_does_not_matter(tmp_path_factory: Any, data: st.DataObject, policy: Any) -> None:
    """Two histories with the same horizons and clocks, in which runs become known in different orders.

    What holds the horizon is one run that is listed as not completed until its turn comes.
    """
    flow = workflow("ecal", task("fit", policy))
    numbers = list(range(1, data.draw(st.integers(2, 14))))
    bounds = sorted(data.draw(st.sets(st.integers(1, len(numbers) + 1), min_size=1, max_size=4)))
    shapes = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("order")
        world = World(new_ledger(folder), folder)
        early = data.draw(st.sets(st.sampled_from(numbers)))
        for bound in bounds:
            known = [{"number": n} for n in numbers if n < bound or (n > bound and n in early)]
            holder = {"number": bound, "completed": "false", "end": None, "fill": None}
            order = data.draw(st.permutations(known))
            world.runs(*order, holder)
            world.inject(flow, now=T0 + timedelta(hours=bound + 3))
        label = policy.label
        with world.ledger.read() as connection:
            table = tables.run_group
            rows = connection.execute(select(table.c.name, table.c.state, table.c.last_run, table.c.amounts)).all()
        shapes.append((world.members(label), [tuple(row) for row in rows]))
        world.ledger.close()
    assert shapes[0] == shapes[1]
    assert all(code.startswith(label) or code == "dropped dropped" for code in shapes[0][0].values())


def test_run_that_its_source_forgets(world: World) -> None:
    world.runs(1, {"number": 2, "end": None, "completed": "false"})
    world.inject(ECAL)
    world.runs(1, 3)
    world.inject(ECAL)
    assert world.members() == {1: "run-r1", 2: "refused not_listed", 3: "run-r3"}


def test_prompt_exists_beside_an_older_campaign(world: World) -> None:
    with world.ledger.write() as connection:
        campaigns.create(connection, "rereco", kind="finite", runs={"daq": [1]})
    world.runs(1)
    world.inject(ECAL)
    assert world.members(campaign="prompt") == world.members(campaign="rereco") == {1: "run-r1"}
