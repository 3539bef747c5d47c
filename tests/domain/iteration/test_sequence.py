from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import ConstantsOf, EndingName
from airflow_calib_provider.domain.iteration.metrics import Fault, Reported
from airflow_calib_provider.domain.iteration.phases import JudgedStep, Phase
from airflow_calib_provider.domain.iteration.sequence import (
    Corner,
    Iterate,
    IterationEnd,
    IterationPlan,
    Next,
    Stage,
    next_step,
    plan,
)
from airflow_calib_provider.errors import CalibError
from tests.domain.iteration.making import discard_from_step, fit, made, resume

CALORIMETER = ("ecal_digi", "hcal_digi", "mip", "em_scale", "had_scale")

PHASES = (
    fit("barrel", "endcap", name="ecal_digi"),
    fit(name="hcal_digi"),
    Phase("mip", visits=1, needs=("hcal_digi",)),
    fit(name="em_scale"),
    fit(name="had_scale"),
    Phase("photons", visits=1),
)
WHOLE = Iterate(PHASES, (Stage(1, CALORIMETER), Stage(2, ("photons",)), Stage(3, CALORIMETER)))

ONE = plan(Iterate((fit(),)))
THREE = plan(Iterate((fit(), Phase("mip", visits=1), fit(name="scale"))))


def legs(declared: Iterate) -> list[tuple[int, str]]:
    return [(leg.stage, leg.phase.name) for leg in plan(declared).legs]


def test_the_whole_sequence() -> None:
    first = [(1, name) for name in CALORIMETER]
    assert legs(WHOLE) == [*first, (2, "photons"), *((3, name) for name in CALORIMETER)]


def test_without_a_sequence_it_is_the_order_in_which_it_is_written() -> None:
    assert legs(Iterate(PHASES)) == [(1, phase.name) for phase in PHASES]


@pytest.mark.parametrize(
    ("start", "stop", "ends"),
    [
        (Corner(2), None, [(2, "photons"), (3, "had_scale")]),
        (Corner(1, "had_scale"), Corner(2), [(1, "had_scale"), (2, "photons")]),
        (None, Corner(1), [(1, "ecal_digi"), (1, "had_scale")]),
        (Corner(phase="photons"), Corner(phase="photons"), [(2, "photons"), (2, "photons")]),
        (Corner(3, "mip"), Corner(3, "em_scale"), [(3, "mip"), (3, "em_scale")]),
    ],
)
def test_start_and_stop_are_included(start: Corner | None, stop: Corner | None, ends: list[tuple[int, str]]) -> None:
    found = legs(replace(WHOLE, start=start, stop=stop))
    assert [found[0], found[-1]] == ends


def walk(at: IterationPlan, values: Sequence[float | Fault], before: Sequence[JudgedStep] = ()) -> list[JudgedStep]:
    """Steps as they follow each other; what a phase without metrics measures is not looked at."""
    steps = list(before)
    for value in values:
        following = next_step(at, steps)
        assert isinstance(following, Next)
        phase = at.legs[at.index(following.stage, following.phase)].phase
        outcome = Reported() if not phase.metrics and not isinstance(value, Fault) else value
        where = {"visit": following.visit, "stage": following.stage, "phase": following.phase}
        steps.append(judge(phase, steps, made(following.n, outcome, **where)))
    return steps


def test_the_first_step() -> None:
    assert next_step(ONE, []) == Next(1, "fit", 1, 1, None)
    assert next_step(ONE, [], taken=4) == Next(1, "fit", 1, 5, None)


def test_a_phase_goes_on_with_what_its_update_made() -> None:
    assert next_step(ONE, walk(ONE, [20.0, 10.0])) == Next(1, "fit", 3, 3, ConstantsOf(2, updated=True))


def test_the_next_phase_begins_with_what_the_one_before_hands_on() -> None:
    good = walk(THREE, [20.0, 10.0, 0.5])
    assert next_step(THREE, good) == Next(1, "mip", 1, 4, ConstantsOf(3, updated=False))
    passed = walk(THREE, [0.0], good)
    assert next_step(THREE, passed) == Next(1, "scale", 1, 5, ConstantsOf(4, updated=True))
    end = next_step(THREE, walk(THREE, [5.0, 0.3], passed))
    assert isinstance(end, IterationEnd)
    assert (end.name, end.publishes, end.extends) == (EndingName.CONVERGED, True, False)
    assert end.result == ConstantsOf(6, updated=False)
    assert [one.phase for one in end.ends] == ["fit", "mip", "scale"]
    assert end.reason()["code"] == "iteration_converged"


def test_a_phase_of_several_stages_counts_its_visits_in_each() -> None:
    at = plan(Iterate((fit(), Phase("mip", visits=2)), (Stage(1, ("fit",)), Stage(2, ("mip", "fit")))))
    steps = walk(at, [9.0, 0.5, 0.0, 0.0])
    assert next_step(at, steps) == Next(2, "fit", 1, 5, ConstantsOf(4, updated=True))
    assert walk(at, [9.0], steps)[-1].made.visit == 1


def test_the_names_of_what_is_frozen_are_handed_on_in_the_phase_only() -> None:
    at = plan(Iterate((fit("a", "b", freeze=True), fit("a", "b", name="other"))))
    steps: list[JudgedStep] = []
    for n, values in enumerate([{"a": 0.5, "b": 9.0}, {"a": 0.5, "b": 5.0}, {"a": 7.0, "b": 0.5}], start=1):
        steps.append(judge(at.legs[0].phase, steps, made(n, values)))
    two, three = next_step(at, steps[:2]), next_step(at, steps)
    assert isinstance(two, Next)
    assert isinstance(three, Next)
    assert (two.frozen, three.frozen) == (("a",), ())


@pytest.mark.parametrize("name", ["stalled", "failed"])
def test_after_a_bad_ending_there_is_no_next_step(name: str) -> None:
    steps = walk(ONE, [20.0] * 6 if name == "stalled" else [Fault(EndingName.FAILED, "no report")])
    end = next_step(ONE, steps)
    assert isinstance(end, IterationEnd)
    assert (str(end.name), end.result, end.publishes, end.extends) == (name, None, False, False)


def test_going_on_after_a_bad_ending() -> None:
    steps = resume(walk(ONE, [20.0] * 6))
    assert next_step(ONE, steps) == Next(1, "fit", 7, 7, ConstantsOf(6, updated=True))
    assert resume(steps) == steps
    # Where the step was spoilt, its visit is made again with the constants that it began with.
    spoilt = resume(walk(ONE, [20.0, 10.0, Fault(EndingName.NOT_FINITE, "NaN")]))
    assert next_step(ONE, spoilt) == Next(1, "fit", 3, 4, ConstantsOf(3, updated=False))
    end = next_step(ONE, walk(ONE, [5.0, 0.1], spoilt))
    assert isinstance(end, IterationEnd)
    assert [str(one.name) for one in end.ends] == ["converged"]


def test_a_visit_that_failed_is_made_again() -> None:
    at = plan(Iterate((Phase("mip", visits=2),)))
    steps = walk(at, [0.0, Fault(EndingName.FAILED, "no quorum")])
    again = walk(at, [0.0], resume(steps))
    assert (again[-1].made.visit, again[-1].n, again[-1].verdict) == (2, 3, "fixed_count")


def test_resuming_what_has_not_ended_badly_changes_nothing() -> None:
    for values in ([], [20.0], [20.0, 0.5]):
        steps = walk(ONE, values)
        assert list(resume(steps)) == steps


def test_from_a_step_on() -> None:
    steps = walk(THREE, [20.0, 10.0, 0.5, 0.0, 5.0])
    back = discard_from_step(steps, 2)
    assert [step.discarded for step in back] == [False, True, True, True, True]
    assert next_step(THREE, back) == Next(1, "fit", 2, 6, ConstantsOf(1, updated=True))
    assert next_step(THREE, back, taken=6) == Next(1, "fit", 2, 7, ConstantsOf(1, updated=True))
    assert next_step(THREE, discard_from_step(steps, 1)) == Next(1, "fit", 1, 6, None)
    assert next_step(THREE, discard_from_step(steps, 5)) == Next(1, "scale", 1, 6, ConstantsOf(4, updated=True))
    again = discard_from_step(walk(THREE, [9.0], back), 6)
    assert [step.n for step in again if not step.discarded] == [1]


def test_a_plan_that_was_edited_below_its_steps() -> None:
    with pytest.raises(
        CalibError, match="phase fit of stage 1, of which steps were made, is not between start and stop"
    ):
        next_step(plan(Iterate((fit(name="other"),))), walk(ONE, [20.0]))


def no_change(phase: Phase, n: int) -> JudgedStep:
    return judge(phase, [], made(n, 0.5, visit=1, phase=phase.name, constants_in="x", constants_out="x"))


def test_it_is_no_change_only_if_no_phase_has_changed_anything() -> None:
    at = plan(Iterate((fit(), fit(name="scale"))))
    first = no_change(at.legs[0].phase, 1)
    assert next_step(at, [first]) == Next(1, "scale", 1, 2, ConstantsOf(1, updated=False))
    end = next_step(at, [first, no_change(at.legs[1].phase, 2)])
    assert isinstance(end, IterationEnd)
    assert (end.name, end.publishes, end.extends) == (EndingName.NO_CHANGE, False, True)
    end = next_step(at, [*walk(at, [9.0, 0.5]), no_change(at.legs[1].phase, 3)])
    assert isinstance(end, IterationEnd)
    assert (end.name, end.publishes, end.extends) == (EndingName.CONVERGED, True, False)
    assert end.result == ConstantsOf(3, updated=False)


def test_what_was_accepted_gives_the_whole_its_name() -> None:
    at = plan(Iterate((fit(max_steps=3, accept=("max_steps",)), fit(name="scale"))))
    steps = walk(at, [20.0, 4.0, 5.0])
    assert next_step(at, steps) == Next(1, "scale", 1, 4, ConstantsOf(2, updated=False))
    end = next_step(at, walk(at, [9.0, 0.5], steps))
    assert isinstance(end, IterationEnd)
    assert (end.name, end.publishes, end.result) == (EndingName.MAX_STEPS, True, ConstantsOf(5, updated=False))
    assert end.reason()["accepted"] is True
