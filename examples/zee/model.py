"""Expected bin contents of one category: Breit–Wigner ⊗ Crystal Ball plus an exponential, normalized in the window.

The convolution is done in u = ln m, where a scale is an exact shift and the resolution is relative:

    signal(u; t, σ) = ∫ BW(v) · CB(u − v − t; σ, α, n) dv,     t = ln s of the category.

* BW: relativistic Breit–Wigner with an s-dependent width,
  dN/dM ∝ M² / ((M² − m²)² + M⁴ Γ²/m²), Particle Data Group, review of resonances;
* CB: Gaussian core with a power-law tail towards low masses below −α σ (J. Gaiser, SLAC-R-255, 1982, appendix F);
* background: exp(−k m).

The integral is computed once per tail (α, n), for a grid of σ, and the cumulative distribution is kept (cubic in
ln σ and in u); bin contents are its differences, and the interpolation gives the derivatives that the fit needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import fftconvolve

from zee.events import FloatArray, IntArray

M_Z = 91.1876
"""Mass of the Z boson, GeV (Particle Data Group)."""

GAMMA_Z = 2.4952
"""Width of the Z boson, GeV (Particle Data Group)."""

SIGMA_RANGE = (0.004, 0.09)
"""Relative mass resolutions for which the convolution is tabulated."""

SHIFT_RANGE = 0.12
"""Largest |ln s| for which the table reaches the widest window."""

_MASS_RANGE = (30.0, 260.0)
_POINTS = 12_000
_TABLE_RANGE = (50.0, 140.0)
_TABLE_STEP = 5
_SIGMAS = 40


@dataclass(frozen=True)
class Tail:
    """The fixed shape of the radiative tail.

    :param alpha: where the tail begins, in units of σ below the peak.
    :param n: the tail's power.
    """

    alpha: float
    n: float


@dataclass(frozen=True)
class Binning:
    """Equal bins of a mass window.

    :param lower: lower edge, GeV.
    :param upper: upper edge, GeV.
    :param width: bin width, GeV; a divisor of the window.
    """

    lower: float
    upper: float
    width: float = 0.5

    @property
    def edges(self) -> FloatArray:
        """Bin edges, GeV, shape (bins + 1,)."""
        return np.linspace(self.lower, self.upper, round((self.upper - self.lower) / self.width) + 1)

    def count(self, mass: FloatArray) -> FloatArray:
        """Histogram masses.

        :param mass: GeV, shape (n,).
        :returns: contents, shape (bins,).
        """
        position = np.floor((mass - self.lower) / self.width)
        inside = position[(mass >= self.lower) & (mass < self.upper)].astype(np.int64)
        bins = len(self.edges) - 1
        return np.bincount(np.minimum(inside, bins - 1), minlength=bins).astype(np.float64)


def crystal_ball(x: FloatArray, sigma: float, tail: Tail) -> FloatArray:
    """One-sided Crystal Ball function with its peak at 0 and height 1.

    :param x: any shape.
    :param sigma: core width, unit of ``x``.
    :param tail: where the tail begins, and its power.
    """
    z = x / sigma
    alpha, n = tail.alpha, tail.n
    # Above the junction the power law is not used, and might overflow.
    base = n / alpha - alpha - np.minimum(z, -alpha)
    power = np.exp(n * np.log(n / alpha) - 0.5 * alpha**2 - n * np.log(base))
    return np.where(z > -alpha, np.exp(-0.5 * z**2), power)


def breit_wigner(mass: FloatArray) -> FloatArray:
    """Relativistic Breit–Wigner dN/dM with an s-dependent width, not normalized.

    :param mass: GeV, any shape.
    """
    squared = mass**2
    return squared / ((squared - M_Z**2) ** 2 + squared**2 * (GAMMA_Z / M_Z) ** 2)


class Convolution:
    """The convolution of line shape and resolution at one resolution and tail, on the table's points in u."""

    def __init__(self) -> None:
        u = np.linspace(np.log(_MASS_RANGE[0]), np.log(_MASS_RANGE[1]), _POINTS)
        self._step = float(u[1] - u[0])
        self._line = breit_wigner(np.exp(u)) * np.exp(u)
        self._distance = (np.arange(2 * _POINTS - 1) - (_POINTS - 1)) * self._step
        self._inside = np.flatnonzero((u > np.log(_TABLE_RANGE[0])) & (u < np.log(_TABLE_RANGE[1])))[::_TABLE_STEP]
        self.begin = float(u[self._inside[0]])
        self.step = self._step * _TABLE_STEP
        self.points = len(self._inside)

    def at(self, sigma: float, tail: Tail) -> FloatArray:
        """Cumulative distribution and density, shape (2, points).

        :param sigma: relative mass resolution.
        :param tail: of the resolution.
        """
        density = fftconvolve(self._line, crystal_ball(self._distance, sigma, tail), mode="valid")
        cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)]) * self._step
        inside = self._inside
        norm = cumulative[inside[-1]] - cumulative[inside[0]]
        return np.stack([(cumulative[inside] - cumulative[inside[0]]) / norm, density[inside] / norm])

    def cells(self, log_edges: FloatArray, shift: float) -> tuple[IntArray, FloatArray]:
        """Left neighbours of shifted edges among the points, and the distances from them in steps.

        :param log_edges: ln of the bin edges in GeV, shape (bins + 1,).
        :param shift: t = ln s.
        """
        position = (log_edges - shift - self.begin) / self.step
        cell = np.clip(np.floor(position).astype(np.int64), 0, self.points - 2)
        return cell, position - cell

    def interpolate(self, nodes: FloatArray, cell: IntArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cubic Hermite interpolation in u, and its derivative.

        :param nodes: cumulative distribution and density at the points, shape (2, points).
        :param cell: left neighbours of where to interpolate.
        :param x: distances from them, in steps.
        """
        left, right = nodes[0, cell], nodes[0, cell + 1]
        rise_left, rise_right = nodes[1, cell] * self.step, nodes[1, cell + 1] * self.step
        difference = right - left
        square = 3.0 * difference - 2.0 * rise_left - rise_right
        cube = rise_left + rise_right - 2.0 * difference
        value = left + x * (rise_left + x * (square + x * cube))
        return value, (rise_left + x * (2.0 * square + 3.0 * x * cube)) / self.step


class SignalShape:
    """The tabulated convolution for one tail.

    :param tail: the tail.
    """

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self._convolution = Convolution()
        log_sigmas = np.linspace(np.log(SIGMA_RANGE[0]), np.log(SIGMA_RANGE[1]), _SIGMAS)
        table = np.stack([self._convolution.at(float(np.exp(log_sigma)), tail) for log_sigma in log_sigmas])
        self._spline = CubicSpline(log_sigmas, table, axis=0)
        self._slope = self._spline.derivative()

    def fractions(self, log_edges: FloatArray, shift: float, sigma: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bin contents normalized in the window, and their derivatives.

        :param log_edges: ln of the bin edges in GeV, shape (bins + 1,).
        :param shift: t = ln s.
        :param sigma: relative mass resolution.
        :returns: contents, d/dshift, d/dsigma; each of shape (bins,).
        """
        cell, x = self._convolution.cells(log_edges, shift)
        log_sigma = np.log(sigma)
        value, density = self._convolution.interpolate(self._spline(log_sigma), cell, x)
        by_shift = -density
        by_sigma = self._convolution.interpolate(self._slope(log_sigma), cell, x)[0] / sigma
        total = value[-1] - value[0]
        content = np.diff(value) / total
        return (
            content,
            (np.diff(by_shift) - content * (by_shift[-1] - by_shift[0])) / total,
            (np.diff(by_sigma) - content * (by_sigma[-1] - by_sigma[0])) / total,
        )


def background_fractions(edges: FloatArray, slope: float) -> tuple[FloatArray, FloatArray]:
    """Bin contents of exp(−slope · m), normalized in the window, and their derivative.

    For equal bins the integral over a bin is proportional to the value at its centre, with the same factor everywhere.

    :param edges: GeV, equally spaced, shape (bins + 1,).
    :param slope: 1/GeV; may be negative or zero.
    :returns: contents and d/dslope; each of shape (bins,).
    """
    centre = 0.5 * (edges[1:] + edges[:-1])
    centre = centre - centre.mean()
    exponent = -slope * centre
    weight = np.exp(exponent - exponent.max())
    content = weight / weight.sum()
    return content, content * ((content * centre).sum() - centre)


class CategoryModel:
    """Expected bin contents of one category as a function of its five parameters.

    :param shape: the category's signal.
    :param binning: window and bins.
    :param offset: the estimator's bias in ln s at s = 1, subtracted by adding it to the peak's position.
    """

    PARAMETERS = ("shift", "events", "background", "sigma", "slope")

    def __init__(self, shape: SignalShape, binning: Binning, offset: float = 0.0) -> None:
        self._shape = shape
        self._edges = binning.edges
        self._log_edges = np.log(self._edges)
        self._offset = offset

    def expected(
        self, shift: float, events: float, background: float, sigma: float, slope: float
    ) -> tuple[FloatArray, FloatArray]:
        """Expected bin contents and their gradient.

        :param shift: ln s of the category.
        :param events: expected number of events in the window.
        :param background: fraction of background among them.
        :param sigma: relative mass resolution.
        :param slope: slope of the background, 1/GeV.
        :returns: contents of shape (bins,); derivatives by the parameters in this order, shape (5, bins).
        """
        signal, by_shift, by_sigma = self._shape.fractions(self._log_edges, shift + self._offset, sigma)
        falling, by_slope = background_fractions(self._edges, slope)
        total = (1.0 - background) * signal + background * falling
        gradient = np.stack(
            [
                events * (1.0 - background) * by_shift,
                total,
                events * (falling - signal),
                events * (1.0 - background) * by_sigma,
                events * background * by_slope,
            ]
        )
        return events * total, gradient
