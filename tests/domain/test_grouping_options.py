"""Rules 47 and 48 on pure functions, an example each; that they hold together is what the reference is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_calib_provider.domain.group_words import life, why_closed, why_opened
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, assign
from tests.ledger.making import T0, counted, facts, fill, nightly, total

HOUR = timedelta(hours=1)
LATER = T0 + timedelta(days=1000)


def run(
    number: int, *, lumi: float = 20.0, magnet: float | None = 3.8, hour: float | None = None, **more: Any
) -> RunFacts:
    """A run of 50 minutes; one an hour, if nothing else is said."""
    start = T0 + timedelta(hours=number if hour is None else hour)
    fields = {"fill": 1, "lumi_pb": lumi, "magnet": magnet}
    return RunFacts(number, start, start + timedelta(minutes=50), fields, **more)


def groups(policy: Grouping, *runs: RunFacts, now: datetime = T0, **options: Any) -> list[GroupDraft]:
    return assign(policy, None, runs, now, **options).groups


def shape(policy: Grouping, *runs: RunFacts, **options: Any) -> list[tuple[list[int], str, str]]:
    return [
        (one.added, one.state, str((one.close_reason or {}).get("code"))) for one in groups(policy, *runs, **options)
    ]


def test_count() -> None:
    assert shape(counted(2), *(run(n) for n in (1, 4, 6))) == [([1, 4], "closed", "counted"), ([6], "forming", "None")]


def test_a_change_of_a_field_starts_a_group_also_where_a_run_that_is_not_selected_tells_of_it() -> None:
    runs = [run(1), run(2, magnet=0.0, selected=False), run(3), run(4, magnet=None, selected=False), run(5, magnet=2.0)]
    found = groups(counted(9, break_on=("magnet",)), *runs)
    assert [one.added for one in found] == [[1], [3], [5]]
    assert why_closed(found[0].close_reason) == "magnet is 0 from run 2 on, and was 3.8"
    assert "a field changed that groups have in common" in why_opened(found[1].open_reason)


def test_a_run_without_the_field_that_breaks_groups_is_refused() -> None:
    found = assign(counted(9, break_on=("magnet",)), None, [run(1, magnet=None)], T0)
    assert found.refused == {1: {"code": "field_missing", "field": "magnet", "needed_by": "the grouping count"}}


def test_a_pause_starts_a_group() -> None:
    policy = counted(9, break_after=2 * HOUR)
    edge = 1 + 50 / 60 + 2
    found = groups(policy, run(1), run(2, hour=edge), run(3, hour=edge + 50 / 60 + 2.01))
    assert [one.added for one in found] == [[1, 2], [3]]
    assert why_closed(found[0].close_reason) == "run 3 starts after a pause of 2h36s"


def test_a_run_without_times_tells_of_no_pause() -> None:
    policy = counted(9, break_after=HOUR)
    timeless = RunFacts(2, None, None, run(2).fields)
    assert [one.added for one in groups(policy, run(1), timeless)] == [[1, 2]]


def test_at_most_closes_before_the_run_that_would_exceed_it_and_one_that_does_so_alone_is_a_group() -> None:
    policy = counted(9, at_most={"lumi_pb": 50.0})
    runs = [run(1), run(2, lumi=30), run(3, lumi=51), run(4), run(5, lumi=99, selected=False), run(6)]
    assert shape(policy, *runs) == [
        ([1, 2], "closed", "at_most"),
        ([3], "closed", "at_most"),
        ([4, 6], "forming", "None"),
    ]


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ("next", [([1, 2, 3, 4], "closed", "counted"), ([5], "forming", "None")]),
        ("keep", [([1, 2], "closed", "counted"), ([3, 4], "closed", "counted"), ([5], "forming", "None")]),
        ("drop", [([1, 2], "dropped", "dropped"), ([3, 4], "closed", "counted"), ([5], "forming", "None")]),
    ],
)
def test_short(short: Any, expected: list[Any]) -> None:
    runs = [run(1), run(2), run(3, lumi=15), run(4, lumi=50), run(5)]
    assert shape(counted(2, minimum={"lumi_pb": 60.0}, short=short), *runs) == expected


@pytest.mark.parametrize(("short", "state"), [("next", "closed"), ("keep", "closed"), ("drop", "dropped")])
def test_a_short_group_cannot_go_on_behind_a_break(short: Any, state: str) -> None:
    policy = fill(100, short=short, break_on=("magnet",))
    assert shape(policy, run(1), run(2, magnet=0.0))[0][:2] == ([1], state)


def test_max_wait_closes_what_is_not_whole() -> None:
    for policy in (counted(9, max_wait=HOUR), total(1e6, max_wait=HOUR)):
        assert shape(policy, run(1), now=T0 + 2 * HOUR)[0][1] == "forming"
        assert shape(policy, run(1), now=T0 + 3 * HOUR)[0] == ([1], "closed", "max_wait")


def test_break_comes_first_then_at_most_then_the_own_end_then_max_wait() -> None:
    policy = nightly(break_on=("magnet",), at_most={"lumi_pb": 30.0}, max_wait=HOUR)
    last = [run(2, magnet=0.0, hour=40), run(2, hour=40), run(2, lumi=5, hour=40)]
    assert [shape(policy, run(1), one, now=LATER)[0][2] for one in last] == ["break_on", "at_most", "later_window"]
    assert shape(policy, run(1), now=LATER)[0][2] == "max_wait"


@pytest.mark.parametrize(
    ("options", "first", "expected"),
    [
        ({}, {}, [[1, 2, 3]]),
        ({"break_on": ("magnet",)}, {"magnet": 0.0}, [[1, 2], [3]]),
        ({"at_most": {"lumi_pb": 50.0}}, {}, [[1, 2], [3]]),
        ({"break_after": HOUR}, {"hour": 9}, [[1, 2], [3]]),
        ({"break_after": 9 * HOUR}, {"hour": 9}, [[1, 2, 3]]),
    ],
)
def test_the_last_runs_join_the_group_before_where_no_break_parts_them(
    options: Any, first: Any, expected: list[list[int]]
) -> None:
    found = groups(counted(2, tail="previous", **options), run(1), run(2), run(3, **first), final=True, finite=True)
    assert [one.added for one in found] == expected


def test_a_window_closes_with_a_run_of_a_later_one_and_empty_ones_make_no_group() -> None:
    runs = [run(1), run(2, hour=4.9), run(3, hour=5.0), run(4, hour=60)]
    found = groups(nightly(), *runs)
    assert [one.added for one in found] == [[1, 2], [3], [4]]
    assert found[1].open_reason == {
        "code": "after",
        "first_run": 1,
        "why": "later_window",
        "window": "from 2026-01-01 06:00 to 2026-01-02 06:00, Europe/Zurich",
    }
    assert life({"opened": found[1].open_reason, "closed": found[1].close_reason}) == (
        "why it opened: its first run came when the group of run 1 was over: a later window began "
        "(window from 2026-01-01 06:00 to 2026-01-02 06:00, Europe/Zurich); why it closed: run 4 is of a later window"
    )


def test_a_run_that_starts_before_the_forming_window_counts_in_it() -> None:
    assert [one.added for one in groups(nightly(), run(1, hour=30), run(2, hour=2), run(3, hour=31))] == [[1, 2, 3]]


def test_after_max_wait_a_window_opens_a_further_group() -> None:
    policy = nightly(max_wait=HOUR)
    (first,) = groups(policy, run(1, hour=6), now=T0 + 30 * HOUR)
    assert (first.state, first.close_reason and first.close_reason["code"]) == ("closed", "max_wait")
    assert shape(policy, run(1, hour=6), now=T0 + 29.9 * HOUR)[0][1] == "forming"
    (second,) = groups(policy, run(2, hour=7))
    assert second.open_reason == {"code": "first", "window": "from 2026-01-01 06:00 to 2026-01-02 06:00, Europe/Zurich"}


def test_a_run_of_no_time_is_in_no_window() -> None:
    found = assign(nightly(), None, [RunFacts(1, None, None, {})], T0)
    assert found.refused == {1: {"code": "field_missing", "field": "start", "needed_by": "the grouping window"}}


@pytest.mark.parametrize(
    ("day", "hours"), [("2025-03-29", 23), ("2025-10-25", 25), ("2025-06-01", 24)], ids=["spring", "autumn", "else"]
)
def test_a_day_is_as_long_as_its_clock_says(day: str, hours: int) -> None:
    """From six to six in Zurich, where the clock changes in the night to Sunday."""
    begin = datetime.fromisoformat(f"{day}T06:00").replace(tzinfo=UTC) - timedelta(hours=1 if hours == 23 else 2)
    at = [begin - timedelta(seconds=1), begin, begin + hours * HOUR - timedelta(seconds=1), begin + hours * HOUR]
    runs = [RunFacts(n, time, time, {}) for n, time in enumerate(at)]
    assert [one.added for one in groups(nightly(), *runs)] == [[0], [1, 2], [3]]


def test_several_days_are_counted_from_1970() -> None:
    weekly = nightly(every=7 * 24, at="00:00", zone="UTC")
    thursday = datetime(2026, 1, 1, tzinfo=UTC)
    runs = [RunFacts(n, thursday + timedelta(days=day), None, {}) for n, day in enumerate((-1, 0, 6, 7))]
    assert [one.added for one in groups(weekly, *runs)] == [[0], [1, 2], [3]]


def test_a_sum_that_opened_under_an_older_version_has_its_amount_among_the_least_ones() -> None:
    old = Grouping(kind="sum", label="sum", minimum={"lumi_pb": 50.0})
    assert shape(old, facts(1, 1, 30), facts(2, 1, 30)) == [([1, 2], "closed", "reached")]
