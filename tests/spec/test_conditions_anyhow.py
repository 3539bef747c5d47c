"""Whatever is written: what the check accepts never raises anything but a run's refusal."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.spec.conditions import Condition, ConditionError
from airflow_calib_provider.spec.models import FieldType
from tests.spec.test_conditions import TYPES, condition


def _put(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: form.format(*found))


def _signs(*signs: str) -> st.SearchStrategy[str]:
    return st.sampled_from(signs)


COMPARED = _signs("==", "!=", "<", "<=", ">", ">=")


INTS: st.SearchStrategy[str] = st.deferred(
    lambda: (
        _signs("run.number", "run.fill", "0", "1", "-3", "9223372036854775807")
        | _put("({} {} {})", INTS, _signs("+", "-", "*", "/", "%"), INTS)
        | _put("int({})", DOUBLES | TEXTS | TIMES)
        | _put("size({})", TEXTS)
    )
)


DOUBLES: st.SearchStrategy[str] = st.deferred(
    lambda: (
        _signs("run.lumi", "2.5", "1e300", "0.0")
        | _put("({} {} {})", DOUBLES, _signs("+", "-", "*", "/"), DOUBLES)
        | _put("double({})", INTS | TEXTS)
    )
)


MIXED = INTS | DOUBLES | _put("({} ? {} : {})", _signs("run.ok", "has(run.fill)"), INTS, DOUBLES)


TEXTS: st.SearchStrategy[str] = st.deferred(
    lambda: _signs("run.status", "''", "'a'", "'7'") | _put("string({})", INTS | DOUBLES | TIMES | TRUTHS)
)


TIMES: st.SearchStrategy[str] = st.deferred(
    lambda: (
        _signs("run.start", "run.t", "run.end", "timestamp('2026-01-01T00:00:00Z')")
        | _put("({} + ({} - {}))", TIMES, TIMES, TIMES)
        | _put("timestamp({})", INTS | TEXTS)
    )
)


TRUTHS: st.SearchStrategy[str] = st.deferred(
    lambda: (
        _signs("run.ok", "true", "has(run.fill)", "has(run.status)", "!has(run.t)")
        | _put("({} {} {})", MIXED, COMPARED, MIXED)
        | _put("({} {} {})", TEXTS, COMPARED, TEXTS)
        | _put("({} {} {})", TIMES, COMPARED, TIMES)
        | _put("({} {} {})", TRUTHS, _signs("==", "!=", "&&", "||"), TRUTHS)
        | _put("({} ? {} : {})", TRUTHS, TRUTHS, TRUTHS)
        | _put("({} in [{}, {}])", INTS | DOUBLES, MIXED, INTS)
        | _put("({} in [{}, {}])", TEXTS, TEXTS, TEXTS)
        | _put("[{}, {}].{}(x, x {} {})", INTS, INTS, _signs("all", "exists", "exists_one"), COMPARED, MIXED)
        | _put("{}.{}({})", TEXTS, _signs("startsWith", "contains"), TEXTS)
    )
)


VALUES: dict[FieldType, st.SearchStrategy[object]] = {
    FieldType.INT: st.integers(-(2**63), 2**63 - 1),
    FieldType.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    FieldType.STRING: st.text(max_size=5),
    FieldType.BOOL: st.booleans(),
    FieldType.TIME: st.datetimes(timezones=st.just(UTC)),
}


RUNS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: st.none() | VALUES[kind] for name, kind in TYPES.items()}
)


def _read(text: str) -> Condition | None:
    try:
        return condition(text)
    except ConditionError:
        return None


@settings(max_examples=200)
@given(text=TRUTHS, runs=st.lists(RUNS, min_size=1, max_size=4))
def test_what_fits_is_accepted_and_then_true_false_or_refused(text: str, runs: list[dict[str, Any]]) -> None:
    accepted = _read(text)
    if accepted is None:
        # Of what fits together only what is the same error for every run, or too long, is refused.
        with pytest.raises(
            ConditionError, match=r"fails for every|too large, or none|nested too deeply|more than|too much work"
        ):
            condition(text)
        return
    for run in runs:
        answer = _answer(accepted, run)
        assert isinstance(answer, bool) or answer == "null" or re.search(_OF_VALUES, answer), answer


_OF_VALUES = "overflow|divide by zero|modulus by zero|cannot convert|conversion|out of (int64 )?range|range"


def _answer(accepted: Condition, run: dict[str, Any]) -> bool | str:
    try:
        return accepted.evaluate(run)
    except ConditionError as error:
        return "null" if error.field and run[error.field] is None else error.message


@settings(max_examples=200)
@given(st.text(max_size=60) | st.text(alphabet="run.fill()[]{}!?:'\"\\&|=<>+-0123 \n\t`rb_", max_size=60))
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    _read(text)
