"""A plan of past runs is what injection made of them, whatever happened in between."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning.plans import PlanSpecs, basis_of, plan_on
from airflow_calib_provider.planning.records import PlanRequest, SpecPlan
from airflow_calib_provider.spec.models import Workflow
from tests.ledger.making import RUN, SOURCE, T0, fill, new_ledger, task, total, workflow, write_runs

HOUR = timedelta(hours=1)
TICKS = 30


class Detector:
    """Runs that begin, end, or get stuck, at full hours; of some the source tells late."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.runs: list[tuple[int, int, dict[str, Any]]] = []
        begin = 0
        for number in range(1, 22):
            begin += self.random.choice([0, 1, 1, 2])
            length = self.random.choice([1, 1, 2, 6])
            told = begin + self.random.choice([0, 0, 0, 0, 5])
            ends = 10**6 if number > 6 and self.random.random() < 0.12 else begin + length
            row = {
                "number": number,
                "start": (T0 + begin * HOUR).isoformat(),
                "end": (T0 + ends * HOUR).isoformat() if ends < 10**6 else None,
                "fill": self.random.choice([number // 4, number // 4, number // 4, None]),
                "lumi_pb": self.random.choice([5.0, 20.0, 20.0, 40.0, None]),
            }
            self.runs.append((told, max(ends, told), row))

    def listed(self, tick: int) -> list[Mapping[str, Any]]:
        return [
            {**row, "completed": "true" if ends <= tick else "false", "end": row["end"] if ends <= tick else None}
            for told, ends, row in self.runs
            if told <= tick
        ]

    def workflows(self) -> dict[str, Workflow]:
        choose = self.random.choice
        selection: dict[str, Any] = {
            "settle": choose([None, 2 * HOUR]),
            # A run is passed when it is incomplete for longer than that, so at a full hour.
            "incomplete_after": choose([None, 4 * HOUR - timedelta(microseconds=1)]),
            "where": choose([None, "run.lumi_pb > 6.0"]),
        }
        late = ["ignore", "new_group", "new_group"]
        failed = choose([None, FailedRuns(), FailedRuns(exclude=0.1, after=6 * HOUR)])
        short = choose(["next", "keep", "drop"])
        found = [
            workflow("tracker", task("fit", self.policy(choose(["fill", "sum", "count", "window"]))), **selection),
            workflow(
                "ecal",
                task("skim", RUN.model_copy(update={"late_runs": choose(late)})),
                task(
                    "scale",
                    fill(choose([0, 50]), short=short, max_wait=4 * HOUR, late_runs=choose(late), failed_runs=failed),
                ),
                **selection,
            ),
            workflow(
                "mu",
                task("align", total(60, tail=choose(["keep", "drop"]), late_runs=choose(late))),
                **{**selection, "since": choose([5, None])},
            ),
        ]
        return {flow.name: flow for flow in found}

    def policy(self, kind: str) -> Grouping:
        """Some policy of this kind, with options that several kinds have."""
        choose = self.random.choice
        options: dict[str, dict[str, Any]] = {
            "sum": {"amounts": {"lumi_pb": choose([30.0, 60.0])}},
            "count": {"runs": choose([2, 3, 5])},
            "window": {"every": choose([3, 8, 24]) * 3600.0, "at": "06:00", "zone": choose(["UTC", "Europe/Zurich"])},
        }
        minimum = choose([{}, {"lumi_pb": 50.0}])
        return Grouping(
            kind=kind,
            label=kind,
            minimum=minimum,
            at_most=choose([{}, {"lumi_pb": 90.0}]),
            short=choose(["next", "keep", "drop"]) if minimum else "keep",
            break_on=choose([(), ("fill",)]),
            break_after=choose([None, HOUR]),
            max_wait=choose([None, 4 * HOUR]),
            tail=choose(["keep", "drop"]),
            late_runs=choose(["ignore", "new_group"]),
            options=options.get(kind, {}),
        )


def planned(ledger: Ledger, flows: Mapping[str, Workflow], now: datetime) -> SpecPlan:
    specs = PlanSpecs(flows, {"daq": SOURCE})
    basis = basis_of(ledger, specs, [specs], PlanRequest(Path("/nowhere"), last=0), now)
    return plan_on(specs, list(flows), basis, now)


def groups_of(plan: SpecPlan) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (one.workflow, one.name): (
            one.state,
            one.opened_at,
            one.closed_at,
            plain(one.reason),
            dict(one.amounts),
            list(one.fills),
            one.late,
            plain(one.opened),
        )
        for one in plan.groups
    }


def groups_in(ledger: Ledger) -> dict[tuple[str, str], tuple[Any, ...]]:
    with ledger.read() as connection:
        rows = connection.execute(select(tables.run_group)).all()
    return {
        (row.workflow, row.name): (
            row.state,
            row.opened_at,
            row.closed_at,
            plain(row.close_reason),
            row.amounts,
            row.fills,
            row.late,
            row.open_reason,
        )
        for row in rows
    }


def decisions_of(plan: SpecPlan) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    return {
        (one.workflow, one.grouping, run): (decision.state, plain(decision.reason), decision.group)
        for one in plan.groupings
        for run, decision in one.decisions.items()
    }


def decisions_in(ledger: Ledger) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    member, group = tables.membership, tables.run_group
    query = select(member, group.c.name).outerjoin(group, group.c.id == member.c.group_id)
    with ledger.read() as connection:
        rows = connection.execute(query).all()
    return {(row.workflow, row.grouping, row.run): (row.state, plain(row.reason), row.name) for row in rows}


def plain(value: object) -> object:
    """As JSON has it."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_of_past_runs_is_what_injection_made_of_them(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_300))
def test_three_hundred_pasts_are_planned_as_they_were(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


def check(seed: int, folder: Path) -> None:
    """Inject at every hour, and plan at the end."""
    detector = Detector(seed)
    flows = detector.workflows()
    first = detector.random.choice([0, 0, 6])
    with new_ledger(folder) as ledger:
        for tick in range(first, TICKS):
            now = T0 + tick * HOUR
            write_runs(folder / "runs.csv", detector.listed(tick))
            if tick > first and detector.random.random() < 0.1:
                skip_one(ledger, detector, now)
            report = inject(ledger, flows, {"daq": SOURCE}, folder, now=now)
            assert not report.errors
        plan = planned(ledger, flows, now)
        assert decisions_of(plan) == decisions_in(ledger)
        assert groups_of(plan) == groups_in(ledger)
        assert plan.groups


def skip_one(ledger: Ledger, detector: Detector, now: datetime) -> None:
    with ledger.write() as connection:
        known = list(connection.execute(select(tables.run.c.number).order_by(tables.run.c.number)).scalars())
        if known:
            run = detector.random.choice(known)
            skips.add(connection, "prompt", "ecal", [run], reason="bad", person="me", now=now)
