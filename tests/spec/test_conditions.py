"""Conditions on runs."""

from __future__ import annotations

import pickle

import pytest

from airflow_calib_provider.spec.conditions import Condition, ConditionError

RUN = {
    "lumi": 3.0,
    "status": "good",
    "fill": None,
    "number": 7,
    "start": "2026-01-01T00:00:00+00:00",
    "ok": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.lumi > 0.5 && run.status == 'good'", True),
        ("run.lumi > 3", False),
        ("run.lumi >= 3", True),
        ("run.number == 7.0", True),
        ("run.number in [1, 7]", True),
        ("run.status in ['good', 'fair']", True),
        ("has(run.fill)", False),
        ("!has(run.fill) || run.fill > 3", True),
        ("has(run.fill) && run.fill > 3", False),
        ("has(run.lumi)", True),
        ("run.ok", True),
        ("!run.ok", False),
        ("run.number % 2 == 1 ? run.ok : false", True),
        ("run.status.startsWith('go') && run.status.matches('^g.*d$')", True),
        ("run.start > timestamp('2025-12-31T00:00:00Z')", True),
        ("run['number'] > 6", True),
        ("[1, 2].all(x, x < run.number)", True),
        ("run.number > 3 && // a comment\n run.ok", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert Condition(text).evaluate(RUN) is expected


def test_fields() -> None:
    assert Condition("run.a > 1 && has(run.b) && run['c'] == run.a").fields == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["run.fill > 3", "run.ok || run.fill > 3", "run.fill == null", "run.absent == 1"])
def test_null_without_has_is_an_error_that_names_the_field(text: str) -> None:
    with pytest.raises(ConditionError, match=r"the field '(fill|absent)' is null; ask first: has\(run") as caught:
        Condition(text).evaluate(RUN)
    assert caught.value.field in ("fill", "absent")
    assert pickle.loads(pickle.dumps(caught.value)).field == caught.value.field


def test_asking_does_not_excuse_using_a_null() -> None:
    with pytest.raises(ConditionError, match="the field 'fill' is null"):
        Condition("run.fill > 3 && has(run.fill) || run.fill < 3").evaluate(RUN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run.number", "a whole number, not true or false"),
        ("run.status", "a text, not true or false"),
        ("run.status > 3", "a text and a whole number"),
        ("run.number / 0 == 1", "divide by zero"),
    ],
)
def test_errors_of_evaluation(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Condition(text).evaluate(RUN)


@pytest.mark.parametrize(
    "text", ["", "(", "run.", "1 +", "run", "lumi > 3", "run.a.b(", "f(run.a)", "'a", "\x00", "(" * 2000]
)
def test_texts_that_are_no_condition(text: str) -> None:
    with pytest.raises(ConditionError):
        Condition(text)
