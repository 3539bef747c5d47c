"""The systematic error of the tail model: the fit again, with the tail of each category free.

The tails (α, n) of the Crystal Ball come from simulation, which may not describe the detector's material. A fit in
which the data choose them says by how much the scales depend on that. A tail that is free competes with the background
and with the position of the peak, so this fit is the less precise one: it is not a better measurement, but its distance
from the ordinary one shows what the fixed tails may have hidden.

The biases that are subtracted are those of the ordinary fit: the shift is that of the tail model alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from iminuit import Minuit

from zee.events import CATEGORIES, DEFAULT_WINDOW, REGIONS, WINDOWS, FloatArray, Selected
from zee.fit import SHARED_SCALES, Calibration, FitResult, fit_events, load_calibration, pearson
from zee.jobio import JobError
from zee.model import SHIFT_RANGE, SIGMA_RANGE, Binning, Convolution, Tail, background_fractions

ALPHA_RANGE = (0.2, 4.0)
POWER_RANGE = (1.05, 30.0)

_LIMITS = {
    "events": (1.0, None),
    "background": (0.0, 1.0),
    "sigma": SIGMA_RANGE,
    "slope": (-0.2, 0.3),
    "alpha": ALPHA_RANGE,
    "n": POWER_RANGE,
}
_STEPS = {"events": 30.0, "background": 0.03, "sigma": 0.002, "slope": 0.01, "alpha": 0.05, "n": 0.3}
_STARTS = (1.0, 1.3, 0.8)
"""Factors of the starting widths, one after the other until the fit converges."""


@dataclass(frozen=True)
class FreeTails:
    """The outcome of the fit with free tails.

    :param log_scales: ln s of EB and EE.
    :param errors: their standard deviations, from the full covariance.
    :param tails: of the categories.
    :param chi2: Pearson χ² of the categories.
    :param bins: the number of bins of each χ².
    """

    log_scales: FloatArray
    errors: FloatArray
    tails: tuple[Tail, ...]
    chi2: tuple[float, ...]
    bins: tuple[int, ...]


def fit_free_tails(events: Selected, calibration: Calibration | None = None) -> FreeTails:
    """Fit selected events in the default window with a free tail in each category.

    :param events: the events; those outside the window are ignored.
    :param calibration: where to start, and the biases that are subtracted; those of the committed file when ``None``.
    :raises JobError: the fit does not converge.
    """
    binning = Binning(*WINDOWS[DEFAULT_WINDOW])
    counts = [binning.count(events.mass[events.category == index]) for index in range(len(CATEGORIES))]
    calibration = calibration or load_calibration()
    return fit_free_counts(counts, fit_events(events, calibration=calibration), calibration)


def fit_free_counts(counts: Sequence[FloatArray], start: FitResult, calibration: Calibration) -> FreeTails:
    """As :func:`fit_free_tails`, of binned events.

    :param counts: per category, the histogram in the default window's bins.
    :param start: the fit with fixed tails.
    :param calibration: its tails and biases.
    """
    biases = calibration.bias[DEFAULT_WINDOW]
    terms = [_Term(content, bias) for content, bias in zip(counts, biases, strict=True)]
    names = [f"ln_s_{region}" for region in REGIONS]
    names += [f"{parameter}_{category}" for category in CATEGORIES for parameter in _LIMITS]

    def cost(values: FloatArray) -> float:
        shifts = SHARED_SCALES @ values[: len(REGIONS)]
        own = np.asarray(values[len(REGIONS) :]).reshape(len(CATEGORIES), len(_LIMITS))
        return sum(term.value(float(shift), *row.tolist()) for term, shift, row in zip(terms, shifts, own, strict=True))

    minuit = _minimize(cost, names, start, calibration)
    values = np.array(minuit.values)
    own = values[len(REGIONS) :].reshape(len(CATEGORIES), len(_LIMITS))
    shifts = SHARED_SCALES @ values[: len(REGIONS)]
    quality = [
        pearson(content, term.expected(float(shift), *row.tolist()))
        for content, term, shift, row in zip(counts, terms, shifts, own, strict=True)
    ]
    return FreeTails(
        log_scales=values[: len(REGIONS)],
        errors=np.sqrt(np.diag(np.array(minuit.covariance)[: len(REGIONS), : len(REGIONS)])),
        tails=tuple(Tail(float(row[4]), float(row[5])) for row in own),
        chi2=tuple(chi2 for chi2, _ in quality),
        bins=tuple(bins for _, bins in quality),
    )


class _Term:
    """One category's −ln L as a function of its seven parameters.

    :param observed: histogram in the default window.
    :param offset: the bias in ln s, subtracted by adding it to the peak's position.
    """

    def __init__(self, observed: FloatArray, offset: float) -> None:
        self._observed = observed
        self._offset = offset
        self._edges = Binning(*WINDOWS[DEFAULT_WINDOW]).edges
        self._log_edges = np.log(self._edges)
        # Derivatives are taken by one parameter at a time: most categories have been there before.
        self.value = functools.lru_cache(maxsize=256)(self._value)

    def expected(
        self, shift: float, events: float, background: float, sigma: float, slope: float, alpha: float, n: float
    ) -> FloatArray:
        """Expected bin contents, shape (bins,)."""
        convolution = _convolution()
        cell, x = convolution.cells(self._log_edges, shift + self._offset)
        value, _ = convolution.interpolate(convolution.at(sigma, Tail(alpha, n)), cell, x)
        signal = np.diff(value) / (value[-1] - value[0])
        falling, _ = background_fractions(self._edges, slope)
        return np.asarray(events * ((1.0 - background) * signal + background * falling))

    def _value(self, *parameters: float) -> float:
        expected = np.maximum(self.expected(*parameters), 1e-9)
        return float(expected.sum() - self._observed @ np.log(expected))


@functools.lru_cache(maxsize=1)
def _convolution() -> Convolution:
    return Convolution()


def _minimize(
    cost: Callable[[FloatArray], float], names: list[str], start: FitResult, calibration: Calibration
) -> Minuit:
    for factor in _STARTS:
        first = list(start.log_scales)
        for category, tail in zip(CATEGORIES, calibration.tails, strict=True):
            known = start.parameters
            first += [
                known[f"events_{category}"],
                min(max(known[f"background_{category}"], 0.02), 0.9),
                min(known[f"sigma_{category}"] * factor, SIGMA_RANGE[1]),
                known[f"slope_{category}"],
                tail.alpha * factor,
                max(tail.n, POWER_RANGE[0] + 0.1),
            ]
        minuit = Minuit(cost, np.array(first), name=names)
        minuit.errordef = Minuit.LIKELIHOOD
        minuit.strategy = 1
        for name in names:
            kind = name.rsplit("_", 1)[0]
            minuit.limits[name] = _LIMITS.get(kind, (-SHIFT_RANGE, SHIFT_RANGE))
            minuit.errors[name] = _STEPS.get(kind, 0.002)
        minuit.migrad(ncall=20_000)
        if minuit.valid and minuit.covariance is not None:
            return minuit
    raise JobError("the fit with free tails does not converge: the data cannot tell tail, width and background apart")
