"""The example on real data: CMS open data of 2011, read where it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zee.closure import close
from zee.events import Selected, in_window, read_pairs, select
from zee.scale import Scales, measure

GROUP_EVENTS = 4000


@pytest.fixture(scope="module")
def recorded(real_data: Path) -> tuple[Selected, dict[int, int]]:
    """Selected events, and recorded events per run."""
    pairs = read_pairs([real_data], None)
    runs, sizes = np.unique(pairs.run, return_counts=True)
    return select(pairs), dict(zip(runs.tolist(), sizes.tolist(), strict=True))


@pytest.fixture(scope="module")
def whole(recorded: tuple[Selected, dict[int, int]]) -> Scales:
    return measure(recorded[0], real_data=True, windows=True)


def groups(sizes: dict[int, int]) -> list[list[int]]:
    """Runs in order until a group has its events; what is left at the end joins the last group."""
    made: list[list[int]] = [[]]
    for run in sorted(sizes):
        if sum(sizes[member] for member in made[-1]) >= GROUP_EVENTS:
            made.append([])
        made[-1].append(run)
    if len(made) > 1 and sum(sizes[member] for member in made[-1]) < GROUP_EVENTS:
        tail = made.pop()
        made[-1] += tail
    return made


def test_what_the_file_holds(recorded: tuple[Selected, dict[int, int]]) -> None:
    assert len(recorded[1]) == 65
    assert sum(recorded[1].values()) == 18_885
    assert (min(recorded[1].values()), max(recorded[1].values())) == (15, 2829)


def test_the_whole_period_fits(whole: Scales) -> None:
    for spectrum in whole.fit.spectra:
        assert abs(spectrum.chi2 - spectrum.bins) < 4 * np.sqrt(2 * spectrum.bins)
    assert (np.abs(whole.values - 1.0) < 0.02).all()
    assert (whole.errors < [0.001, 0.003]).all()
    assert max(abs(value) for shift in whole.window_shifts.values() for value in shift.values()) < 0.005


def test_errors_are_inflated_when_the_categories_disagree(whole: Scales) -> None:
    assert whole.inflation == pytest.approx(max(1.0, np.sqrt(whole.consistency)))


def test_closure_over_the_whole_period(recorded: tuple[Selected, dict[int, int]]) -> None:
    closure = close(recorded[0], real_data=True)
    assert (np.abs(closure.pulls) < 3.5).all()


def test_groups_of_4000_events(recorded: tuple[Selected, dict[int, int]]) -> None:
    events, sizes = recorded
    made = groups(sizes)
    assert [run for runs in made for run in runs] == sorted(sizes)
    for runs in made:
        scales = measure(events.take(np.isin(events.run, runs)), real_data=True)
        assert scales.events["EEEE"] >= 250
        assert scales.warnings == []
        assert (np.abs(scales.values - 1.0) < 0.03).all()
        for spectrum in scales.fit.spectra:
            assert abs(spectrum.chi2 - spectrum.bins) < 4 * np.sqrt(2 * spectrum.bins)


def test_the_selection_keeps_what_the_widest_window_needs(recorded: tuple[Selected, dict[int, int]]) -> None:
    assert in_window(recorded[0].mass, (60.0, 120.0)).all()
