"""Whether a phase goes on after a step, or how it ends: pure functions of the steps of this phase.

In this order, the first that holds; u and d are those of
:mod:`~airflow_calib_provider.domain.iteration.metrics`, k is the last step:

1. ``failed``, ``not_finite``: there is no result, or none that can be compared. At once.
2. ``not_enough_data``: fewer events than ``min_events``, or a metric that counts has an error above half of its
   tolerance, and is inside or at most three errors outside, so that luck would decide. At once: with an error of a
   whole tolerance, 15 % of sequences that end three tolerances off would be called converged. What is further off is
   outside whatever the luck, so that the other rules can say where it goes.
3. The same constants again, of which there is nothing more to be learned: outside it is ``stalled``; inside it is
   ``no_change``, if they are those with which the phase began. If earlier steps have changed them this is an ending as
   any other, by the next rule: what the phase has found is new.
4. ``converged``, not before ``min_steps``: inside in the last ``confirm`` steps; with ``freeze``, every metric frozen.
5. A step that is inside is going where it should, so that what follows is asked only of one that is outside.
   ``diverging``: :func:`diverging`. ``oscillating``: :func:`oscillating`. ``stalled``: :func:`stalled`.
6. ``max_steps``: so many steps were made, or ``max_wall`` has passed.

Steps count from the beginning of the phase, or from where a person went on after a bad ending: else the same steps
would end it again at once. The rules are ours; patience, an improvement that is worth the name, and the best epoch are
known from Keras, the spread of the last results from Ray Tune, ``dtol`` and endings with a reason from PETSc.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from airflow_calib_provider.domain.iteration.endings import SPOILT, ConstantsOf, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Deviations, Fault, Measured, Reported, freeze, standing
from airflow_calib_provider.domain.iteration.phases import Detectors, JudgedStep, MadeStep, Phase

HALF = 0.5
"""The largest error of a metric, in tolerances."""

SURE = 3.0
"""So many errors from where it is good a metric is outside, whatever the luck."""

LOOK_BACK = 6
"""Steps that ``oscillating`` and ``stalled`` look at."""


def judge(phase: Phase, before: Sequence[JudgedStep], made: MadeStep) -> JudgedStep:
    """Judge a step. Equal arguments give an equal answer, whatever happened meanwhile.

    :param phase: as it is declared now: its limits hold from this step on, and nothing judged is judged anew.
    :param before: the judged steps of the iteration, in their order; only those of this phase are looked at.
    :raises ValueError: the phase has ended before.
    """
    mine = [step for step in before if step.of(made.stage, made.phase)]
    if mine and mine[-1].ended is not None and not mine[-1].resumed:
        raise ValueError(f"phase {made.phase} has ended with step {mine[-1].n}: step {made.n} cannot be one of it")
    resumed = [position for position, step in enumerate(mine, start=1) if step.resumed]
    window = mine[resumed[-1] :] if resumed else mine
    frozen = mine[-1].frozen if mine else ()
    step = JudgedStep(made, frozen=frozen)
    there = _there(phase, step)
    if isinstance(there, Fault):
        return _ended(phase, mine, step, there.name, None, {"said": there.said})
    step = _compared(phase, window, step, there)
    if found := _lacking(phase, step, frozen) or _by_kind(phase, mine, [*window, step]):
        return _ended(phase, mine, step, *found)
    return step


Found = tuple[EndingName, str | None, Mapping[str, object]]
"""An ending, the metric that decided, and the numbers behind it."""


def _there(phase: Phase, step: JudgedStep) -> Deviations | Fault:
    """How far off it is, if that can be told."""
    outcome = step.made.outcome
    if isinstance(outcome, Fault):
        return outcome
    if lacking := [metric.name for metric in phase.metrics if metric.name not in outcome.metrics]:
        return Fault(EndingName.FAILED, f"metrics are missing: {', '.join(lacking)}")
    found = standing(phase.metrics, outcome.metrics, step.frozen)
    if beyond := [name for name, d in found.deviations.items() if not math.isfinite(d)]:
        return Fault(EndingName.NOT_FINITE, f"metric {beyond[0]}: no number of tolerances from its target")
    return found


def _reported(step: JudgedStep) -> Reported:
    outcome = step.made.outcome
    return outcome if isinstance(outcome, Reported) else Reported()


def _compared(phase: Phase, window: Sequence[JudgedStep], step: JudgedStep, there: Deviations) -> JudgedStep:
    """The step with how far off it is, and with what is frozen after it."""
    if not phase.metrics:
        return step
    frozen = step.frozen
    if phase.freeze:
        deviations = [*(other.deviations for other in window), there.deviations]
        limits = {"confirm": phase.confirm_steps, "min_steps": phase.least_steps}
        frozen = freeze(frozen, deviations, phase.metrics, **limits)
    return replace(step, deviations=there.deviations, u=there.u, worst=there.worst, frozen=frozen)


def _lacking(phase: Phase, step: JudgedStep, frozen: Sequence[str]) -> Found | None:
    """Whether there is too little data; a metric that freezes only now must have enough."""
    events, least = step.made.events, phase.min_events
    if least is not None and (events is None or events < least):
        return EndingName.NOT_ENOUGH_DATA, None, {"n_events": events, "min_events": least}
    for metric in phase.metrics:
        error = _reported(step).metrics[metric.name].error
        if error is None or error <= HALF * metric.tolerance or metric.name in frozen:
            continue
        if abs(step.deviations[metric.name]) <= 1 + SURE * error / metric.tolerance:
            return EndingName.NOT_ENOUGH_DATA, metric.name, {"error": error, "tolerance": metric.tolerance}
    return None


def _by_kind(phase: Phase, mine: Sequence[JudgedStep], window: Sequence[JudgedStep]) -> Found | None:
    """:param window: with the step that is judged."""
    made = window[-1].made
    if phase.visits is not None:
        if made.visit < phase.visits:
            return None
        return (EndingName.SINGLE_PASS if phase.visits == 1 else EndingName.FIXED_COUNT), None, {"visits": phase.visits}
    since_begin = all(step.made.unchanged for step in (*mine, window[-1]))
    if phase.verdict:
        return _by_verdict(_reported(window[-1]).verdict, made, since_begin) or _limits(phase, window)
    return _by_metrics(phase, window, since_begin) or _limits(phase, window)


def _by_verdict(word: str | None, made: MadeStep, since_begin: bool) -> Found | None:
    says = {"verdict": word}
    if word == "done":
        return (EndingName.NO_CHANGE if since_begin else EndingName.CONVERGED), None, says
    if word in (EndingName.NOT_ENOUGH_DATA, EndingName.FAILED):
        return EndingName(word), None, says
    if word != "iterate":
        return EndingName.FAILED, None, {"said": "the update gives no verdict"}
    return (EndingName.STALLED, None, {**says, "unchanged": True}) if made.unchanged else None


def _by_metrics(phase: Phase, window: Sequence[JudgedStep], since_begin: bool) -> Found | None:
    step = window[-1]
    u, worst = step.u or 0.0, step.worst
    if step.made.unchanged and u > 1:
        return EndingName.STALLED, worst, {"u": u, "unchanged": True}
    if since_begin and u <= 1:
        return EndingName.NO_CHANGE, worst, {"u": u}
    if len(window) < phase.least_steps:
        return None
    if _converged(phase, window):
        return EndingName.CONVERGED, worst, {"u": u, **_doubts(phase, step)}
    return _going_wrong(phase.detectors, window) if u > 1 else None


def _converged(phase: Phase, window: Sequence[JudgedStep]) -> bool:
    if phase.freeze:
        return len(window[-1].frozen) >= len(phase.metrics)
    lately = window[-phase.confirm_steps :]
    return len(lately) == phase.confirm_steps and all((step.u or 0.0) <= 1 for step in lately)


def _doubts(phase: Phase, step: JudgedStep) -> dict[str, object]:
    """What a good ending does not hide: errors that nobody knows, and frozen metrics that have moved outside."""
    unknown = [metric.name for metric in phase.metrics if _reported(step).metrics[metric.name].error is None]
    moved = {name: d for name, d in step.deviations.items() if abs(d) > 1}
    doubts: dict[str, object] = {"without_error": unknown, "moved": moved}
    return {key: value for key, value in doubts.items() if value}


def _going_wrong(detectors: Detectors, window: Sequence[JudgedStep]) -> Found | None:
    us = [step.u or 0.0 for step in window]
    worst = window[-1].worst
    if (numbers := diverging(us, detectors)) is not None:
        return EndingName.DIVERGING, worst, numbers
    if worst is not None and (numbers := oscillating(_signed(window, worst), detectors)) is not None:
        return EndingName.OSCILLATING, worst, numbers
    if (numbers := stalled(us, detectors)) is not None:
        return EndingName.STALLED, worst, numbers
    return None


def _signed(window: Sequence[JudgedStep], metric: str) -> list[float]:
    """The d of one metric, as far back as it was measured.

    Of several metrics the one that is worst now is asked whether it oscillates, by its own history: it keeps the phase
    from ending. The sign of whichever was worst in each step would change as often as the worst one does.
    """
    return [step.deviations[metric] for step in window if metric in step.deviations]


def _best(us: Iterable[float]) -> float:
    return max(1.0, min(us))


def diverging(us: Sequence[float], detectors: Detectors) -> dict[str, object] | None:
    """Whether u is far above the best before; a best below 1 counts as 1, as all that is inside is equally good.

    Either the last two are above ``far`` (10) times the best before them; or the last is above ``wild`` (1000) times
    the best before it; or u rose in each of the last three steps, and is above ``risen`` (2) times the best of what was
    there when it began to rise. One bad step alone is none, if it is not wild.

    :param us: u of each step, in tolerances.
    :returns: ``None``: it is not.
    """
    last = us[-1] if us else 0.0
    if len(us) >= 3 and min(us[-2:]) > detectors.far * (best := _best(us[:-2])):
        return {"u": last, "best_u": best, "how": "far", "limit": detectors.far}
    if len(us) >= 2 and last > detectors.wild * (best := _best(us[:-1])):
        return {"u": last, "best_u": best, "how": "wild", "limit": detectors.wild}
    if len(us) >= 4 and us[-4] < us[-3] < us[-2] < last and last > detectors.risen * (best := _best(us[:-3])):
        return {"u": last, "best_u": best, "how": "risen", "limit": detectors.risen}
    return None


def oscillating(ds: Sequence[float], detectors: Detectors) -> dict[str, object] | None:
    """Whether d has changed its sign in each of the last six steps, and hardly became smaller.

    What is left of it after two steps, there and back, is f = (u_k u_{k−1} / (u_{k−4} u_{k−5}))^(1/4), by pairs so that
    an offset counts less; it oscillates if f is ``swing`` (0.9) or more. Of one step √f is left, on the other side: the
    update corrects 1 + √f times what is needed, and with 1 / (1 + √f) of its steps it would be right at once. That is
    the damping in the answer.

    :param ds: d of each step, in tolerances, with its sign.
    """
    if len(ds) < LOOK_BACK:
        return None
    last = ds[-LOOK_BACK:]
    if not all(one < 0 < other or other < 0 < one for one, other in pairwise(last)):
        return None
    factor = (abs(last[5] / last[1]) * abs(last[4] / last[0])) ** 0.25
    if not factor >= detectors.swing:
        return None
    left = min(math.sqrt(factor), 1e6)
    return {"u": abs(last[-1]), "left": left, "limit": detectors.swing, "damping": 1 / (1 + left)}


def stalled(us: Sequence[float], detectors: Detectors) -> dict[str, object] | None:
    """Whether u has not come closer to the target lately, and does not now.

    The best of all is above ``progress`` (0.95) of the best until five steps ago, **and** so is the median of the last
    five ratios u_j / u_{j−1}: a recovery after one bad step is progress, though it has not reached the best yet.
    """
    if len(us) < LOOK_BACK:
        return None
    best, before = min(us), min(us[: 1 - LOOK_BACK])
    last = us[-LOOK_BACK:]
    ratio = median(_ratio(one, other) for one, other in pairwise(last))
    if not (best > detectors.progress * before and ratio > detectors.progress):
        return None
    return {"u": us[-1], "best_u": best, "before_u": before, "ratio": min(ratio, 1e6), "limit": detectors.progress}


def _ratio(before: float, after: float) -> float:
    """The ratio after / before; from nothing to nothing is 1."""
    if before == 0:
        return 1.0 if after == 0 else math.inf
    return after / before


def _limits(phase: Phase, window: Sequence[JudgedStep]) -> Found | None:
    step = window[-1]
    numbers: dict[str, object] = {"u": step.u} if step.u is not None else {}
    if len(window) >= phase.most_steps:
        return EndingName.MAX_STEPS, step.worst, {**numbers, "max_steps": phase.most_steps}
    seconds = step.made.seconds
    if phase.max_wall is not None and seconds is not None and seconds >= phase.max_wall:
        return EndingName.MAX_STEPS, step.worst, {**numbers, "max_wall": phase.max_wall, "seconds": seconds}
    return None


def _ended(
    phase: Phase,
    mine: Sequence[JudgedStep],
    step: JudgedStep,
    name: EndingName,
    metric: str | None,
    numbers: Mapping[str, object],
) -> JudgedStep:
    best = _best_step(mine, step, name)
    accepted = name in phase.accept
    end = PhaseEnd(
        name,
        step.made.stage,
        step.made.phase,
        step.n,
        step.made.visit,
        metric,
        best.n if best is not None else None,
        accepted=accepted,
        numbers={**_value(step, metric), **numbers, **({"best_is": best.u} if best is not None else {})},
    )
    return replace(step, ended=replace(end, result=_result(phase, end)))


def _best_step(mine: Sequence[JudgedStep], step: JudgedStep, name: EndingName) -> JudgedStep | None:
    """The one with the least u; one with too little data only where there is no other."""
    good = [other for other in mine if other.u is not None and not other.spoilt]
    if step.u is not None and (name not in SPOILT or not good):
        good.append(step)
    return min(good, key=lambda other: other.u or 0.0, default=None)


def _value(step: JudgedStep, metric: str | None) -> dict[str, object]:
    """The value of the metric that decided, and its error."""
    measured: Measured | None = _reported(step).metrics.get(metric or "")
    if measured is None:
        return {}
    error = {} if measured.error is None else {"error": measured.error}
    return {"value": measured.value, **error}


def _result(phase: Phase, end: PhaseEnd) -> ConstantsOf | None:
    """The constants that are handed on: of an accepted ending those of the best step, which were measured."""
    if not end.advances:
        return None
    if end.name is EndingName.NO_CHANGE:
        return ConstantsOf(end.step, updated=False)
    if end.accepted:
        return ConstantsOf(end.step, phase.ends_updated) if end.best is None else ConstantsOf(end.best, updated=False)
    return ConstantsOf(end.step, phase.ends_updated)
