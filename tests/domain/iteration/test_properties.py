"""What holds of every sequence of values."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import EndingName
from airflow_calib_provider.domain.iteration.metrics import Fault, Reported
from airflow_calib_provider.domain.iteration.phases import JudgedStep, Phase
from airflow_calib_provider.domain.iteration.sequence import (
    Iterate,
    IterationEnd,
    IterationPlan,
    Next,
    Stage,
    next_step,
    plan,
)
from tests.domain.iteration.making import discard_from_step, ended, fit, judged, made, reported
from tests.domain.iteration.reference import reference

NAMES = ("a", "b", "c")

VALUE = st.floats(-3, 3) | st.floats(-100, 100) | st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1.0, -1.0, 20.0])

LIMITS = st.fixed_dictionaries(
    {
        "confirm": st.integers(1, 4),
        "min_steps": st.integers(1, 8),
        "max_steps": st.integers(8, 30),
        "freeze": st.booleans(),
    }
)


@st.composite
def sequences(draw: st.DrawFn, length: int = 30) -> list[dict[str, float]]:
    """Values of several metrics: anything, or an error that shrinks, swings or grows, with noise."""
    names = NAMES[: draw(st.integers(1, 3))]
    if draw(st.booleans()):
        return [{name: draw(VALUE) for name in names} for _ in range(length)]
    rng = random.Random(draw(st.integers(0, 2**32)))
    ratios = {name: rng.choice([0.3, 0.8, 0.95, 1.0, 1.1, 1.3, -0.8, -0.95, -1.05]) for name in names}
    sigma, beside = rng.choice([0.0, 0.3, 1.0]), rng.choice([0.0, 0.0, 3.0])
    return [
        {name: 20 * rng.choice([1, 1, 1, 3]) * ratios[name] ** k + beside + rng.gauss(0, sigma) for name in names}
        for k in range(length)
    ]


@given(sequences(), LIMITS)
def test_it_ends_as_the_reference_says(values: list[dict[str, float]], limits: dict[str, Any]) -> None:
    assert ended(fit(*values[0], **limits), values) == reference(values, **limits)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_it_ends_as_the_reference_says_of_many(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1_000):
        names = NAMES[: rng.randint(1, 3)]
        ratios = {name: rng.choice([0.3, 0.6, 0.8, 0.95, 1.0, 1.1, 1.3, -0.8, -0.9, -0.95, -1.05]) for name in names}
        sigma, beside, bad = rng.choice([0.0, 0.3, 1.0, 3.0]), rng.choice([0.0, 3.0]), rng.randint(0, 60)
        values = [
            {name: (60 if k == bad else 20 * ratios[name] ** k) + beside + rng.gauss(0, sigma) for name in names}
            for k in range(30)
        ]
        limits: dict[str, Any] = {
            "confirm": rng.randint(1, 3), "min_steps": rng.randint(1, 5), "freeze": rng.random() < 0.5
        }  # fmt: skip
        assert ended(fit(*names, **limits), values) == reference(values, **limits)


@given(sequences(), LIMITS)
def test_it_ends_within_max_steps(values: list[dict[str, float]], limits: dict[str, Any]) -> None:
    steps = judged(fit(*values[0], **limits), values)
    assert len(steps) <= limits["max_steps"]
    end = steps[-1].ended
    assert end is not None
    assert (end.step, end.result is None) == (len(steps), not end.advances)
    assert all(step.ended is None for step in steps[:-1])


@given(sequences(), LIMITS)
def test_frozen_stays_and_everything_is_when_it_converges(
    values: list[dict[str, float]], limits: dict[str, Any]
) -> None:
    phase = fit(*values[0], **limits)
    steps = judged(phase, values)
    for before, after in pairwise(steps):
        assert after.frozen[: len(before.frozen)] == before.frozen
        assert after.worst not in before.frozen
    assert limits["freeze"] or not steps[-1].frozen
    end = steps[-1].ended
    assert end is not None
    if limits["freeze"]:
        assert (end.name is EndingName.CONVERGED) == (set(steps[-1].frozen) == set(values[0]))


@given(sequences(), LIMITS)
def test_one_metric_ends_the_same_with_freeze_as_without(
    values: list[dict[str, float]], limits: dict[str, Any]
) -> None:
    alone = [{"a": step["a"]} for step in values]
    assert ended(fit("a", **{**limits, "freeze": True}), alone) == ended(fit("a", **{**limits, "freeze": False}), alone)


PLAN = plan(
    Iterate(
        phases=(
            fit("a", "b", name="digi", accept=("stalled", "oscillating", "max_steps"), max_steps=8),
            Phase("mip", visits=1),
            Phase("train", visits=3),
            Phase("word", verdict=True, max_steps=5, accept=("max_steps",)),
        ),
        sequence=(Stage(1, ("digi", "mip", "train")), Stage(2, ("word", "digi"))),
    )
)


def outcome(rng: random.Random, phase: Phase, visit: int) -> Reported | Fault:
    if rng.random() < 0.01:
        return Fault(rng.choice([EndingName.FAILED, EndingName.NOT_FINITE]), "as it happens")
    if phase.verdict:
        return Reported({}, rng.choice(["iterate", "iterate", "done", "not_enough_data"]))
    return reported({metric.name: 20 * rng.choice([0.4, 0.9, -0.9]) ** visit for metric in phase.metrics}, 0.1)


def answer(seed: int, nth: int, following: Next) -> Reported | Fault:
    """What comes out of the nth step that counts: the same whenever it is made."""
    phase = PLAN.legs[PLAN.index(following.stage, following.phase)].phase
    return outcome(random.Random(f"{seed} {nth}"), phase, following.visit)


def go_on(
    at: IterationPlan, steps: Sequence[JudgedStep], seed: int, until: int = 999
) -> tuple[list[JudgedStep], IterationEnd | None]:
    """Make steps as a watcher does, until there is no next one, or there are so many."""
    made_so_far = list(steps)
    while True:
        live = [step for step in made_so_far if not step.discarded]
        following = next_step(at, made_so_far)
        if isinstance(following, IterationEnd):
            return made_so_far, following
        if len(live) >= until:
            return made_so_far, None
        phase = at.legs[at.index(following.stage, following.phase)].phase
        step = made(
            following.n,
            answer(seed, len(live), following),
            visit=following.visit,
            stage=following.stage,
            phase=following.phase,
        )
        made_so_far.append(judge(phase, made_so_far, step))


def story(steps: Sequence[JudgedStep]) -> list[tuple[object, ...]]:
    """What counts of the steps, without their numbers."""
    return [
        (step.made.stage, step.made.phase, step.made.visit, step.made.outcome, step.u, step.frozen, step.verdict)
        for step in steps
        if not step.discarded
    ]


@given(st.integers(0, 2**32))
def test_the_same_again_is_the_same(seed: int) -> None:
    assert go_on(PLAN, [], seed) == go_on(PLAN, [], seed)


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_a_restart_anywhere_goes_on_in_the_same_way(seed: int, cut: int) -> None:
    """Whatever died: what follows is seen from the steps that were judged."""
    whole, end = go_on(PLAN, [], seed)
    part, _ = go_on(PLAN, [], seed, cut)
    assert part == whole[:cut]
    assert go_on(PLAN, part, seed) == (whole, end)


@given(st.integers(0, 2**32), st.data())
def test_going_back_to_a_step_goes_on_in_the_same_way(seed: int, data: st.DataObject) -> None:
    whole, end = go_on(PLAN, [], seed)
    assert end is not None
    back = discard_from_step(whole, data.draw(st.integers(1, len(whole))))
    again, other = go_on(PLAN, back, seed)
    assert story(again) == story(whole)
    assert other is not None
    assert (other.name, other.publishes, len(other.ends)) == (end.name, end.publishes, len(end.ends))
    numbers = [step.n for step in again]
    assert numbers == sorted(set(numbers))
    assert [step for step in again if step.discarded] == [step for step in back if step.discarded]
