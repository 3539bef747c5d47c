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

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning.plans import PlanSpecs, basis_of, plan_on
from airflow_calib_provider.planning.records import PlanRequest, SpecPlan
from airflow_calib_provider.spec.models import Workflow
from tests.ledger.making import SOURCE, T0, fill, new_ledger, task, total, workflow, write_runs

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
        found = [
            workflow(
                "ecal",
                task("skim"),
                task("scale", fill(choose([0, 50]), short=choose(["next", "keep", "drop"]), max_wait=4 * HOUR)),
                **selection,
            ),
            workflow("mu", task("align", total(60)), **{**selection, "since": choose([5, None])}),
        ]
        return {flow.name: flow for flow in found}


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


@pytest.mark.parametrize("seed", range(8))
def test_the_plan_of_past_runs_is_what_injection_made_of_them(seed: int, tmp_path: Path) -> None:
    detector = Detector(seed)
    flows = detector.workflows()
    first = detector.random.choice([0, 0, 6])
    with new_ledger(tmp_path) as ledger:
        for tick in range(first, TICKS):
            now = T0 + tick * HOUR
            write_runs(tmp_path / "runs.csv", detector.listed(tick))
            if tick > first and detector.random.random() < 0.1:
                skip_one(ledger, detector, now)
            report = inject(ledger, flows, {"daq": SOURCE}, tmp_path, now=now)
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
