"""Metrics: as a phase declares them, as its update reports them, and how far off they are.

A metric is a number that an update makes of a step's results. It is judged in units of its tolerance, so that metrics
of different units compare: d = (value − target) / tolerance, with a sign, and u = |d|; inside is u ≤ 1. A phase with
several metrics is as good as its worst one: u = max uᵢ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_calib_provider.domain.iteration.endings import EndingName
from airflow_calib_provider.domain.listing import listed

LARGEST = 1e300
"""The largest value, and error, as in the reports of jobs: differences of them are numbers still."""

MOST = 2_000
"""Metrics in one report, as many as a job may report values."""

WITHIN = "an amount above 0 in the metric's unit such as 0.4, or a percentage of the target such as 2%"

VERDICTS = ("iterate", "done", "not_enough_data", "failed")
"""What an update says itself, where a phase asks for its verdict; the words follow Belle II's calibration framework."""

_AMOUNT = re.compile(r"\+?(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?) ?(?P<percent>%?)", re.ASCII)


@dataclass(frozen=True)
class Within:
    """How far from its target a metric may be.

    :ivar amount: in the metric's unit; if relative, in percent of the target.
    """

    amount: float
    relative: bool = False

    def __str__(self) -> str:
        return f"{self.amount:g}{'%' if self.relative else ''}"


def parse_within(text: str | float) -> Within:
    """``0.4`` → within 0.4 of the target; ``2%`` → within 2 % of it.

    :raises ValueError: it is neither, or not above 0.
    """
    match = None if isinstance(text, bool) else _AMOUNT.fullmatch(str(text).strip())
    amount = float(match["number"]) if match else math.nan
    if match is None or not 0 < amount <= LARGEST:
        raise ValueError(f"{text!r} is not {WITHIN}")
    return Within(amount, bool(match["percent"]))


@dataclass(frozen=True)
class Metric:
    """A number that is to reach a target.

    :ivar target: in the metric's own unit, which nothing else needs to know.
    """

    name: str
    target: float
    within: Within

    @property
    def tolerance(self) -> float:
        """In the metric's unit, above 0.

        :raises ValueError: there is none: :meth:`mistake` says why.
        """
        if said := self.mistake():
            raise ValueError(f"the metric {self.name}: {said}")
        return self._amount()

    def mistake(self) -> str:
        """What is wrong with ``within``; empty if nothing is."""
        if self.within.relative and self.target == 0:
            return f"{self.within} of the target is nothing, as the target is 0"
        if not 0 < self._amount() <= LARGEST:
            return f"{self.within} makes a tolerance of {self._amount():g}, which no value can be compared with"
        return ""

    def _amount(self) -> float:
        return abs(self.target) * self.within.amount / 100 if self.within.relative else self.within.amount

    def deviation(self, value: float) -> float:
        """How far off, in tolerances, with its sign: d = (value − target) / tolerance."""
        return (value - self.target) / self.tolerance


@dataclass(frozen=True)
class Measured:
    """A metric as it was reported.

    :ivar value: in the metric's unit, :ivar error: likewise, one standard deviation; ``None``: the update cannot tell.
    """

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Reported:
    """What an update said, checked.

    :ivar metrics: in the order of the declaration.
    :ivar verdict: one of :data:`VERDICTS`, where the phase asks for it.
    """

    metrics: Mapping[str, Measured] = field(default_factory=dict)
    verdict: str | None = None


@dataclass(frozen=True)
class Fault:
    """Why a step has no result that could be judged: it ends its phase at once, and its constants go to nobody.

    :ivar name: ``not_finite``, or ``failed`` for everything else.
    :ivar said: what is wrong, and where, for people.
    """

    name: EndingName
    said: str


def read_report(report: object, declared: Sequence[Metric], *, verdict: bool = False) -> Reported | Fault:
    """What an update reports, strictly: ``{"metrics": {"mass": {"value": 91.1, "error": 0.05}}}``.

    All that is wrong is told at once. A metric that is declared must be there, and one that is not is refused as the
    misspelling that it mostly is. Where none is declared (a phase of so many visits, or one that asks for a verdict)
    whatever is reported is kept, to be looked at. The error of a metric may be left out or null: it is not known then,
    and nobody can say whether luck decides.

    :param report: as JSON gives it, NaN and Infinity as Python reads them.
    :param verdict: the report says ``"verdict"``, one of :data:`VERDICTS`, too.
    :returns: a fault ``not_finite`` if values or errors that are no finite numbers are all that is wrong.
    """
    if not isinstance(report, Mapping):
        return Fault(EndingName.FAILED, f'the report is {_shown(report)}, not an object such as {{"metrics": {{…}}}}')
    problems = _keys(report, {"metrics", "verdict"} if verdict else {"metrics"}, "the report")
    word = report.get("verdict")
    if verdict and word not in VERDICTS:
        problems.append(f"verdict is {_shown(word) if 'verdict' in report else 'missing'}, not one of {_all(VERDICTS)}")
    metrics, wrong, infinite = _metrics(report, declared)
    problems += wrong
    if problems or infinite:
        name = EndingName.FAILED if problems else EndingName.NOT_FINITE
        return Fault(name, "; ".join([*problems, *infinite]))
    return Reported(metrics, str(word) if verdict else None)


def _metrics(
    report: Mapping[str, object], declared: Sequence[Metric]
) -> tuple[dict[str, Measured], list[str], list[str]]:
    """The metrics, what is wrong with them, and what is no finite number."""
    found = report.get("metrics", {})
    if not isinstance(found, Mapping):
        return {}, [f'metrics is {_shown(found)}, not an object such as {{"mass": {{"value": 91.1}}}}'], []
    if len(found) > MOST:
        return {}, [f"{len(found)} metrics are reported, of at most {MOST}"], []
    names = [metric.name for metric in declared] or [str(name) for name in found]
    problems = [f"{_shown(name)} is no name of a metric: {_NAMED}" for name in names if not _is_name(name)]
    if missing := [name for name in names if name not in found]:
        problems.append(_told(missing, "missing"))
    if extra := [str(name) if _is_name(str(name)) else _shown(name) for name in found if name not in names]:
        problems.append(f"{_told(extra, 'not declared')} (declared: {_all(names)})")
    metrics, infinite = {}, []
    for name in (name for name in names if name in found):
        measured, wrong, not_finite = _measured(found[name], name)
        problems += wrong
        infinite += not_finite
        metrics[name] = measured
    return metrics, problems, infinite


def _measured(item: object, name: str) -> tuple[Measured, list[str], list[str]]:
    if not isinstance(item, Mapping):
        return Measured(0), [f'metric {name} is {_shown(item)}, not an object such as {{"value": 91.1}}'], []
    problems, infinite = _keys(item, {"value", "error"}, f"metric {name}"), []
    numbers: dict[str, float | None] = {}
    for key in ("value", "error"):
        found = item.get(key)
        if found is None and (key == "error" or key not in item):
            if key == "value":
                problems.append(f"metric {name}: value is missing")
            continue
        number = _number(found)
        if number is None:
            problems.append(f"metric {name}: {key} is {_shown(found)}, not a number")
        elif not abs(number) <= LARGEST:
            infinite.append(f"metric {name}: {key} is {_shown(found)}, not a finite number of at most {LARGEST:g}")
        elif key == "error" and number < 0:
            problems.append(f"metric {name}: error is {_shown(found)}, below 0")
        numbers[key] = number
    return Measured(numbers.get("value") or 0.0, numbers.get("error")), problems, infinite


_NAMED = "of 1 to 120 characters that can be stored"


def _is_name(text: str) -> bool:
    """Whether the ledger can keep it: no database has half a character, and not each a NUL."""
    return 0 < len(text) <= 120 and text == text.replace("\x00", "").encode("utf-8", "replace").decode()


def _keys(item: Mapping[str, object], known: Collection[str], what: str) -> list[str]:
    extra = sorted(str(key) if _is_name(str(key)) else _shown(key) for key in item if key not in known)
    return [f"{what} has unknown keys: {listed(extra)}"] if extra else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(value: object) -> str:
    """A value as it is told: as Python writes it, at most 60 characters, however large it is."""
    # Python refuses to write whole numbers of thousands of digits.
    if isinstance(value, int) and abs(value) > 10**40:
        return "a whole number of more than 40 digits"
    if isinstance(value, Mapping | list):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _told(names: Sequence[str], what: str) -> str:
    return f"metric {names[0]} is {what}" if len(names) == 1 else f"metrics {_all(names)} are {what}"


def _all(names: Sequence[str]) -> str:
    return listed(names, 10)


@dataclass(frozen=True)
class Deviations:
    """How far off the metrics of one step are.

    :ivar deviations: name → d, of all metrics, in tolerances.
    :ivar u: the largest |d| of those that count; 0 if none does.
    :ivar worst: the metric that it is of; of equals the one that is declared first.
    """

    deviations: Mapping[str, float]
    u: float
    worst: str | None


def standing(metrics: Sequence[Metric], measured: Mapping[str, Measured], frozen: Collection[str] = ()) -> Deviations:
    """Where a step stands; metrics that are frozen are measured, and do not count."""
    deviations = {metric.name: metric.deviation(measured[metric.name].value) for metric in metrics}
    counted = {name: abs(d) for name, d in deviations.items() if name not in frozen}
    worst = max(counted, key=lambda name: counted[name], default=None)
    return Deviations(deviations, counted[worst] if worst is not None else 0.0, worst)


def freeze(
    frozen: Sequence[str],
    deviations: Sequence[Mapping[str, float]],
    metrics: Sequence[Metric],
    *,
    confirm: int,
    min_steps: int,
) -> tuple[str, ...]:
    """Which metrics are frozen after a step: those that were, and those that now are good enough.

    A metric freezes exactly when a phase with this metric alone would have converged: inside in the last ``confirm``
    steps, and not before ``min_steps``. So one lucky step is not enough where a person asks for two, and a phase with
    a single metric ends the same with ``freeze`` as without. What is frozen stays so, whatever it measures later: its
    part of the constants is kept by the update, which is told the names, and it counts neither in u, nor as the worst,
    nor for ``not_enough_data``. That it has moved outside since, as other parts changed, is no reason to go on, but the
    ending says it. (LCCalibration keeps barrel and endcap like this.)

    :param deviations: of the steps of this phase since it began, or was resumed, the last one included.
    """
    if len(deviations) < min_steps or len(deviations) < confirm:
        return tuple(frozen)
    lately = deviations[-confirm:]
    good = [metric.name for metric in metrics if all(abs(step.get(metric.name, math.inf)) <= 1 for step in lately)]
    return (*frozen, *(name for name in good if name not in frozen))
