from __future__ import annotations

import json
import math
from typing import Any

import pytest

from airflow_calib_provider.domain.iteration.metrics import (
    Fault,
    Measured,
    Metric,
    Reported,
    Within,
    freeze,
    parse_within,
    read_report,
    standing,
)
from tests.domain.iteration.making import metric

MASS = Metric("mass", 91.19, Within(0.5, relative=True))


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("0.4", Within(0.4)),
        (0.4, Within(0.4)),
        (2, Within(2.0)),
        ("2%", Within(2.0, relative=True)),
        ("0.5 %", Within(0.5, relative=True)),
        ("1e-3", Within(0.001)),
        (".5", Within(0.5)),
        ("150%", Within(150.0, relative=True)),
    ],
)
def test_within(text: str | float, within: Within) -> None:
    assert parse_within(text) == within
    assert parse_within(str(within)) == within


@pytest.mark.parametrize(
    "text", ["", "0", "0%", "-1", "nan", "inf", "1e999", math.nan, math.inf, True, "2 percent", "%", "1%%", "0x1", "٣"]
)
def test_no_within(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not an amount above 0"):
        parse_within(text)


def test_a_deviation_is_in_tolerances_and_has_a_sign() -> None:
    assert MASS.tolerance == pytest.approx(0.45595)
    assert MASS.deviation(91.19 - 0.45595) == pytest.approx(-1)
    assert Metric("m", -10.0, Within(2, relative=True)).deviation(-9.6) == pytest.approx(2)
    assert Metric("m", 10.0, Within(0.4)).deviation(9.6) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("within", "target", "said"),
    [
        (Within(2, relative=True), 0.0, "2% of the target is nothing, as the target is 0"),
        (Within(1e-10, relative=True), 5e-324, "no value can be compared"),
        (Within(1e300, relative=True), 1e300, "no value can be compared"),
    ],
)
def test_a_tolerance_that_is_none(within: Within, target: float, said: str) -> None:
    assert said in metric("m", target, within).mistake()
    with pytest.raises(ValueError, match="the metric m: "):
        _ = metric("m", target, within).tolerance


def read(text: str, *names: str, verdict: bool = False) -> Reported | Fault:
    return read_report(json.loads(text), [metric(name) for name in names], verdict=verdict)


def test_a_report() -> None:
    found = read('{"metrics": {"b": {"value": 3}, "a": {"value": 91.1, "error": 0.05}}}', "a", "b")
    assert found == Reported({"a": Measured(91.1, 0.05), "b": Measured(3.0, None)})
    assert list(found.metrics) == ["a", "b"]  # type: ignore[union-attr]


def test_where_none_is_declared_what_is_reported_is_kept() -> None:
    assert read("{}") == Reported()
    assert read('{"metrics": {"b": {"value": 3, "error": null}}}') == Reported({"b": Measured(3.0)})
    assert read('{"verdict": "iterate"}', verdict=True) == Reported({}, "iterate")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("[]", "failed", 'the report is a list of 0, not an object such as {"metrics": {…}}'),
        ("{}", "failed", "metric m is missing"),
        ('{"metrics": 3}', "failed", "metrics is 3, not an object"),
        ('{"metrics": {"m": {"value": 1}, "n": {"value": 1}}}', "failed", "metric n is not declared (declared: m)"),
        ('{"metrics": {"n": {"value": 1}}}', "failed", "metric m is missing; metric n is not declared (declared: m)"),
        ('{"metrics": {"m": 3}}', "failed", "metric m is 3, not an object"),
        ('{"metrics": {"m": {}}}', "failed", "metric m: value is missing"),
        ('{"metrics": {"m": {"value": null}}}', "failed", "metric m: value is None, not a number"),
        ('{"metrics": {"m": {"value": "3"}}}', "failed", "metric m: value is '3', not a number"),
        ('{"metrics": {"m": {"value": true}}}', "failed", "metric m: value is True, not a number"),
        ('{"metrics": {"m": {"value": [1]}}}', "failed", "metric m: value is a list of 1, not a number"),
        ('{"metrics": {"m": {"value": NaN}}}', "not_finite", "metric m: value is nan, not a finite number"),
        ('{"metrics": {"m": {"value": -Infinity}}}', "not_finite", "metric m: value is -inf, not a finite number"),
        ('{"metrics": {"m": {"value": 1e400}}}', "not_finite", "metric m: value is inf, not a finite number"),
        ('{"metrics": {"m": {"value": 1e301}}}', "not_finite", "of at most 1e+300"),
        ('{"metrics": {"m": {"value": 1, "error": NaN}}}', "not_finite", "metric m: error is nan"),
        ('{"metrics": {"m": {"value": 1, "error": -0.1}}}', "failed", "metric m: error is -0.1, below 0"),
        ('{"metrics": {"m": {"value": NaN, "error": -1}}}', "failed", "error is -1, below 0; metric m: value is nan"),
        ('{"metrics": {"m": {"value": 1, "eror": 1}}}', "failed", "metric m has unknown keys: eror"),
        ('{"metrics": {"m": {"value": 1}}, "more": 1}', "failed", "the report has unknown keys: more"),
        ('{"metrics": {"m": {"value": 1}}, "verdict": "done"}', "failed", "unknown keys: verdict"),
    ],
)
def test_a_report_that_is_refused(text: str, name: str, said: str) -> None:
    found = read(text, "m")
    assert isinstance(found, Fault)
    assert (str(found.name), said in found.said) == (name, True), found


@pytest.mark.parametrize(
    ("text", "said"), [("{}", "missing"), ('{"verdict": "ok"}', "'ok'"), ('{"verdict": []}', "a li")]
)
def test_a_verdict_that_is_none(text: str, said: str) -> None:
    found = read(text, verdict=True)
    assert isinstance(found, Fault)
    assert f"verdict is {said}" in found.said
    assert "not one of iterate, done, not_enough_data, failed" in found.said


def test_numbers_that_are_too_long_to_be_written() -> None:
    found: Any = read_report({"metrics": {"m": {"value": 10**5000}}}, [metric()])
    assert (found.name, "a whole number of more than 40 digits" in found.said) == ("not_finite", True)
    many = {f"m{n}": {"value": 1} for n in range(2001)}
    assert "2001 metrics are reported" in read_report({"metrics": many}, []).said  # type: ignore[union-attr]


def test_the_worst_is_the_largest_that_counts_and_the_first_of_equals() -> None:
    metrics = [metric("a"), metric("b"), metric("c")]
    values = {"a": Measured(2.0), "b": Measured(-3.0), "c": Measured(3.0)}
    found = standing(metrics, values)
    assert (found.u, found.worst, found.deviations) == (3.0, "b", {"a": 2.0, "b": -3.0, "c": 3.0})
    assert standing(metrics, values, {"b"}).worst == "c"
    assert standing(metrics, values, {"b", "c"}).u == 2.0
    nothing = standing(metrics, values, {"a", "b", "c"})
    assert (nothing.u, nothing.worst) == (0.0, None)


def test_freezing_asks_what_convergence_asks() -> None:
    metrics, inside, outside = [metric("a"), metric("b")], {"a": 1.0, "b": 5.0}, {"a": 1.1, "b": 5.0}

    def after(
        *steps: dict[str, float], frozen: tuple[str, ...] = (), confirm: int = 1, least: int = 2
    ) -> tuple[str, ...]:
        return freeze(frozen, steps, metrics, confirm=confirm, min_steps=least)

    assert after(inside) == ()
    assert after(inside, least=1) == ("a",)
    assert after(outside, inside) == ("a",)
    assert after(inside, outside) == ()
    assert after(outside, inside, confirm=2) == ()
    assert after(outside, inside, inside, confirm=2) == ("a",)
    assert after(inside, outside, frozen=("a",)) == ("a",)
    assert after(inside, inside, frozen=("b",)) == ("b", "a")
