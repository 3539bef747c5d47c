"""Tail parameters and residual biases from simulation at scale 1; writes ``tail_parameters.json``.

1. Signal alone: Breit–Wigner ⊗ Crystal Ball with the scale fixed at 1 gives the tail (α, n) of each category.
2. Signal and background, an independent sample: the fit with these tails, each category with a scale of its own, gives
   the estimator's residual bias in ln s for each fit window. The fit subtracts it.

Command line: ``python -m zee.tune [--events 16000000] [--seed 20110101] [--out tail_parameters.json]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from iminuit import Minuit

from zee.events import CATEGORIES, DEFAULT_WINDOW, WINDOWS, FloatArray, select
from zee.fit import SEPARATE_SCALES, SHARED_SCALES, TAIL_FILE, Calibration, fit_counts
from zee.generator import Sample, record
from zee.jobio import run_job, write_json
from zee.model import SIGMA_RANGE, Binning, SignalShape, Tail

Histograms = dict[str, list[FloatArray]]
"""By name of the window, one histogram per category."""

_CHUNK = 500_000


def simulated_histograms(events: int, seed: int, sample: Sample, signal_only: bool) -> Histograms:
    """Histograms of selected events at scale 1.

    :param events: number of recorded pairs to simulate.
    :param seed: of the random numbers.
    :param sample: composition and detector.
    :param signal_only: leave the background out.
    :returns: contents of 0.5 GeV bins.
    """
    generator = np.random.default_rng(seed)
    total: Histograms = {
        name: [np.zeros(len(Binning(*window).edges) - 1) for _ in CATEGORIES] for name, window in WINDOWS.items()
    }
    done = 0
    while done < events:
        size = min(_CHUNK, events - done)
        recorded = record(generator, size, lambda when: np.ones((len(when), 2)), sample)
        done += size
        pairs = recorded.pairs.take(recorded.is_signal) if signal_only else recorded.pairs
        chosen = select(pairs)
        for name, window in WINDOWS.items():
            for index in range(len(CATEGORIES)):
                total[name][index] += Binning(*window).count(chosen.mass[chosen.category == index])
    return total


def fit_tail(content: FloatArray) -> tuple[Tail, float]:
    """Fit α, n and σ to a signal histogram with the scale fixed at 1.

    :param content: histogram in the default window.
    :returns: the tail and the relative resolution.
    """
    binning = Binning(*WINDOWS[DEFAULT_WINDOW])
    log_edges = np.log(binning.edges)

    def cost(alpha: float, n: float, sigma: float) -> float:
        expected = content.sum() * SignalShape(Tail(alpha, n)).fractions(log_edges, 0.0, sigma)[0]
        return float((expected - content * np.log(expected)).sum())

    minuit = Minuit(cost, alpha=1.0, n=2.5, sigma=0.025)
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.limits["alpha"] = (0.2, 4.0)
    minuit.limits["n"] = (0.6, 30.0)
    minuit.limits["sigma"] = SIGMA_RANGE
    for name, error in (("alpha", 0.05), ("n", 0.2), ("sigma", 0.001)):
        minuit.errors[name] = error
    minuit.strategy = 0
    minuit.migrad()
    return Tail(round(float(minuit.values["alpha"]), 4), round(float(minuit.values["n"]), 4)), float(
        minuit.values["sigma"]
    )


def tune(events: int, seed: int, sample: Sample | None = None) -> dict[str, Any]:
    """Determine tails and biases.

    :param events: recorded pairs to simulate for each of the two steps.
    :param seed: of the first step; the second uses ``seed + 1``.
    :param sample: composition and detector.
    :returns: the content of ``tail_parameters.json``.
    """
    sample = sample or Sample()
    signal = simulated_histograms(events // 4, seed, sample, signal_only=True)[DEFAULT_WINDOW]
    tails = [fit_tail(content) for content in signal]
    unbiased = {name: (0.0,) * len(CATEGORIES) for name in WINDOWS}
    calibration = Calibration(tuple(tail for tail, _ in tails), unbiased)
    everything = simulated_histograms(events, seed + 1, sample, signal_only=False)
    separate = {name: fit_counts(everything[name], name, SEPARATE_SCALES, calibration) for name in WINDOWS}
    corrected = Calibration(calibration.tails, {name: tuple(fit.log_scales) for name, fit in separate.items()})
    shared = {name: fit_counts(everything[name], name, SHARED_SCALES, corrected) for name in WINDOWS}
    default = separate[DEFAULT_WINDOW]
    return {
        "about": "written by python -m zee.tune; tails of the Crystal Ball, the fit's residual bias in ln s at s = 1",
        "tails": {name: {"alpha": tail.alpha, "n": tail.n} for name, (tail, _) in zip(CATEGORIES, tails, strict=True)},
        "bias": {
            name: {category: float(value) for category, value in zip(CATEGORIES, fit.log_scales, strict=True)}
            for name, fit in separate.items()
        },
        "bias_error": {
            category: float(error)
            for category, error in zip(CATEGORIES, np.sqrt(np.diag(default.covariance)), strict=True)
        },
        "bias_left_with_shared_scales": {
            name: {"EB": float(fit.log_scales[0]), "EE": float(fit.log_scales[1])} for name, fit in shared.items()
        },
        "provenance": {
            "seed_tails": seed,
            "seed_bias": seed + 1,
            "recorded_pairs_tails": events // 4,
            "recorded_pairs_bias": events,
            "events_in_window_tails": _totals(signal),
            "events_in_window_bias": _totals(everything[DEFAULT_WINDOW]),
            "chi2_per_bin": {
                category: round(spectrum.chi2 / spectrum.bins, 3)
                for category, spectrum in zip(CATEGORIES, default.spectra, strict=True)
            },
            "resolution": {name: round(sigma, 5) for name, (_, sigma) in zip(CATEGORIES, tails, strict=True)},
        },
    }


def _totals(contents: list[FloatArray]) -> dict[str, int]:
    return {name: int(content.sum()) for name, content in zip(CATEGORIES, contents, strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.tune", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=16_000_000, help="recorded pairs for the bias")
    parser.add_argument("--seed", type=int, default=20110101)
    parser.add_argument("--out", type=Path, default=TAIL_FILE)
    chosen = parser.parse_args(arguments)
    write_json(chosen.out, tune(chosen.events, chosen.seed))


if __name__ == "__main__":
    sys.exit(run_job(main))
