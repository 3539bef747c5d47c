"""Random pairs of electrons as a detector would record them: Z → ee with radiation and resolution, and background.

Made from kinematics (a Z boson that decays, electrons that radiate, a detector that smears), not from mass
distributions: nothing here is shared with the fit in :mod:`zee.model`. Sizes are chosen so that yields, widths and
tails resemble the CMS open data of 2011. Units are GeV and radians throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from zee.events import BoolArray, FloatArray, IntArray, Pairs

Z_MASS = 91.1876
"""Mass of the Z boson, GeV (Particle Data Group)."""

Z_WIDTH = 2.4952
"""Width of the Z boson, GeV (Particle Data Group)."""

RECORDED_WINDOW = (50.0, 140.0)
"""Measured masses that are recorded, GeV."""


@dataclass(frozen=True)
class Detector:
    """What the simulated detector does to electrons; pairs are (EB, EE).

    :param pt_cut: smallest measured transverse momentum, GeV.
    :param eta_edges: |eta| at the end of EB, the begin of EE, and the end of EE.
    :param efficiency: probability to identify an electron.
    :param constant: constant term of the relative energy resolution.
    :param stochastic: stochastic term, √GeV.
    :param soft_radiation: exponent b of the energy fraction x lost by radiation, density b·x^(b−1): soft photons
        summed to all orders (Yennie, Frautschi and Suura 1961), as far as the cluster does not catch them.
    :param hard_loss: probability to lose a further fraction, exponentially distributed, in the material.
    :param hard_loss_mean: mean of that fraction.
    :param charge_confusion: probability to measure the wrong charge.
    """

    pt_cut: float = 25.0
    eta_edges: tuple[float, float, float] = (1.4442, 1.566, 2.5)
    efficiency: tuple[float, float] = (0.85, 0.92)
    constant: tuple[float, float] = (0.017, 0.036)
    stochastic: tuple[float, float] = (0.08, 0.16)
    soft_radiation: tuple[float, float] = (0.045, 0.045)
    hard_loss: tuple[float, float] = (0.20, 0.20)
    hard_loss_mean: tuple[float, float] = (0.03, 0.03)
    charge_confusion: tuple[float, float] = (0.004, 0.02)


@dataclass(frozen=True)
class Sample:
    """What is in the recorded sample.

    :param background: fraction of background among the recorded pairs.
    :param background_pt: mean of the background's transverse momenta above the threshold, GeV.
    :param background_endcap: probability that a background electron is in the endcaps.
    :param detector: the detector.
    """

    background: float = 0.42
    background_pt: float = 16.0
    background_endcap: float = 0.38
    detector: Detector = field(default_factory=Detector)


Response = Callable[[FloatArray], FloatArray]
"""From relative event times (n,), 0 at the run's start and 1 at its end, to E_reco / E_true, shape (n, 2): EB, EE."""


@dataclass(frozen=True)
class Recorded:
    """Recorded pairs with what only the simulator knows.

    :param pairs: the pairs, in order of time; run numbers are all ``run`` of :func:`record`.
    :param when: relative times, shape (n,), 0 to 1.
    :param is_signal: which pairs are Z → ee.
    """

    pairs: Pairs
    when: FloatArray
    is_signal: BoolArray


def record(
    generator: np.random.Generator, count: int, response: Response, sample: Sample | None = None, run: int = 0
) -> Recorded:
    """Record pairs until there are ``count`` of them.

    :param generator: source of randomness.
    :param count: number of recorded pairs, of either relative sign.
    :param response: E_reco / E_true of the regions as a function of time.
    :param sample: composition and detector.
    :param run: the run number written into the events.
    """
    sample = sample or Sample()
    n_background = int(generator.binomial(count, sample.background))
    parts = [
        _collect(generator, count - n_background, _decays, response, sample),
        _collect(generator, n_background, _background, response, sample),
    ]
    when = np.concatenate([part[4] for part in parts])
    order = np.argsort(when, kind="stable")
    pt, eta, phi = (np.concatenate([part[i] for part in parts])[order] for i in range(3))
    charge = np.concatenate([part[3] for part in parts])[order].astype(np.int64)
    pairs = Pairs(
        run=np.full(count, run, dtype=np.int64), event=np.arange(1, count + 1, dtype=np.int64),
        pt=pt, eta=eta, phi=phi, charge=charge, region=_region(eta, sample.detector),
    )  # fmt: skip
    is_signal = np.repeat([True, False], [count - n_background, n_background])[order]
    return Recorded(pairs, when[order], is_signal)


Electrons = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
"""pt, eta, phi, charge of shape (n, 2), and relative times of shape (n,)."""

Source = Callable[[np.random.Generator, int, Sample], tuple[FloatArray, FloatArray, FloatArray, FloatArray]]
"""Makes n pairs: true pt, eta, phi and charge, each (n, 2)."""


def _collect(
    generator: np.random.Generator, count: int, source: Source, response: Response, sample: Sample
) -> Electrons:
    chunks: list[Electrons] = []
    have = 0
    while have < count:
        size = min(max(int(3.5 * (count - have)), 200), 400_000)
        pt, eta, phi, charge = source(generator, size, sample)
        when = generator.random(size)
        if source is _decays:
            pt, charge = _measure(generator, pt, eta, charge, sample.detector)
        scales = response(when)
        pt = pt * np.take_along_axis(scales, _region(eta, sample.detector), axis=1)
        keep = _recorded(generator, pt, eta, phi, sample.detector)
        chunk = (pt[keep], eta[keep], phi[keep], charge[keep], when[keep])
        chunks.append(chunk)
        have += len(chunk[4])
    if not chunks:
        nothing = np.empty((0, 2))
        return nothing, nothing, nothing, nothing, np.empty(0)
    pt, eta, phi, charge, when = (np.concatenate([chunk[i] for chunk in chunks])[:count] for i in range(5))
    return pt, eta, phi, charge, when


def _recorded(
    generator: np.random.Generator, pt: FloatArray, eta: FloatArray, phi: FloatArray, detector: Detector
) -> BoolArray:
    edge, begin, end = detector.eta_edges
    distance = np.abs(eta)
    fiducial = (distance < edge) | ((distance > begin) & (distance < end))
    identified = generator.random(eta.shape) < np.take(detector.efficiency, _region(eta, detector))
    good = (fiducial & identified & (pt > detector.pt_cut)).all(axis=1)
    squared = 2 * pt[:, 0] * pt[:, 1] * (np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1]))
    lower, upper = RECORDED_WINDOW
    return np.asarray(good & (squared > lower**2) & (squared < upper**2))


def _region(eta: FloatArray, detector: Detector) -> IntArray:
    return (np.abs(eta) > detector.eta_edges[0]).astype(np.int64)


def _measure(
    generator: np.random.Generator, pt: FloatArray, eta: FloatArray, charge: FloatArray, detector: Detector
) -> tuple[FloatArray, FloatArray]:
    """Radiation, resolution and charge confusion at scale 1."""
    region = _region(eta, detector)
    shape = pt.shape
    lost = generator.random(shape) ** (1.0 / np.take(detector.soft_radiation, region))
    hard = generator.exponential(np.take(detector.hard_loss_mean, region))
    hits_material = generator.random(shape) < np.take(detector.hard_loss, region)
    kept = (1.0 - lost) * np.where(hits_material, np.clip(1.0 - hard, 0.05, 1.0), 1.0)
    energy = pt * kept * np.cosh(eta)
    width = np.hypot(np.take(detector.constant, region), np.take(detector.stochastic, region) / np.sqrt(energy + 1e-3))
    smeared = pt * kept * np.maximum(1.0 + width * generator.standard_normal(shape), 0.01)
    confused = generator.random(shape) < np.take(detector.charge_confusion, region)
    return smeared, np.where(confused, -charge, charge)


def _decays(
    generator: np.random.Generator, count: int, sample: Sample
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Z bosons produced in proton collisions, decayed into electrons."""
    mass = _boson_masses(generator, count)
    boson_pt = 5.5 * np.sqrt(np.expm1(generator.exponential(1.0, count) / 1.05))  # rises linearly, falls as a power
    rapidity = 3.2 * (generator.beta(2.0, 2.0, count) * 2.0 - 1.0)
    boson_phi = generator.uniform(-np.pi, np.pi, count)
    cosine = _decay_cosine(generator, count)
    sine = np.sqrt(1.0 - cosine**2)
    azimuth = generator.uniform(-np.pi, np.pi, count)
    direction = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    energy = np.hypot(mass, boson_pt)
    momentum = np.empty((2, 3, count))
    for which, sign in enumerate((1.0, -1.0)):
        along, across, beam = sign * direction * mass / 2.0
        # boost along the boson's transverse momentum first, then along the beam
        boosted = (energy * along + boson_pt * mass / 2.0) / mass
        e_prime = (energy * mass / 2.0 + boson_pt * along) / mass
        momentum[which, 0] = boosted * np.cos(boson_phi) - across * np.sin(boson_phi)
        momentum[which, 1] = boosted * np.sin(boson_phi) + across * np.cos(boson_phi)
        momentum[which, 2] = beam * np.cosh(rapidity) + e_prime * np.sinh(rapidity)
    pt = np.hypot(momentum[:, 0], momentum[:, 1]).T
    eta = np.arcsinh(momentum[:, 2].T / pt)
    phi = np.arctan2(momentum[:, 1], momentum[:, 0]).T
    charge = np.tile([-1.0, 1.0], (count, 1))
    return pt, eta, phi, charge


def _boson_masses(generator: np.random.Generator, count: int) -> FloatArray:
    """Masses of the Drell–Yan process near the Z: propagators of Z and photon times a falling parton luminosity."""
    grid = np.linspace(40.0, 250.0, 42_001)
    s = grid**2
    resonance = s / ((s - Z_MASS**2) ** 2 + (s * Z_WIDTH / Z_MASS) ** 2)
    photon = 3.0e-3 / s * 40.0  # the photon's share, about 1 % near the peak's feet
    density = 2.0 * grid * (resonance + photon) * (grid / Z_MASS) ** -1.5
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    return np.asarray(np.interp(generator.random(count), cumulative / cumulative[-1], grid))


def _decay_cosine(generator: np.random.Generator, count: int) -> FloatArray:
    """Cosines of the decay angle, density 3/8 (1 + cos²): the median-root of the cubic c³ + 3c = 8u − 4."""
    v = 4.0 * generator.random(count) - 2.0
    root = np.sqrt(v**2 + 1.0)
    return np.asarray(np.clip(np.cbrt(v + root) + np.cbrt(v - root), -1.0, 1.0))


def _background(
    generator: np.random.Generator, count: int, sample: Sample
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Pairs of misidentified jets: falling momenta, roughly back to back, unrelated charges."""
    detector = sample.detector
    # from well below the threshold, so that a scale moves events across it as it does for real ones
    pt = 0.8 * detector.pt_cut + generator.exponential(sample.background_pt, (count, 2))
    edge, begin, end = detector.eta_edges
    endcap = generator.random((count, 2)) < sample.background_endcap
    distance = np.where(endcap, generator.uniform(begin, end, (count, 2)), generator.uniform(0.0, edge, (count, 2)))
    eta = distance * generator.choice([-1.0, 1.0], (count, 2))
    phi1 = generator.uniform(-np.pi, np.pi, count)
    phi2 = phi1 + np.pi + generator.normal(0.0, 0.7, count)
    phi = np.stack([phi1, (phi2 + np.pi) % (2.0 * np.pi) - np.pi], axis=1)
    return pt, eta, phi, generator.choice([-1.0, 1.0], (count, 2))
