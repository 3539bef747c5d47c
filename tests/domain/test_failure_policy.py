"""The failure policy: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_calib_provider.domain.failure_policy import (
    Action,
    Decision,
    MoreMemory,
    classify,
    decide,
    more_memory,
    rules_of,
    words_for_a_person,
)
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import Job, JobState

AT = datetime(2026, 1, 1, tzinfo=UTC)
GB = 10**9


def held(failure: FailureClass, releases: int = 0, **options: Any) -> Job:
    return Job(0, JobState.HELD, 1, failure=failure, releases=releases, **options)


def over(failure: FailureClass, **options: Any) -> Job:
    return Job(0, JobState.RUNNING, 1, failure=failure, **options)


@pytest.mark.parametrize(
    ("state", "seen", "expected"),
    [
        (AttemptState.HELD, {}, FailureClass.HOLD),
        (AttemptState.HELD, {"failure": FailureClass.PERSON}, FailureClass.PERSON),
        (AttemptState.LOST, {}, FailureClass.LOST),
        (AttemptState.EVICTED, {}, FailureClass.LOST),
        (AttemptState.FAILED, {"exit_code": 3}, FailureClass.EXIT),
        (AttemptState.FAILED, {"signal": 9}, FailureClass.SIGNAL),
        (AttemptState.FAILED, {"signal": 9, "failure": FailureClass.MEMORY}, FailureClass.MEMORY),
        (AttemptState.SUCCEEDED, {}, None),
        (AttemptState.REMOVED, {"failure": FailureClass.PERSON}, None),
        (AttemptState.RUNNING, {}, None),
    ],
)
def test_classes(state: AttemptState, seen: dict[str, Any], expected: FailureClass | None) -> None:
    assert classify(Observation(0, 1, state, AT, **seen)) is expected


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (over(FailureClass.MEMORY), Decision(Action.RETRY, more=MoreMemory(1.5, None))),
        (held(FailureClass.MEMORY), Decision(Action.RETRY, more=MoreMemory(1.5, None))),
        (held(FailureClass.PERSON), Decision(Action.WAIT)),
        (held(FailureClass.PERSON, 7), Decision(Action.WAIT)),
        (held(FailureClass.TRANSFER), Decision(Action.RELEASE, after=300)),
        (held(FailureClass.TRANSFER, 2), Decision(Action.RELEASE, after=300)),
        (held(FailureClass.TRANSFER, 3), Decision(Action.RETRY, counted=False)),
        (over(FailureClass.TRANSFER), Decision(Action.RETRY, counted=False)),
        (held(FailureClass.HOLD, 1), Decision(Action.RELEASE, after=300)),
        (held(FailureClass.HOLD, 2), Decision(Action.RETRY)),
        (held(FailureClass.START), Decision(Action.RETRY)),
        (over(FailureClass.LOST), Decision(Action.RETRY, counted=False)),
        *[
            (over(failure), Decision(Action.RETRY))
            for failure in (
                FailureClass.EXIT,
                FailureClass.SIGNAL,
                FailureClass.TIMEOUT,
                FailureClass.DISK,
                FailureClass.PRODUCT,
                FailureClass.START,
            )
        ],
    ],
)
def test_without_rules(job: Job, expected: Decision) -> None:
    assert decide(job, ()) == expected


RULES = rules_of(
    [
        {"classes": ["exit"], "exit_codes": [65, 66], "then": "fail"},
        {"hold_codes": [12], "then": "release", "times": 1, "after": 60.0},
        {"classes": ["memory"], "then": "retry", "factor": 2.0, "at_most": 16},
        {"classes": ["disk"], "then": "retry"},
        {"signals": [9], "then": "release"},
        {"classes": ["person"], "then": "release", "times": 5},
        {"classes": ["lost"], "then": "fail"},
        {"then": "fail"},
    ]
)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (over(FailureClass.EXIT, exit_code=66), Decision(Action.FAIL)),
        (held(FailureClass.TRANSFER, hold_code=12), Decision(Action.RELEASE, after=60.0)),
        (held(FailureClass.TRANSFER, 1, hold_code=12), Decision(Action.RETRY, counted=False)),
        (held(FailureClass.HOLD, 1, hold_code=12), Decision(Action.RETRY)),
        (over(FailureClass.MEMORY), Decision(Action.RETRY, more=MoreMemory(2.0, 16))),
        (over(FailureClass.DISK), Decision(Action.RETRY)),
        # Nothing is held: there is nothing to release, so it is tried again.
        (over(FailureClass.SIGNAL, signal=9), Decision(Action.RETRY)),
        (held(FailureClass.PERSON, 4), Decision(Action.RELEASE, after=300.0)),
        (over(FailureClass.LOST), Decision(Action.FAIL, counted=False)),
        (over(FailureClass.TIMEOUT), Decision(Action.FAIL)),
    ],
)
def test_the_first_rule_that_matches(job: Job, expected: Decision) -> None:
    assert decide(job, RULES) == expected


@pytest.mark.parametrize(
    ("more", "first", "present", "peak", "expected"),
    [
        (MoreMemory(), 2 * GB, 2 * GB, GB, 3 * GB),
        (MoreMemory(), 2 * GB, 3 * GB, None, 4_500_000_000),
        (MoreMemory(), 2 * GB, 7 * GB, None, 8 * GB),
        (MoreMemory(), 2 * GB, 8 * GB, None, None),
        (MoreMemory(2.0, 5 * GB), 2 * GB, 4 * GB, None, 5 * GB),
        (MoreMemory(2.0, 5 * GB), 8 * GB, 8 * GB, None, None),
        (MoreMemory(), None, None, 3 * GB, 4_500_000_000),
        (MoreMemory(), None, None, None, 1_500_000_000),
        (MoreMemory(), 3 * GB, 4_500_000_000, 4 * GB, 6_750_000_000),
        (MoreMemory(2.0, GB), None, None, 3 * GB, GB),
    ],
)
def test_more_memory(more: MoreMemory, first: int | None, present: int | None, peak: int | None, expected: Any) -> None:
    assert more_memory(more, first, present, peak) == expected


def test_words() -> None:
    assert words_for_a_person("by hand", "`let_go`") == "by hand; `let_go` lets it go on"
    assert words_for_a_person(None, "releasing it") == "held by a person; releasing it lets it go on"
