"""The fit with free tails: it finds a tail that simulation does not know, and what it says of the real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zee.events import CATEGORIES, WINDOWS, read_pairs, select
from zee.fit import Calibration, fit_counts, fit_events, load_calibration
from zee.model import Binning, CategoryModel, SignalShape, Tail
from zee.scale import constants, measure
from zee.tails import FreeTails, fit_free_counts, fit_free_tails

NO_BIAS = {name: (0.0,) * len(CATEGORIES) for name in WINDOWS}
TRUE_TAIL = Tail(1.3, 2.2)
BINNING = Binning(*WINDOWS["70-110"])


def exact(scale: float) -> list[np.ndarray]:
    """Expected contents, without fluctuations, of a model whose tail is not that of the calibration."""
    model = CategoryModel(SignalShape(TRUE_TAIL), BINNING)
    return [model.expected(scale, 200_000.0, 0.1, sigma, 0.01)[0] for sigma in (0.015, 0.02, 0.025)]


def test_a_tail_that_simulation_does_not_know_is_found_and_with_it_the_scale() -> None:
    counts = exact(0.004)
    calibration = Calibration(load_calibration().tails, NO_BIAS)
    fixed = fit_counts(counts, calibration=calibration)
    free = fit_free_counts(counts, fixed, calibration)
    assert (np.abs(fixed.log_scales - 0.004) > 0.001).all(), "with the wrong tails the scales are wrong"
    assert free.log_scales == pytest.approx(0.004, abs=5e-5)
    for tail in free.tails:
        assert (tail.alpha, tail.n) == (pytest.approx(TRUE_TAIL.alpha, abs=0.03), pytest.approx(TRUE_TAIL.n, abs=0.1))


@pytest.fixture(scope="module")
def free(real_data: Path) -> tuple[FreeTails, np.ndarray]:
    events = select(read_pairs([real_data], None))
    return fit_free_tails(events), fit_events(events).log_scales


def test_real_data_cannot_tell_the_tails(free: tuple[FreeTails, np.ndarray]) -> None:
    """The figures that docs/example.md quotes."""
    fit, fixed = free
    shift = 100 * (np.exp(fit.log_scales) - np.exp(fixed))
    assert shift == pytest.approx([-0.17, -0.92], abs=0.03)
    for chi2, bins in zip(fit.chi2, fit.bins, strict=True):
        assert abs(chi2 - bins) < 3 * np.sqrt(2 * bins)


def test_the_shift_stands_beside_that_of_the_window(real_data: Path) -> None:
    events = select(read_pairs([real_data], None))
    content = constants(measure(events, real_data=True, windows=True, tails=True))
    endcaps = content["scales"]["EE"]
    assert endcaps["systematic_tail"] == abs(content["tail_shifts"]["EE"])
    assert endcaps["systematic_tail"] > endcaps["systematic"] > 0
    assert constants(measure(events))["scales"]["EE"]["systematic_tail"] is None
