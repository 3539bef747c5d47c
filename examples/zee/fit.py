"""The simultaneous extended maximum-likelihood fit of the three categories, binned, with two shared scales.

ln s of the categories is ln s_EB, ½ (ln s_EB + ln s_EE) and ln s_EE. Free per category: number of events, background
fraction, width, slope. Minimizer and covariance: Minuit (F. James and M. Roos, 1975) through ``iminuit``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from iminuit import Minuit

from zee.events import CATEGORIES, DEFAULT_WINDOW, REGIONS, WINDOWS, FloatArray, Selected
from zee.jobio import JobError
from zee.model import SHIFT_RANGE, SIGMA_RANGE, Binning, CategoryModel, SignalShape, Tail

FEW_EVENTS = 250
"""EE–EE events in the window below which pulls are visibly not Gaussian."""

TOO_FEW_EVENTS = 40
"""Events of a category in the window below which there is no fit."""

SHARED_SCALES = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
"""ln s of the categories (rows) from ln s of EB and EE (columns)."""

SEPARATE_SCALES = np.eye(3)
"""Each category with a scale of its own: for the consistency test and for tuning."""

TAIL_FILE = Path(__file__).parent / "tail_parameters.json"
"""Tails and residual biases from simulation; written by :mod:`zee.tune`."""

_MERGED_MINIMUM = 8.0
"""Expected events that a bin must have for the χ²; neighbours are merged until it does."""

_TRIES = 4


@dataclass(frozen=True)
class Calibration:
    """What the fit takes from simulation.

    :param tails: of the categories.
    :param bias: residual bias in ln s of the categories, by name of the window.
    """

    tails: tuple[Tail, ...]
    bias: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Spectrum:
    """One category's binned data and fitted curve.

    :param edges: GeV, shape (bins + 1,).
    :param data: observed, shape (bins,).
    :param fitted: expected, shape (bins,).
    :param background: the background's part of ``fitted``, shape (bins,).
    :param chi2: Pearson χ² over neighbouring bins merged until 8 events are expected.
    :param bins: the number of merged bins.
    """

    edges: FloatArray
    data: FloatArray
    fitted: FloatArray
    background: FloatArray
    chi2: float
    bins: int


@dataclass(frozen=True)
class FitResult:
    """The fit's outcome.

    :param log_scales: ln s, shape (2,) for shared scales (EB, EE) or (3,) for separate ones.
    :param covariance: of ``log_scales``, from the full covariance of all parameters.
    :param parameters: every parameter's value by name.
    :param spectra: of the categories.
    """

    log_scales: FloatArray
    covariance: FloatArray
    parameters: Mapping[str, float]
    spectra: tuple[Spectrum, ...]


@functools.lru_cache(maxsize=32)
def _shape(tail: Tail) -> SignalShape:
    return SignalShape(tail)


@functools.lru_cache(maxsize=4)
def load_calibration(path: Path = TAIL_FILE) -> Calibration:
    """Read tails and residual biases.

    :param path: file written by :mod:`zee.tune`.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    tails = tuple(Tail(**content["tails"][name]) for name in CATEGORIES)
    bias = {window: tuple(values[name] for name in CATEGORIES) for window, values in content["bias"].items()}
    return Calibration(tails, bias)


def fit_events(
    events: Selected,
    window: str = DEFAULT_WINDOW,
    matrix: FloatArray = SHARED_SCALES,
    calibration: Calibration | None = None,
) -> FitResult:
    """Fit selected events.

    :param events: the events; those outside the window are ignored.
    :param window: name of one of :data:`zee.events.WINDOWS`.
    :param matrix: ln s of the categories from the scales, shape (3, number of scales).
    :param calibration: tails and biases; those of :data:`TAIL_FILE` when ``None``.
    :raises JobError: a category has too few events, or the fit does not converge.
    """
    binning = Binning(*WINDOWS[window])
    counts = [binning.count(events.mass[events.category == index]) for index in range(len(CATEGORIES))]
    return fit_counts(counts, window, matrix, calibration)


def fit_counts(
    counts: list[FloatArray],
    window: str = DEFAULT_WINDOW,
    matrix: FloatArray = SHARED_SCALES,
    calibration: Calibration | None = None,
) -> FitResult:
    """Fit binned events.

    :param counts: per category, the histogram in the window's bins.
    :param window: name of one of :data:`zee.events.WINDOWS`.
    :param matrix: ln s of the categories from the scales, shape (3, number of scales).
    :param calibration: tails and biases; those of :data:`TAIL_FILE` when ``None``.
    :raises JobError: a category has too few events, or the fit does not converge.
    """
    calibration = calibration or load_calibration()
    for name, content in zip(CATEGORIES, counts, strict=True):
        if content.sum() < TOO_FEW_EVENTS:
            raise JobError(
                f"category {name} has {int(content.sum())} events in {window} GeV; a fit needs {TOO_FEW_EVENTS}: "
                "form larger groups"
            )
    binning = Binning(*WINDOWS[window])
    models = [
        CategoryModel(_shape(tail), binning, bias)
        for tail, bias in zip(calibration.tails, calibration.bias[window], strict=True)
    ]
    likelihood = _Likelihood(models, counts, matrix)
    minuit = _minimize(likelihood, counts)
    n_scales = matrix.shape[1]
    values = np.array(minuit.values)
    covariance = np.array(minuit.covariance)[:n_scales, :n_scales]
    spectra = tuple(
        _spectrum(binning, model, content, likelihood.category_parameters(values, index))
        for index, (model, content) in enumerate(zip(models, counts, strict=True))
    )
    return FitResult(values[:n_scales], covariance, minuit.values.to_dict(), spectra)


def consistency(separate: FitResult) -> float:
    """χ² with one degree of freedom for three categories described by two scales.

    Two scales imply t_EBEB + t_EEEE − 2 t_EBEE = 0 for t = ln s of the categories.

    :param separate: a fit with :data:`SEPARATE_SCALES`.
    """
    combination = np.array([1.0, -2.0, 1.0])
    deviation = float(combination @ separate.log_scales)
    return deviation**2 / float(combination @ separate.covariance @ combination)


class _Likelihood:
    """−ln L of all categories and its gradient; parameters are the scales, then four per category."""

    FREE = CategoryModel.PARAMETERS[1:]

    def __init__(self, models: list[CategoryModel], counts: list[FloatArray], matrix: FloatArray) -> None:
        self._matrix = matrix
        # derivatives are taken by one or two parameters at a time: most categories have been there before
        self._terms = [
            functools.lru_cache(maxsize=128)(functools.partial(_term, model, observed))
            for model, observed in zip(models, counts, strict=True)
        ]
        scales = REGIONS if matrix.shape[1] == len(REGIONS) else CATEGORIES
        self.names = [f"ln_s_{name}" for name in scales]
        self.names += [f"{parameter}_{name}" for name in CATEGORIES for parameter in self.FREE]

    def category_parameters(self, values: FloatArray, index: int) -> FloatArray:
        """Shift, events, background, sigma, slope of a category."""
        n_scales = self._matrix.shape[1]
        first = n_scales + len(self.FREE) * index
        own = values[first : first + len(self.FREE)]
        return np.concatenate([[self._matrix[index] @ values[:n_scales]], own])

    def value(self, values: FloatArray) -> float:
        return self._evaluate(values)[0]

    def gradient(self, values: FloatArray) -> FloatArray:
        return self._evaluate(values)[1]

    def _evaluate(self, values: FloatArray) -> tuple[float, FloatArray]:
        n_scales = self._matrix.shape[1]
        total = 0.0
        gradient = np.zeros(len(self.names))
        for index, term in enumerate(self._terms):
            value, own = term(*self.category_parameters(np.asarray(values), index).tolist())
            total += value
            gradient[:n_scales] += self._matrix[index] * own[0]
            first = n_scales + len(self.FREE) * index
            gradient[first : first + len(self.FREE)] = own[1:]
        return total, gradient


def _term(model: CategoryModel, observed: FloatArray, *parameters: float) -> tuple[float, FloatArray]:
    """One category's −ln L and its derivatives by the category's parameters."""
    expected, slopes = model.expected(*parameters)
    expected = np.maximum(expected, 1e-9)
    return float(expected.sum() - observed @ np.log(expected)), slopes @ (1.0 - observed / expected)


def _minimize(likelihood: _Likelihood, counts: list[FloatArray]) -> Minuit:
    """Migrad and Hesse, from other starting widths when they fail."""
    for attempt in range(_TRIES):
        minuit = _prepared(likelihood, counts, widen=1.0 + 0.4 * attempt)
        minuit.migrad(ncall=4000)
        if minuit.valid:
            minuit.hesse()
        if minuit.valid and minuit.accurate and minuit.covariance is not None:
            return minuit
    raise JobError("the fit does not converge: " + ", ".join(_complaints(minuit)))


def _complaints(minuit: Minuit) -> list[str]:
    state = minuit.fmin
    checks: dict[str, Callable[[], bool]] = {
        "call limit reached": lambda: state.has_reached_call_limit,
        "a parameter at its limit": lambda: state.has_parameters_at_limit,
        "no positive covariance": lambda: not state.has_posdef_covar,
        "too far from the minimum": lambda: state.is_above_max_edm,
    }
    return [name for name, check in checks.items() if check()] or ["no accurate covariance"]


def _prepared(likelihood: _Likelihood, counts: list[FloatArray], widen: float) -> Minuit:
    n_scales = len(likelihood.names) - len(likelihood.FREE) * len(CATEGORIES)
    start = [0.0] * n_scales
    for content, sigma, background in zip(counts, (0.02, 0.03, 0.04), (0.15, 0.2, 0.2), strict=True):
        start += [float(content.sum()), background, sigma * widen, 0.01]
    minuit = Minuit(likelihood.value, np.array(start), grad=likelihood.gradient, name=likelihood.names)
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.strategy = 1
    for name in likelihood.names:
        kind = name.rsplit("_", 1)[0]
        minuit.limits[name] = {
            "ln_s": (-SHIFT_RANGE, SHIFT_RANGE),
            "events": (1.0, None),
            "background": (0.0, 1.0),
            "sigma": SIGMA_RANGE,
            "slope": (-0.2, 0.3),
        }[kind]
        minuit.errors[name] = {"ln_s": 0.002, "events": 30.0, "background": 0.03, "sigma": 0.002, "slope": 0.01}[kind]
    return minuit


def _spectrum(binning: Binning, model: CategoryModel, observed: FloatArray, parameters: FloatArray) -> Spectrum:
    expected, _ = model.expected(*parameters)
    shift, events, fraction, sigma, slope = parameters
    background, _ = model.expected(shift, events * fraction, 1.0, sigma, slope)
    return Spectrum(binning.edges, observed, expected, background, *pearson(observed, expected))


def pearson(observed: FloatArray, expected: FloatArray) -> tuple[float, int]:
    """Pearson χ² over neighbouring bins merged until 8 events are expected, and the number of merged bins.

    :param observed: bin contents, shape (bins,).
    :param expected: those of the fitted curve, shape (bins,).
    """
    observed, expected = _merge(observed, expected)
    return float(((observed - expected) ** 2 / expected).sum()), len(expected)


def _merge(observed: FloatArray, expected: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Join neighbouring bins, from the lower edge, until each expects enough events."""
    starts = [0]
    gathered = 0.0
    for index, content in enumerate(expected):
        if gathered >= _MERGED_MINIMUM:
            starts.append(index)
            gathered = 0.0
        gathered += content
    if gathered < _MERGED_MINIMUM and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(observed, starts), np.add.reduceat(expected, starts)
