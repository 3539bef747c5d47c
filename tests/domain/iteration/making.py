"""Phases and steps for tests: metrics have target 0 and tolerance 1, so that a value is its own d."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Fault, Measured, Metric, Reported, Within
from airflow_calib_provider.domain.iteration.phases import JudgedStep, MadeStep, Phase

UNIT = Within(1.0)


def metric(name: str = "m", target: float = 0.0, within: Within = UNIT) -> Metric:
    return Metric(name, target, within)


def fit(*names: str, name: str = "fit", **limits: Any) -> Phase:
    """A phase with metrics of these names."""
    return Phase(name, metrics=tuple(map(metric, names or ("m",))), **limits)


def reported(values: Mapping[str, float] | float, error: float | None = None) -> Reported:
    by_name = values if isinstance(values, Mapping) else {"m": values}
    return Reported({name: Measured(value, error) for name, value in by_name.items()})


def made(n: int, outcome: Reported | Fault | Mapping[str, float] | float, visit: int = 0, **more: Any) -> MadeStep:
    if not isinstance(outcome, Reported | Fault):
        outcome = reported(outcome)
    known = {"stage": 1, "phase": "fit", "constants_in": f"x{n}", "constants_out": f"x{n + 1}"}
    return MadeStep(n=n, visit=visit or n, outcome=outcome, **{**known, **more})


def judged(
    phase: Phase, values: Iterable[Reported | Fault | Mapping[str, float] | float], before: Iterable[JudgedStep] = ()
) -> list[JudgedStep]:
    """The steps of a phase, until it ends or there are no more values."""
    steps = list(before)
    for value in values:
        steps.append(judge(phase, steps, made(len(steps) + 1, value, phase=phase.name)))
        if steps[-1].ended is not None:
            break
    return steps


def ended(phase: Phase, values: Iterable[Reported | Fault | Mapping[str, float] | float]) -> tuple[str, int] | None:
    """How and when the phase ends; ``None``: it goes on."""
    last = judged(phase, values)[-1]
    return None if last.ended is None else (str(last.ended.name), last.n)


def end_of(step: JudgedStep, name: str) -> PhaseEnd:
    assert step.ended is not None
    assert step.ended.name is EndingName(name), step.ended
    return step.ended


def resume(steps: Sequence[JudgedStep]) -> tuple[JudgedStep, ...]:
    """As when a person goes on after the last of them, whose phase may have ended badly."""
    last = max((position for position, step in enumerate(steps) if not step.discarded), default=-1)
    return tuple(
        replace(step, resumed=True) if position == last and step.ended is not None and not step.ended.advances else step
        for position, step in enumerate(steps)
    )


def discard_from_step(steps: Sequence[JudgedStep], n: int) -> tuple[JudgedStep, ...]:
    """As when a person goes back: it and all later ones count for nothing any more."""
    return tuple(replace(step, discarded=True) if step.n >= n else step for step in steps)
