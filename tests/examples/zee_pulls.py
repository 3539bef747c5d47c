"""Pulls of the fit: data sets are simulated run by run, cut into groups of four runs, and fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from zee.events import WINDOWS, FloatArray, Selected, in_window, select
from zee.fit import DEFAULT_WINDOW, fit_events
from zee.laser import apply_corrections, corrections_of
from zee.simulate import Plan, RunData, simulate_runs

RUNS_OF_A_GROUP = 4


@dataclass(frozen=True)
class Pulls:
    """Results of (data set, group) pairs, each of shape (groups, 2): EB, EE.

    :param deviations: fitted minus injected ln s.
    :param errors: the fit's errors of ln s.
    :param fewest_endcap: the smallest number of EE–EE events in a group's window.
    """

    deviations: FloatArray
    errors: FloatArray
    fewest_endcap: int

    @property
    def values(self) -> FloatArray:
        return self.deviations / self.errors

    def summary(self) -> str:
        mean, width, bias = self.values.mean(axis=0), self.values.std(axis=0, ddof=1), self.deviations.mean(axis=0)
        return (
            f"{len(self.values)} pulls: mean {mean.round(3)}, width {width.round(3)}, bias {(100 * bias).round(4)} %, "
            f"error {(100 * self.errors.mean(axis=0)).round(3)} %, at least {self.fewest_endcap} EE-EE events"
        )


def collect(groups: int, first_seed: int) -> Pulls:
    """Simulate and fit as many groups; each data set of 24 runs has a seed of its own."""
    deviations, errors, fewest = [], [], []
    for runs in _groups(groups, first_seed):
        selected = [select(run.pairs) for run in runs]
        events = join(selected)
        events = apply_corrections(events, corrections_of({run.info.number: run.laser for run in runs}))
        fit = fit_events(events)
        injected = injected_log_scales(runs, selected)
        deviations.append(fit.log_scales - injected)
        errors.append(np.sqrt(np.diag(fit.covariance)))
        fewest.append(fit.spectra[2].data.sum())
    return Pulls(np.array(deviations), np.array(errors), int(min(fewest)))


def join(parts: list[Selected]) -> Selected:
    return Selected(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("run", "event", "mass", "category"))
    )


def injected_log_scales(runs: list[RunData], selected: list[Selected]) -> FloatArray:
    """Mean of ln s over the selected events."""
    weights = [in_window(events.mass, WINDOWS[DEFAULT_WINDOW]).sum() for events in selected]
    return np.average([run.log_scales for run in runs], axis=0, weights=weights)


def _groups(count: int, seed: int) -> Iterator[list[RunData]]:
    made = 0
    while True:
        group: list[RunData] = []
        for run in simulate_runs(Plan(seed=seed)):
            group.append(run)
            if len(group) == RUNS_OF_A_GROUP:
                yield group
                group, made = [], made + 1
                if made == count:
                    return
        seed += 1
