"""Histories of runs, at random: what sources list at each moment, and what jobs and persons do.

A source corrects and withdraws runs before and after these are assigned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from airflow_calib_provider.spec.models import FieldType, RunSelection
from tests.domain.after_reference import Failing
from tests.domain.grouping_reference import Asked
from tests.planning.test_reference import askeds

HOUR = timedelta(hours=1)
BASE = datetime(2025, 3, 29, 12, tzinfo=UTC)
FIELDS = {"fill": FieldType.INT, "lumi_pb": FieldType.FLOAT, "good": FieldType.INT}
TOGETHER = 20
"""Histories that share a ledger."""

Line = Mapping[str, Any]
"""Of a source, as a person would write it."""


@dataclass(frozen=True)
class Moment:
    """What happens at one time, in this order.

    :ivar listed: what the source lists from now on, by number.
    :ivar skips: runs that a person skips; of those that the ledger does not know nothing happens.
    :ivar ends: how the tasks of single runs end, of those that have not.
    :ivar clears: whether a person clears what is done.
    :ivar amends: of the closed groups which one, and of the runs which are added and which removed.
    """

    now: datetime
    listed: Mapping[int, Line]
    skips: tuple[int, ...]
    ends: Mapping[int, str]
    clears: bool
    amends: tuple[int, tuple[int, ...], tuple[int, ...]] | None


@dataclass(frozen=True)
class History:
    """One workflow with a source of its own.

    :ivar found: run → what each job of its task reports.
    """

    asked: Asked
    failing: Failing | None
    selection: RunSelection
    moments: tuple[Moment, ...]
    found: Mapping[int, tuple[float, ...]]


@st.composite
def lines(draw: st.DrawFn) -> list[tuple[int, Line, int, int | None]]:
    """Runs: number, what is listed of it in the end, and the hours at which it is listed and completed."""
    found, number, begin, fill = [], 0, draw(st.integers(0, 8)), 1
    for _ in range(draw(st.integers(1, 10))):
        number += draw(st.sampled_from([1, 1, 1, 2]))
        begin += draw(st.sampled_from([0, 1, 1, 2]))
        fill += draw(st.sampled_from([0, 0, 1]))
        end = begin + draw(st.integers(1, 2))
        listed = begin + draw(st.sampled_from([0, 0, 0, 0, 5, 11]))
        completed = max(listed, end) if draw(st.sampled_from([True] * 9 + [False])) else None
        line = {
            "start": draw(st.sampled_from([BASE + begin * HOUR] * 9 + [None])),
            "end": BASE + end * HOUR,
            "fill": draw(st.sampled_from([fill] * 9 + [None])),
            "lumi_pb": draw(st.sampled_from([5.0, 20.0, 20.0, 40.0, 80.0, None])),
            "good": draw(st.sampled_from([1, 1, 1, 2, None])),
        }
        found.append((number, line, listed, completed))
    return found


CORRECTIONS = st.sampled_from(
    [
        *({"lumi_pb": lumi} for lumi in (80.0, 1.0, None)),
        *({"fill": fill} for fill in (9, None)),
        {"good": 2},
        {"gone": True},
        {"completed": False},
    ]
)


@st.composite
def moments(draw: st.DrawFn, hours: list[int]) -> tuple[Moment, ...]:
    runs = draw(lines())
    numbers = st.sampled_from([number for number, *_ in runs])
    edits = draw(st.lists(st.tuples(numbers, st.integers(0, 24), CORRECTIONS), max_size=4))
    fails = draw(st.sets(numbers, max_size=3))
    found = []
    for hour in hours:
        listed = {}
        for number, line, since, completed in runs:
            now: dict[str, Any] = {**line, "completed": completed is not None and completed <= hour}
            for _, _, change in [one for one in edits if one[0] == number and one[1] <= hour]:
                now |= change
            if since <= hour and not now.pop("gone", False):
                listed[number] = now if now["completed"] else {**now, "end": None}
        how = st.sampled_from(["failed", "done"])
        found.append(
            Moment(
                BASE + hour * HOUR,
                listed,
                tuple(draw(st.sets(numbers, max_size=1))) if draw(st.integers(0, 3)) == 0 else (),
                {number: draw(how) if number in fails else "done" for number, *_ in runs if draw(st.integers(0, 3))},
                draw(st.integers(0, 3)) == 0,
                (
                    draw(st.integers(0, 5)),
                    tuple(draw(st.sets(numbers, max_size=3))),
                    tuple(draw(st.sets(numbers, max_size=2))),
                )
                if draw(st.booleans())
                else None,
            )
        )
    return tuple(found)


@st.composite
def histories(draw: st.DrawFn, hours: list[int]) -> History:
    selection = RunSelection(
        source="daq",
        where=draw(st.sampled_from([None, None, "!has(run.lumi_pb) || run.lumi_pb > 6.0"])),
        since=draw(st.sampled_from([0, 0, 3])),
        settle=draw(st.sampled_from([None, None, 2 * HOUR])),
        incomplete_after=draw(st.sampled_from([None, 4 * HOUR])),
    )
    failing = draw(
        st.sampled_from([None, Failing(), Failing("0.25"), Failing("0.3"), Failing("0.5", 3 * HOUR), Failing("1")])
    )
    asked, told = draw(askeds()), draw(moments(hours))
    numbers = sorted({number for moment in told for number in moment.listed})
    jobs = st.lists(st.sampled_from([0.0, 4.0, 30.0, 60.0, 100.0]), min_size=1, max_size=2).map(tuple)
    found = {number: draw(jobs) for number in numbers} if asked.kind == "until" else {}
    return History(asked, failing, selection, told, found)


@dataclass(frozen=True)
class Stories:
    """Histories that share a ledger and a clock.

    :ivar at_once: runs that are written in one transaction.
    :ivar deaths: after how many transactions an injection dies, each time once more.
    """

    stories: list[History]
    at_once: int
    deaths: frozenset[int]


@st.composite
def together(draw: st.DrawFn) -> Stories:
    # What was found of a run counts from the next injection on.
    hours = sorted(draw(st.sets(st.integers(0, 26), min_size=3, max_size=5)) | {40, 41})
    found = [draw(histories(hours)) for _ in range(TOGETHER)]
    return Stories(found, draw(st.sampled_from([1, 2, 3, 1000])), draw(st.frozensets(st.integers(1, 60), max_size=3)))
