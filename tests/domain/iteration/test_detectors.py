from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from airflow_calib_provider.domain.iteration.detectors import judge, oscillating
from airflow_calib_provider.domain.iteration.endings import ConstantsOf, EndingName
from airflow_calib_provider.domain.iteration.metrics import Fault, Metric, Reported, Within
from airflow_calib_provider.domain.iteration.phases import Detectors, Phase
from tests.domain.iteration.making import end_of, ended, fit, judged, made, metric, reported, resume


def geometric(ratio: float, start: float = 20.0, n: int = 40) -> list[float]:
    return [start * ratio**k for k in range(n)]


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (geometric(0.3), ("converged", 4)),
        (geometric(-0.5), ("converged", 6)),
        (geometric(0.8), ("converged", 15)),
        (geometric(0.95), ("max_steps", 30)),
        (geometric(-0.95), ("oscillating", 6)),
        (geometric(-1.0), ("oscillating", 6)),
        (geometric(-1.1), ("oscillating", 6)),
        (geometric(1.0), ("stalled", 6)),
        (geometric(1.3), ("diverging", 4)),
        # Not before min_steps, and of the limits themselves: 1 is inside, 10 times and 1000 times the best are not far.
        ([0.0, 0.0], ("converged", 2)),
        ([5.0, 1.0], ("converged", 2)),
        ([0.5, 3.0, 2.0, 1.001], None),
        ([1.5, 1500.0], None),
        ([1.5, 1500.5], ("diverging", 2)),
        ([0.1, 1000.0], None),
        ([0.1, 1000.1], ("diverging", 2)),
        ([3.0, 30.0, 30.0], None),
        ([3.0, 30.1, 30.1], ("diverging", 3)),
        ([3.0, 30.1, 29.9], None),
        ([0.3, 10.1, 10.1], ("diverging", 3)),
        # Up three times running, but not by so much.
        ([10.0, 12.0, 16.0, 20.0], None),
        ([10.0, 12.0, 16.0, 20.1], ("diverging", 4)),
        ([10.0, 12.0, 11.9, 24.0], None),
        # A recovery after one bad step is progress.
        ([20, 12, 7.2, 4.3, 60, 36, 21.6, 13, 7.8, 4.7, 2.8, 1.7, 1.0], ("converged", 13)),
    ],
)
def test_how_a_phase_ends(values: Sequence[float], how: tuple[str, int] | None) -> None:
    assert ended(fit(), values) == how


def test_the_limits_of_a_phase_are_its_own() -> None:
    assert ended(fit(min_steps=1), [0.5]) == ("converged", 1)
    assert ended(fit(min_steps=4), geometric(0.3)) == ("converged", 4)
    assert ended(fit(min_steps=5), geometric(0.3)) == ("converged", 5)
    assert ended(fit(max_steps=3), geometric(0.8)) == ("max_steps", 3)
    assert ended(fit(max_steps=15), geometric(0.8)) == ("converged", 15)
    assert ended(fit(max_steps=1), [50.0]) == ("max_steps", 1)
    assert ended(fit(confirm=2), [0.5, 3.0, 0.5, 1.0]) == ("converged", 4)
    assert ended(fit(confirm=3, min_steps=1), [0.5, 0.5, 0.5]) == ("converged", 3)


def test_what_is_inside_is_going_where_it_should() -> None:
    """Where a person wants it confirmed, the steps on the way are no stalling, oscillating or diverging."""
    assert ended(fit(confirm=9), [0.5] * 9) == ("converged", 9)
    assert ended(fit(confirm=9), [0.5, -0.5] * 5) == ("converged", 9)
    assert ended(fit(confirm=9, max_steps=8), [0.5] * 9) == ("max_steps", 8)


def test_the_time_of_a_phase() -> None:
    phase = fit(max_wall=60.0)
    first = judge(phase, [], made(1, 20.0, seconds=59.9))
    assert first.ended is None
    end = end_of(judge(phase, [first], made(2, 15.0, seconds=60.0)), "max_steps")
    assert end.numbers["max_wall"] == 60.0
    end_of(judge(phase, [first], made(2, 0.5, seconds=3600.0)), "converged")


def test_the_end_says_which_metric_which_step_and_which_was_best() -> None:
    end = end_of(
        judged(fit("a", "b"), [{"a": 9.0, "b": 1.0}, {"a": 4.0, "b": 5.0}, *[{"a": 0.0, "b": -60.0}] * 9])[-1],
        "diverging",
    )
    assert (end.metric, end.step, end.visit, end.best) == ("b", 4, 4, 2)
    assert end.reason() == {
        "code": "iteration_diverging", "stage": 1, "phase": "fit", "step": 4, "visit": 4, "metric": "b", "best": 2,
        "best_is": 5.0, "u": 60.0, "best_u": 5.0, "how": "far", "limit": 10.0, "value": -60.0,
    }  # fmt: skip
    assert (end.result, end.advances, end.publishes) == (None, False, False)


def test_what_oscillates_says_by_how_much_to_damp() -> None:
    numbers = end_of(judged(fit(), geometric(-0.96))[-1], "oscillating").numbers
    assert numbers["left"] == pytest.approx(0.96)
    assert numbers["damping"] == pytest.approx(1 / 1.96)
    damped = 20.0 - 1 / 1.96 * (20.0 + 0.96 * 20.0)
    assert ended(fit(), [20.0, damped]) == ("converged", 2)


def test_an_update_of_the_wrong_sign_is_diverging_whatever_its_errors() -> None:
    """The error counts only where it could change the verdict."""
    errors = [0.12, 0.3, 0.76, 1.9]
    values = [reported(value, error) for value, error in zip([25.0, 57.0, 146.0, 380.0], errors, strict=True)]
    assert ended(fit(), values) == ("diverging", 4)
    assert ended(fit(), [reported(4.01, 1.0)]) is None
    assert ended(fit(), [reported(-3.99, 1.0)]) == ("not_enough_data", 1)
    assert ended(fit(), [reported(0.0, 0.51)]) == ("not_enough_data", 1)
    assert ended(fit("a", "b"), [reported({"a": 50.0, "b": 0.5}, 0.6)]) == ("not_enough_data", 1)


def test_no_sign_change_through_nothing() -> None:
    assert ended(fit(), [20, -20, 20, 0.0]) == ("converged", 4)
    assert oscillating([20, -20, 20, -20, 20, -20], Detectors()) is not None
    assert oscillating([20, -20, 20, 0.0, 20, -20], Detectors()) is None
    assert oscillating([-20, 20, -20, 20, -20], Detectors()) is None


def test_of_several_metrics_the_worst_one_is_asked_whether_it_oscillates() -> None:
    # Whichever is worst has another sign each time, and none of them oscillates.
    taken_in_turn = [{"a": 9 * 0.97**k, "b": -9 * 0.97**k} for k in range(6)]
    for k, step in enumerate(taken_in_turn):
        step["a" if k % 2 else "b"] *= 0.99
    assert ended(fit("a", "b"), taken_in_turn) is None
    # One that oscillates beside another that is better all the time.
    end = end_of(judged(fit("a", "b"), [{"a": 5 * 0.9**k, "b": 20 * (-1) ** k} for k in range(9)])[-1], "oscillating")
    assert (end.metric, end.step) == ("b", 6)
    # What oscillates inside is not asked while the other comes closer.
    assert ended(fit("a", "b"), [{"a": 20 * 0.8**k, "b": 0.9 * (-1) ** k} for k in range(20)]) == ("converged", 15)


@pytest.mark.parametrize(
    ("error", "how"),
    [(0.5, ("converged", 2)), (0.51, ("not_enough_data", 1)), (None, ("converged", 2)), (0.0, ("converged", 2))],
)
def test_an_error_above_half_of_the_tolerance(error: float | None, how: tuple[str, int]) -> None:
    assert ended(fit(), [reported(0.1, error)] * 3) == how


def test_an_error_is_compared_with_its_own_tolerance() -> None:
    phase = Phase("fit", metrics=(Metric("m", 10.0, Within(2, relative=True)),))
    assert ended(phase, [reported(10.0, 0.101)] * 2) == ("not_enough_data", 1)
    end = end_of(judged(phase, [reported(10.0, 0.101)])[-1], "not_enough_data")
    assert (end.metric, end.numbers["tolerance"]) == ("m", 0.2)


@pytest.mark.parametrize(("events", "how"), [(100, None), (99, "not_enough_data"), (None, "not_enough_data")])
@pytest.mark.parametrize(
    "phase", [fit(min_events=100), Phase("fit", visits=2, min_events=100)], ids=["metrics", "visits"]
)
def test_events(phase: Phase, events: int | None, how: str | None) -> None:
    step = judge(phase, [], made(1, 20.0, events=events))
    assert (str(step.ended.name) if step.ended else None) == how


@pytest.mark.parametrize("name", [EndingName.FAILED, EndingName.NOT_FINITE])
@pytest.mark.parametrize(
    "phase", [fit(), Phase("fit", visits=1), Phase("fit", verdict=True)], ids=["m", "visits", "verdict"]
)
def test_a_fault_ends_it_at_once(phase: Phase, name: EndingName) -> None:
    end = end_of(judge(phase, [], made(1, Fault(name, "why"))), name)
    assert (end.numbers, end.best, end.result) == ({"said": "why"}, None, None)


def test_what_cannot_be_compared_is_a_fault() -> None:
    assert end_of(judge(fit("m", "n"), [], made(1, 1.0)), "failed").numbers["said"] == "metrics are missing: n"
    tiny = Phase("fit", metrics=(metric("m", 0.0, Within(1e-300)),))
    end_of(judge(tiny, [], made(1, 1e200)), "not_finite")


def test_the_same_constants_again() -> None:
    same = {"constants_in": "x", "constants_out": "x"}
    first = judge(fit(confirm=3), [], made(1, 0.5, **same))
    end = end_of(first, "no_change")
    assert (end.result, end.advances, end.publishes) == (ConstantsOf(1, updated=False), True, False)
    end = end_of(judge(fit(), [], made(1, 1.5, **same)), "stalled")
    assert end.numbers["unchanged"] is True
    # What earlier steps have changed is new, and is published: an ending as any other.
    changed = judge(fit(), [], made(1, 20.0, constants_out="x"))
    end_of(judge(fit(), [changed], made(2, 0.5, **same)), "converged")
    assert judge(fit(confirm=2), [changed], made(2, 0.5, **same)).ended is None
    end_of(judge(fit(), [changed], made(2, 1.5, **same)), "stalled")
    unknown = {"constants_in": "", "constants_out": ""}
    assert judge(fit(), [], made(1, 0.5, **unknown)).ended is None


@pytest.mark.parametrize(("visits", "name"), [(1, "single_pass"), (3, "fixed_count")])
def test_visits(visits: int, name: str) -> None:
    steps = judged(Phase("fit", visits=visits), [Reported()] * 9)
    assert len(steps) == visits
    end = end_of(steps[-1], name)
    assert (end.result, end.publishes, end.best) == (ConstantsOf(visits, updated=True), True, None)


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (["done"], ("converged", 1)),
        (["iterate", "iterate", "done"], ("converged", 3)),
        (["iterate", "not_enough_data"], ("not_enough_data", 2)),
        (["failed"], ("failed", 1)),
        (["iterate"] * 31, ("max_steps", 30)),
        ([None], ("failed", 1)),
    ],
)
def test_the_verdict_of_an_update(words: list[str | None], how: tuple[str, int]) -> None:
    assert ended(Phase("fit", verdict=True), [Reported({}, word) for word in words]) == how


def test_a_verdict_and_the_same_constants_again() -> None:
    phase, same = Phase("fit", verdict=True), {"constants_in": "x", "constants_out": "x"}
    end_of(judge(phase, [], made(1, Reported({}, "done"), **same)), "no_change")
    end_of(judge(phase, [], made(1, Reported({}, "iterate"), **same)), "stalled")


def test_the_constants_that_a_phase_ends_with() -> None:
    assert end_of(judged(fit(), geometric(0.3))[-1], "converged").result == ConstantsOf(4, updated=False)
    assert end_of(judged(fit(result="updated"), geometric(0.3))[-1], "converged").result == ConstantsOf(4, updated=True)
    done = [Reported({}, "done")]
    assert end_of(judged(Phase("fit", verdict=True), done)[-1], "converged").result == ConstantsOf(1, updated=True)
    measured = Phase("fit", verdict=True, result="measured")
    assert end_of(judged(measured, done)[-1], "converged").result == ConstantsOf(1, updated=False)


def test_an_ending_that_is_accepted_hands_on_its_best_step() -> None:
    phase = fit(max_steps=4, accept=("max_steps",))
    end = end_of(judged(phase, [9.0, 3.0, 5.0, 4.0])[-1], "max_steps")
    assert (end.accepted, end.advances, end.publishes) == (True, True, True)
    assert end.result == ConstantsOf(2, updated=False)
    words = Phase("fit", verdict=True, max_steps=2, accept=("max_steps",))
    end = end_of(judged(words, [Reported({}, "iterate")] * 2)[-1], "max_steps")
    assert end.result == ConstantsOf(2, updated=True)


def test_a_step_with_too_little_data_is_best_only_where_there_is_no_other() -> None:
    phase = fit(accept=("not_enough_data",))
    assert end_of(judged(phase, [5.0, 3.0, reported(0.1, 0.9)])[-1], "not_enough_data").best == 2
    assert end_of(judged(phase, [reported(0.1, 0.9)])[-1], "not_enough_data").best == 1


def test_what_is_frozen_counts_no_more() -> None:
    phase = fit("a", "b", freeze=True)
    steps = judged(phase, [{"a": 9, "b": 20}, {"a": 0.5, "b": 9}, {"a": 3.0, "b": 4.0}, {"a": 30, "b": 0.2}])
    assert [step.frozen for step in steps] == [(), ("a",), ("a",), ("a", "b")]
    assert [(step.u, step.worst) for step in steps] == [(20, "b"), (9, "b"), (4, "b"), (0.2, "b")]
    assert end_of(steps[-1], "converged").numbers["moved"] == {"a": 30}
    # Without it, it is not there yet.
    assert (
        ended(fit("a", "b"), [{"a": 9, "b": 20}, {"a": 0.5, "b": 9}, {"a": 3.0, "b": 4.0}, {"a": 30, "b": 0.2}]) is None
    )
    # They need not be inside in the same step.
    assert ended(phase, [{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 2}, {"a": 2, "b": 0.5}]) == ("converged", 3)


def test_the_error_of_what_is_frozen_does_not_matter_but_of_what_freezes() -> None:
    phase = fit("a", "b", freeze=True)
    steps = judged(phase, [{"a": 9, "b": 9}, {"a": 0.5, "b": 9}])
    later = reported({"a": 0.5, "b": 5.0}, 0.9)
    later = Reported({"a": later.metrics["a"], "b": reported(5.0, 0.1).metrics["m"]})
    assert judge(phase, steps, made(3, later)).ended is None
    assert end_of(judge(phase, steps[:1], made(2, later)), "not_enough_data").metric == "a"


def test_errors_that_nobody_knows_are_told() -> None:
    steps = judged(fit("a", "b"), [Reported({**reported({"a": 0.1}, 0.1).metrics, **reported({"b": 0.1}).metrics})] * 2)
    assert end_of(steps[-1], "converged").numbers["without_error"] == ["b"]


def test_going_on_after_a_bad_ending_counts_anew() -> None:
    phase = fit(max_steps=7)
    steps = judged(phase, [20.0] * 6)
    end_of(steps[-1], "stalled")
    with pytest.raises(ValueError, match="phase fit has ended with step 6"):
        judge(phase, steps, made(7, 20.0))
    resumed = resume(steps)
    again = judged(phase, [20.0] * 9, resumed)
    assert end_of(again[-1], "stalled").step == 12
    assert end_of(judged(phase, geometric(0.8), resumed)[-1], "max_steps").step == 13
    # One step is not enough, as at the beginning.
    assert end_of(judged(phase, [0.5] * 2, resumed)[-1], "converged").step == 8


def test_what_is_frozen_stays_so_when_a_person_goes_on() -> None:
    phase = fit("a", "b", freeze=True)
    steps = judged(phase, [{"a": 0.5, "b": 20.0}] * 7)
    end_of(steps[-1], "stalled")
    after = judged(phase, [{"a": 30.0, "b": 0.5}] * 2, resume(steps))
    assert after[-2].frozen == ("a",)
    end_of(after[-1], "converged")


def test_other_phases_and_discarded_steps_are_not_looked_at() -> None:
    phase = fit()
    first = judged(phase, [30.0, 20.0])
    aside = [replace(first[1], discarded=True), judge(fit(name="other"), [], made(3, 1.0, visit=1, phase="other"))]
    assert judge(phase, [first[0], *aside], made(4, 0.5, visit=2)) == replace(
        judge(phase, [first[0]], made(4, 0.5, visit=2))
    )


def test_an_edited_limit_holds_from_the_next_step_on() -> None:
    steps = judged(fit(), geometric(0.9, n=10))
    assert steps[-1].ended is None
    end_of(judge(fit(max_steps=5), steps, made(11, 5.0)), "max_steps")
