"""Rules 2–8 on pure functions."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, assign
from airflow_calib_provider.domain.horizon import horizon
from tests.ledger.making import RUN, T0, facts, fill, total

LATER = T0 + timedelta(days=1000)


@st.composite
def run_lists(draw: st.DrawFn) -> list[RunFacts]:
    number, fill_number = 0, 1
    runs = []
    for _ in range(draw(st.integers(0, 25))):
        number += draw(st.integers(1, 3))
        fill_number += draw(st.integers(0, 1))
        runs.append(
            facts(
                number,
                draw(st.sampled_from([fill_number] * 6 + [None])),
                draw(st.sampled_from([0.1, 7.3, 20.0, 60.0, None, float("nan")])),
                selected=draw(st.integers(0, 4)) > 0,
            )
        )
    return runs


POLICIES = [
    RUN,
    fill(),
    fill(50, short="next"),
    fill(50, short="keep"),
    fill(50, short="drop"),
    fill(50, short="next", max_wait=timedelta(hours=2)),
    fill(max_wait=timedelta(hours=3)),
    fill(50, short="drop", max_wait=timedelta(hours=2)),
    total(50),
    total(50, tail="drop"),
    total(50, tail="previous"),
]
policies = st.sampled_from(POLICIES)


def shape(groups: list[GroupDraft], members: dict[int, list[int]]) -> list[Any]:
    return [(g.first_run, members[g.first_run], g.state, g.close_reason, g.last_run, g.fills) for g in groups]


def replay(
    policy: Grouping, runs: list[RunFacts], history: list[tuple[int, Any]], *, final: bool, finite: bool = False
) -> tuple[list[Any], set[int], dict[str, Any]]:
    """Assign step by step: (bound, now). Checks on the way that closed groups never change."""
    groups: dict[int, GroupDraft] = {}
    members: dict[int, list[int]] = {}
    frozen: dict[int, Any] = {}
    refused: dict[int, Any] = {}
    forming: GroupDraft | None = None
    below = 0
    for position, (bound, now) in enumerate(history):
        fresh = [run for run in runs if below <= run.number < bound]
        below = max(below, bound)
        last = final and position == len(history) - 1
        result = assign(policy, forming, fresh, now, final=last, finite=finite)
        refused |= result.refused
        forming = None
        for draft in result.groups:
            groups[draft.first_run] = draft
            members.setdefault(draft.first_run, []).extend(draft.added)
            assert draft.n_runs == len(members[draft.first_run])
            draft.added = []
            if draft.state == "forming":
                assert forming is None, "only one group forms at a time"
                forming, draft.id = draft, draft.first_run
            else:
                draft.id = draft.first_run
        for first, before in frozen.items():
            assert shape([groups[first]], members) == before, "a closed group changed"
        frozen = {g.first_run: shape([g], members) for g in groups.values() if g.state != "forming"}
    grouped = [number for listed in members.values() for number in listed]
    assert len(grouped) == len(set(grouped))
    return shape([groups[first] for first in sorted(groups)], members), set(grouped), refused


@given(policy=policies, runs=run_lists(), cuts=st.lists(st.integers(0, 80), max_size=6), final=st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_run_ends_in_exactly_one_place(
    policy: Grouping, runs: list[RunFacts], cuts: list[int], final: bool
) -> None:
    history = [(bound, T0 + timedelta(hours=bound)) for bound in sorted({*cuts, 100})]
    groups, grouped, refused = replay(policy, runs, history, final=final)
    selected = {run.number for run in runs if run.selected}
    assert grouped | refused.keys() == selected
    assert not grouped & refused.keys()
    assert all(reason["code"] == "field_missing" for reason in refused.values())
    if final:
        assert all(state != "forming" for _, _, state, *_ in groups)


@given(
    policy=st.sampled_from([p for p in POLICIES if not p.max_wait]),
    runs=run_lists(),
    cuts=st.lists(st.integers(0, 80), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_partition_into_injections_does_not_matter(policy: Grouping, runs: list[RunFacts], cuts: list[int]) -> None:
    at_once, _, refused_at_once = replay(policy, runs, [(100, LATER)], final=False)
    in_steps, _, refused = replay(policy, runs, [(bound, LATER) for bound in sorted({*cuts, 100})], final=False)
    assert in_steps == at_once
    assert refused == refused_at_once


def groups_of(policy: Grouping, *runs: RunFacts, **options: Any) -> list[tuple[list[int], str]]:
    return [(draft.added, draft.state) for draft in assign(policy, None, runs, T0, **options).groups]


def test_run() -> None:
    assert groups_of(RUN, facts(1), facts(2, selected=False), facts(3)) == [([1], "closed"), ([3], "closed")]


def test_fill_closes_with_a_run_of_a_later_fill() -> None:
    assert groups_of(fill(), facts(1, 1), facts(2, 1), facts(3, 2)) == [([1, 2], "closed"), ([3], "forming")]


def test_fill_closes_with_a_run_that_is_not_selected() -> None:
    assert groups_of(fill(), facts(1, 1), facts(2, 2, selected=False)) == [([1], "closed")]


def test_fill_with_enough_closes_only_at_its_end() -> None:
    assert groups_of(fill(15), facts(1), facts(2), facts(3)) == [([1, 2, 3], "forming")]


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ("next", [([1, 2, 3], "closed"), ([4], "forming")]),
        ("keep", [([1], "closed"), ([2, 3], "closed"), ([4], "forming")]),
        ("drop", [([1], "dropped"), ([2, 3], "closed"), ([4], "forming")]),
    ],
)
def test_short_fill(short: Any, expected: list[Any]) -> None:
    runs = [facts(1, 1, 10), facts(2, 2, 30), facts(3, 2, 30), facts(4, 3, 100)]
    assert groups_of(fill(50, short=short), *runs) == expected


def test_next_records_the_fills_that_it_absorbed() -> None:
    (group,) = assign(fill(50, short="next"), None, [facts(1, 7), facts(2, 8)], T0).groups
    assert (group.fills, group.first_run) == ([7, 8], 1)


def test_max_wait_counts_from_the_last_end() -> None:
    policy = fill(max_wait=timedelta(hours=6))
    ended = facts(1).end
    assert ended is not None
    early = assign(policy, None, [facts(1)], ended + timedelta(hours=5, minutes=59)).groups[0]
    assert early.state == "forming"
    (late,) = assign(policy, early, [], ended + timedelta(hours=6)).groups
    assert (late.state, late.close_reason and late.close_reason["code"]) == ("closed", "max_wait")
    # A run that is there already when the wait is over still belongs to the fill.
    (both,) = assign(policy, None, [facts(1), facts(2)], ended + timedelta(hours=6)).groups
    assert (both.added, both.state) == ([1, 2], "forming")


@pytest.mark.parametrize(("short", "state"), [("next", "forming"), ("keep", "closed"), ("drop", "dropped")])
def test_max_wait_of_a_short_fill(short: Any, state: str) -> None:
    (group,) = assign(fill(50, short=short, max_wait=timedelta(hours=1)), None, [facts(1)], LATER).groups
    assert group.state == state


def test_sum() -> None:
    runs = [facts(n, None, 20) for n in range(1, 8)]
    assert groups_of(total(50), *runs) == [([1, 2, 3], "closed"), ([4, 5, 6], "closed"), ([7], "forming")]


@pytest.mark.parametrize(
    ("policy", "finite", "expected"),
    [
        (total(50, tail="keep"), True, [([1, 2, 3], "closed"), ([4], "closed")]),
        (total(50, tail="drop"), True, [([1, 2, 3], "closed"), ([4], "dropped")]),
        (total(50, tail="previous"), True, [([1, 2, 3, 4], "closed")]),
        (total(50, tail="previous"), False, [([1, 2, 3], "closed"), ([4], "closed")]),
        (fill(10, tail="drop"), True, [([1, 2, 3, 4], "closed")]),
        (fill(500, short="next", tail="drop"), True, [([1, 2, 3, 4], "dropped")]),
        (fill(500, short="keep", tail="drop"), True, [([1, 2, 3, 4], "closed")]),
        (fill(500, short="drop", tail="keep"), True, [([1, 2, 3, 4], "dropped")]),
    ],
)
def test_tail(policy: Grouping, finite: bool, expected: list[Any]) -> None:
    runs = [facts(n, 1, 20) for n in range(1, 5)]
    assert groups_of(policy, *runs, final=True, finite=finite) == expected


def test_tail_of_one_group_has_nothing_before_it() -> None:
    assert groups_of(total(50, tail="previous"), facts(1), final=True, finite=True) == [([1], "closed")]


def test_previous_takes_everything_over() -> None:
    runs = [facts(1, 1, 60), facts(2, 2, 5)]
    (group,) = assign(total(50, tail="previous"), None, runs, T0, final=True, finite=True).groups
    assert (group.last_run, group.n_runs, group.amounts, group.fills) == (2, 2, {"lumi_pb": 65}, [1, 2])
    assert group.end == runs[1].end
    assert group.close_reason is not None
    assert group.close_reason["joined_runs"] == [2]


def test_forming_group_keeps_the_policy_that_it_opened_with() -> None:
    (old,) = assign(fill(50, short="next"), None, [facts(1, 1)], T0).groups
    groups = assign(fill(5, short="drop"), old, [facts(2, 2), facts(3, 3, 60), facts(4, 4)], T0).groups
    assert [(g.policy.short, g.first_run, g.state) for g in groups] == [("next", 1, "closed"), ("drop", 4, "forming")]


def test_a_sum_beyond_what_a_number_holds_can_be_stored() -> None:
    result = assign(fill(50), None, [*(facts(n, 1, 1e308) for n in (1, 2, 3)), facts(4, 2, 1.0)], T0)
    first = result.groups[0]
    assert (first.state, list(first.amounts.values())) == ("closed", [sys.float_info.max])
    json.dumps([first.amounts, first.close_reason], allow_nan=False)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "much", True])
def test_run_without_a_usable_amount_is_refused(value: Any) -> None:
    result = assign(total(50), None, [facts(1, 1, value), facts(2)], T0)
    assert result.refused == {1: {"code": "field_missing", "field": "lumi_pb", "needed_by": "the grouping sum"}}


def listed(*runs: tuple[int, bool]) -> list[tuple[int, bool, Any, Any]]:
    return [
        (number, completed, T0 + timedelta(hours=number), T0 + timedelta(hours=number, minutes=50))
        for number, completed in runs
    ]


def test_horizon() -> None:
    now = T0 + timedelta(hours=100)
    runs = listed((1, True), (3, False), (5, True))
    assert horizon([], now) == 0
    assert horizon(listed((1, True), (5, True)), now) == 6
    assert horizon(runs, now) == 3
    assert horizon(runs, now, passed=frozenset({3})) == 6
    assert horizon(runs, now, incomplete_after=timedelta(hours=96)) == 6
    assert horizon(runs, now, incomplete_after=timedelta(hours=97)) == 3
    assert horizon(listed((1, True), (99, True)), now, settle=timedelta(hours=1)) == 99
    assert horizon(listed((1, True), (99, True)), now, settle=timedelta(minutes=5)) == 100
    assert horizon(listed((1, False)), now) == 1


@given(
    runs=st.dictionaries(st.integers(0, 30), st.booleans(), max_size=15),
    passed=st.frozensets(st.integers(0, 30), max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_horizon_is_what_rule_2_says(runs: dict[int, bool], passed: frozenset[int], order: Any) -> None:
    shuffled = listed(*runs.items())
    order.shuffle(shuffled)
    open_runs = [number for number, completed in runs.items() if not completed and number not in passed]
    expected = min(open_runs) if open_runs else max((n + 1 for n in runs), default=0)
    assert horizon(shuffled, T0, passed=passed) == expected
