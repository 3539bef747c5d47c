"""Which failed runs a group goes on without (rule 49)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.domain.failed_runs import FailedRuns, Failure, decided
from tests.ledger.making import T0

HOUR = timedelta(hours=1)


def failed(*runs: int, at: datetime = T0) -> dict[int, Failure]:
    return {run: Failure("ecal.skim", "ecal.skim", at) for run in runs}


@pytest.mark.parametrize(
    ("fraction", "n_runs", "most"),
    [(0.1, 10, 1), (0.1, 9, 0), (0.29, 100, 29), (0.3, 10, 3), (1.0, 3, 2), (1.0, 1, 0), (0.5, 1, 0), (0.07, 100, 7)],
)
def test_a_fraction_is_taken_as_it_is_written_and_never_all(fraction: float, n_runs: int, most: int) -> None:
    assert FailedRuns(exclude=fraction).most(n_runs) == most


def test_more_failures_than_allowed_exclude_none() -> None:
    seen = decided(FailedRuns(exclude=0.1), 10, failed(3, 4), (), T0)
    assert not seen.excluded
    assert seen.waits == dict.fromkeys((3, 4), "failed; 2 of 10 runs have, and it goes on without 1 at most")


def test_it_is_counted_from_the_failure_of_each_run() -> None:
    policy = FailedRuns(exclude=0.5, after=6 * HOUR)
    failures = {**failed(3), **failed(4, at=T0 + HOUR)}
    seen = decided(policy, 10, failures, (), T0 + 6 * HOUR)
    assert list(seen.excluded) == [3]
    assert seen.waits == {4: "failed; it goes on without it from 2026-01-01 07:00 UTC on"}
    assert list(decided(policy, 10, failures, (), T0 + 7 * HOUR).excluded) == [3, 4]


def test_those_of_before_count() -> None:
    policy = FailedRuns(exclude=0.2)
    assert list(decided(policy, 10, failed(3), {7}, T0).excluded) == [3]
    assert not decided(policy, 10, failed(3), {7, 8}, T0).excluded
    # It is out of the group already for another of its tasks.
    assert list(decided(policy, 10, failed(7), {7, 8}, T0).excluded) == [7]


@given(
    exclude=st.integers(1, 100),
    after=st.none() | st.integers(1, 5),
    n_runs=st.integers(1, 40),
    hours=st.dictionaries(st.integers(1, 40), st.integers(0, 8), max_size=8),
    before=st.sets(st.integers(1, 40), max_size=4),
    now=st.integers(0, 12),
)
@settings(max_examples=300, deadline=None)
def test_as_the_rule_says(
    exclude: int, after: int | None, n_runs: int, hours: dict[int, int], before: set[int], now: int
) -> None:
    hours = {run: at for run, at in hours.items() if run <= n_runs}
    before = {run for run in before if run <= n_runs}
    policy = FailedRuns(exclude=exclude / 100, after=None if after is None else after * HOUR)
    failures = {run: Failure("a.b", "a.b", T0 + at * HOUR) for run, at in hours.items()}
    seen = decided(policy, n_runs, failures, before, T0 + now * HOUR)
    gone = len(set(hours) | before)
    few = 100 * gone <= exclude * n_runs and gone < n_runs
    expected = {run for run, at in hours.items() if few and now >= at + (after or 0)}
    assert set(seen.excluded) == expected
    assert set(seen.waits) == set(hours) - expected
