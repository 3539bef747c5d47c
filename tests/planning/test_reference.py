"""Any history gives the groups that the rules say: the clock of plans against a reference written from the rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.run_facts import ReportedValue
from airflow_calib_provider.injection.selection import Admissions, Selector
from airflow_calib_provider.ledger.reported import LEFT_OUT, ValueStanding
from airflow_calib_provider.ledger.rows import Run
from airflow_calib_provider.planning.history import KnownRun
from airflow_calib_provider.planning.replay import Course, Replayed, SkippedRun, replay
from airflow_calib_provider.spec.models import RunSelection
from tests.domain.grouping_reference import Asked, One, Outcome, Selection, Tick, Told, history
from tests.ledger.making import SOURCE

HOUR = timedelta(hours=1)
LAST = 60
BASES = [
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2025, 3, 29, 12, tzinfo=UTC),
    datetime(2025, 10, 25, 12, tzinfo=UTC),
]
ZONES = ["UTC", "Europe/Zurich", "America/New_York"]


def policy_of(asked: Asked) -> Grouping:
    """The same for the program."""
    options: dict[str, Any] = {}
    if asked.kind == "count":
        options = {"runs": asked.own["runs"]}
    elif asked.kind == "sum":
        options = {"amounts": {asked.own["field"]: asked.own["amount"]}}
    elif asked.kind == "boundaries":
        options = {"first_runs": asked.own["runs"]}
    elif asked.kind == "until":
        options = {"task": "select", "when": asked.own["when"]}
    elif asked.kind == "window":
        options = {**asked.own, "every": asked.own["every"].total_seconds()}
    return Grouping(
        kind=asked.kind,
        label=asked.kind,
        minimum=dict(asked.at_least),
        at_most=dict(asked.at_most),
        short=asked.short,  # type: ignore[arg-type]
        tail=asked.tail,  # type: ignore[arg-type]
        break_on=asked.break_on,
        break_after=asked.break_after,
        max_wait=asked.max_wait,
        late_runs=asked.late,  # type: ignore[arg-type]
        options=options,
    )


def is_regular(own: dict[str, Any]) -> bool:
    """No window begins where the clock changes, between 1 and 3 o'clock; others are refused."""
    return own["zone"] == "UTC" or own["every"] > 3 * HOUR or own["at"] == "06:00"


ENOUGH: dict[str, tuple[int, Any]] = {
    "sum.pairs >= 100.0": (0, lambda runs: sum(map(sum, runs)) >= 100),
    "sum.pairs >= 100.0 && count >= 2": (2, lambda runs: sum(map(sum, runs)) >= 100),
    "count >= 3": (3, lambda runs: True),
    "sum.pairs > 40 && (max.pairs >= 50.0 || min.pairs < 10.0)": (
        0,
        lambda runs: sum(map(sum, runs)) > 40 and (max(map(max, runs)) >= 50 or min(map(min, runs)) < 10),
    ),
    "!(sum.pairs / double(count) < 30.0) && count in [2, 4]": (
        2,
        lambda runs: len(runs) in (2, 4) and sum(map(sum, runs)) / len(runs) >= 30,
    ),
}
"""Conditions, each with the least ``count`` and what it asks of the values of all jobs of all runs."""

OWN: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "run": st.just({}),
    "fill": st.just({}),
    "sum": st.fixed_dictionaries({"field": st.just("lumi_pb"), "amount": st.sampled_from([30.0, 60.0])}),
    "window": st.fixed_dictionaries(
        {
            "every": st.sampled_from([3 * HOUR, 8 * HOUR, 24 * HOUR, 48 * HOUR]),
            "at": st.sampled_from(["06:00", "07:30"]),
            "zone": st.sampled_from(ZONES),
        }
    ).filter(is_regular),
    "boundaries": st.lists(st.integers(1, 20), min_size=1, max_size=5, unique=True).map(
        lambda runs: {"runs": sorted(runs)}
    ),
    "count": st.fixed_dictionaries({"runs": st.integers(2, 5)}),
    "until": st.sampled_from(sorted(ENOUGH)).map(
        lambda when: {"when": when, "count": ENOUGH[when][0], "enough": ENOUGH[when][1]}
    ),
}


@st.composite
def askeds(draw: st.DrawFn) -> Asked:
    kind = draw(st.sampled_from(sorted(OWN)))
    late = draw(st.sampled_from(["ignore", "new_group"]))
    own = draw(OWN[kind])
    if kind == "run":
        return Asked(kind, own, late=late)
    at_least = draw(st.sampled_from([{}, {"lumi_pb": 50.0}, {"lumi_pb": 50.0, "fill": 3.0}]))
    return Asked(
        kind,
        own,
        at_least=at_least,
        at_most=draw(st.sampled_from([{}, {}, {"lumi_pb": 70.0}])),
        short=draw(st.sampled_from(["next", "keep", "drop"])) if at_least else "keep",
        tail=draw(st.sampled_from(["keep", "drop", "previous"])),
        break_on=draw(st.sampled_from([(), (), ("good",), ("good", "fill")])),
        break_after=draw(st.sampled_from([None, None, 2 * HOUR])),
        max_wait=draw(st.sampled_from([None, 3 * HOUR, 10 * HOUR])),
        late=late,
    )


@dataclass(frozen=True)
class History:
    """What happened.

    :ivar runs: with when each was listed and completed.
    :ivar values: run → since when it stands how, and what its jobs have reported; what is not here is never known.
    """

    asked: Asked
    runs: tuple[KnownRun, ...]
    skips: dict[int, datetime]
    selection: RunSelection
    members: frozenset[int] | None
    base: datetime
    values: dict[int, tuple[datetime, str, tuple[float, ...]]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    base = draw(st.sampled_from(BASES))
    runs, number, begin = [], 0, draw(st.integers(0, 20))
    fill = 1
    for _ in range(draw(st.integers(0, 14))):
        number += draw(st.sampled_from([1, 1, 1, 3]))
        begin += draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        fill += draw(st.sampled_from([0, 0, 1]))
        start = draw(st.sampled_from([base + begin * HOUR] * 9 + [None]))
        end = base + (begin + draw(st.integers(1, 3))) * HOUR
        listed = base + (begin + draw(st.sampled_from([0, 0, 0, 0, 4, 9]))) * HOUR
        ends = draw(st.sampled_from([True] * 12 + [False]))
        fields = {
            "fill": draw(st.sampled_from([fill] * 9 + [None])),
            "lumi_pb": draw(st.sampled_from([5.0, 20.0, 20.0, 40.0, 80.0, None, float("nan")])),
            "good": draw(st.sampled_from([1, 1, 1, 2, None])),
        }
        row = Run(
            source="daq",
            number=number,
            start=start,
            end=end if ends else None,
            completed=ends,
            fields=fields,
            files=[],
            recorded_at=listed,
            completed_at=max(listed, end) if ends else None,
            content_hash=str(number),
            listed=True,
        )
        runs.append(KnownRun(row, listed, row.completed_at))
    numbers = [one.row.number for one in runs]
    skips = draw(st.dictionaries(st.sampled_from(numbers), st.integers(0, 80), max_size=2)) if numbers else {}
    finite = draw(st.integers(0, 3)) == 0
    members = frozenset(draw(st.sets(st.sampled_from(numbers), min_size=1))) if finite and numbers else None
    selection = RunSelection(
        source="daq",
        where=draw(st.sampled_from([None, "!has(run.lumi_pb) || run.lumi_pb > 6.0"])),
        since=draw(st.sampled_from([0, 0, 4])),
        settle=draw(st.sampled_from([None, 2 * HOUR])),
        incomplete_after=draw(st.sampled_from([None, 4 * HOUR])),
    )
    if members is not None:
        runs = [replace(one, listed_at=base, completed_at=base if one.row.completed else None) for one in runs]
    values = {
        number: (
            base + draw(st.sampled_from([0, 5, 12, 20, 20, 45])) * HOUR,
            draw(st.sampled_from(["known"] * 6 + ["without", "late"])),
            tuple(draw(st.lists(st.sampled_from([0.0, 4.0, 15.0, 30.0, 60.0]), min_size=1, max_size=2))),
        )
        for number in numbers
        if draw(st.integers(0, 14))
    }
    skipped = {run: base + at * HOUR for run, at in skips.items()}
    return History(draw(askeds()), tuple(runs), skipped, selection, members, base, values)


def expected(found: History, times: list[datetime]) -> Outcome:
    """What the rules say, if it is injected at these times."""

    def told(one: KnownRun, now: datetime) -> Told:
        done = one.completed_at is not None and one.completed_at <= now
        row = one.row
        at, stands, found_in = found.values.get(row.number, (None, "unknown", ()))
        return Told(
            One(row.number, row.start, row.end if done else None, row.fields, found=found_in),
            done,
            stands if at is not None and at <= now else "unknown",
        )

    ticks = [
        Tick(
            now,
            {one.row.number: told(one, now) for one in found.runs if one.listed_at <= now},
            frozenset(run for run, at in found.skips.items() if at <= now),
        )
        for now in times
    ]
    where = found.selection.where
    admits = (lambda one: not _is_low(one)) if where else (lambda _: True)
    chosen = Selection(
        admits,
        int(found.selection.since),  # type: ignore[arg-type]
        found.selection.settle,
        found.selection.incomplete_after,
        found.members,
    )
    return history(found.asked, chosen, ticks)


def _is_low(one: One) -> bool:
    lumi = one.fields["lumi_pb"]
    return lumi is not None and not lumi > 6.0


def standing_of(at: datetime, stands: str, jobs: tuple[float, ...]) -> ValueStanding:
    """The same for the program."""
    if stands == "late":
        return ValueStanding(LEFT_OUT, at, reason={"code": "late", "assigned_below": 0}, decided="late")
    reported = {"pairs": ReportedValue(sum(jobs), min(jobs), max(jobs))}
    return ValueStanding(stands, at, reported if stands == "known" else {})


def planned(found: History) -> Replayed:
    course = Course(
        workflow="w",
        grouping=found.asked.kind,
        policy=policy_of(found.asked),
        selector=Selector(found.selection, Admissions(found.selection, SOURCE), found.base, found.members),
        begins=found.base,
        until=found.base + LAST * HOUR - timedelta(seconds=1),
        skipped={run: SkippedRun(at, "me", "bad") for run, at in found.skips.items()},
        values={run: standing_of(*one) for run, one in found.values.items()} if found.asked.kind == "until" else None,
    )
    return replay(found.runs, course)


def moments(found: History) -> list[datetime]:
    """Every half hour, at which windows may begin, and just after: nothing is decided by what lies between."""
    just, half = timedelta(microseconds=1), HOUR / 2
    return sorted(found.base + n * half + extra for n in range(2 * LAST) for extra in (just * 0, just))


def check(found: History) -> None:
    wanted, made = expected(found, moments(found)), planned(found)
    said = {number: decision.state for number, decision in made.decisions.items()}
    assert said == wanted.states
    groups = [
        (list(one.runs), one.state, (one.reason or {}).get("why") or (one.reason or {}).get("code"), one.late)
        for one in made.groups
    ]
    assert groups == [(one.runs, one.state, one.why, one.late) for one in wanted.groups]


@given(found=histories())
@settings(max_examples=300, deadline=None, derandomize=True)  # others each time: the long one
def test_any_history_gives_the_groups_of_the_rules(found: History) -> None:
    check(found)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(found=histories())
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_histories_give_the_groups_of_the_rules(found: History) -> None:
    check(found)
