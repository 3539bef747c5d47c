"""Job: selected events of a group of runs → energy scales of barrel and endcaps with their covariance.

Command line::

    python -m zee.scale --inputs-file LIST --out DIR [--laser FILE …] [--apply constants.json] [--parity even|odd]
                        [--windows] [--tails] [--real-data]

LIST has one path per line: files of selected events of any runs and jobs, or folders that hold one as ``events.npz``.
Writes ``DIR/constants.json`` and ``DIR/spectrum.json``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zee.events import (
    CATEGORIES,
    DEFAULT_WINDOW,
    REGIONS,
    WINDOWS,
    FloatArray,
    Selected,
    in_window,
    read_selected,
    write_selected,
)
from zee.fit import FEW_EVENTS, SEPARATE_SCALES, FitResult, consistency, fit_events
from zee.jobio import JobError, read_json, read_list, report_value, run_job, write_json
from zee.laser import apply_corrections, mass_factor, read_corrections
from zee.tails import fit_free_tails


@dataclass(frozen=True)
class Scales:
    """The calibration of a group.

    :param fit: of the default window.
    :param consistency: χ², 1 degree of freedom, of three categories with two scales.
    :param inflation: factor of the quoted errors: √(consistency) where that exceeds 1 on real data, else 1.
    :param window_shifts: by window and region, the scale's shift against the default window; empty if not asked for.
    :param tail_shifts: by region, the scale's shift when the data choose the tails; empty if not asked for.
    :param events: per category, the number in the default window.
    :param runs: per run, the number of events in the default window.
    """

    fit: FitResult
    consistency: float
    inflation: float
    window_shifts: Mapping[str, Mapping[str, float]]
    tail_shifts: Mapping[str, float]
    events: Mapping[str, int]
    runs: Mapping[int, int]

    @property
    def values(self) -> FloatArray:
        """The widths s of EB and EE."""
        return np.asarray(np.exp(self.fit.log_scales))

    @property
    def log_covariance(self) -> FloatArray:
        """Covariance of ln s, inflated, shape (2, 2)."""
        return self.fit.covariance * self.inflation**2

    @property
    def covariance(self) -> FloatArray:
        """Covariance of s, inflated, shape (2, 2)."""
        return np.asarray(self.log_covariance * np.outer(self.values, self.values))

    @property
    def errors(self) -> FloatArray:
        """Standard deviations of s of EB and EE."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def warnings(self) -> list[str]:
        """What a reader of the constants must know."""
        found = []
        if self.events["EEEE"] < FEW_EVENTS:
            found.append(
                f"{self.events['EEEE']} EE–EE events in the window, fewer than {FEW_EVENTS}: "
                "the error of scale_EE is visibly not Gaussian"
            )
        return found


def apply_scales(events: Selected, scales: FloatArray) -> Selected:
    """Apply constants: energies are divided by s.

    :param events: selected events.
    :param scales: s of EB and EE, shape (2,).
    """
    return events.with_mass(events.mass / mass_factor(scales, events.category))


def with_parity(events: Selected, parity: str | None) -> Selected:
    """Events with even or with odd event numbers.

    :param events: selected events.
    :param parity: ``even``, ``odd``, or ``None`` for all.
    """
    if parity is None:
        return events
    return events.take(events.event % 2 == (0 if parity == "even" else 1))


def measure(events: Selected, real_data: bool = False, windows: bool = False, tails: bool = False) -> Scales:
    """Fit a group's events.

    :param events: selected and corrected events.
    :param real_data: inflate errors when the categories disagree.
    :param windows: also fit the other windows.
    :param tails: also fit with free tails.
    """
    fit = fit_events(events)
    chi2 = consistency(fit_events(events, matrix=SEPARATE_SCALES))
    shifts: dict[str, dict[str, float]] = {}
    for name in WINDOWS if windows else ():
        if name != DEFAULT_WINDOW:
            other = np.exp(fit_events(events, name).log_scales) - np.exp(fit.log_scales)
            shifts[name] = {region: float(value) for region, value in zip(REGIONS, other, strict=True)}
    moved = np.exp(fit_free_tails(events).log_scales) - np.exp(fit.log_scales) if tails else ()
    used = events.take(in_window(events.mass, WINDOWS[DEFAULT_WINDOW]))
    numbers, sizes = np.unique(used.run, return_counts=True)
    return Scales(
        fit=fit,
        consistency=chi2,
        inflation=max(1.0, float(np.sqrt(chi2))) if real_data else 1.0,
        window_shifts=shifts,
        tail_shifts={region: float(value) for region, value in zip(REGIONS, moved, strict=bool(tails))},
        events={name: int((used.category == index).sum()) for index, name in enumerate(CATEGORIES)},
        runs={int(run): int(size) for run, size in zip(numbers, sizes, strict=True)},
    )


def constants(scales: Scales, **extra: Any) -> dict[str, Any]:
    """The content of ``constants.json``.

    :param scales: of a group.
    :param extra: further entries.
    """
    log_errors = np.sqrt(np.diag(scales.log_covariance))
    systematic = {
        region: max((abs(shift[region]) for shift in scales.window_shifts.values()), default=None) for region in REGIONS
    }
    return {
        "scales": {
            region: {
                "value": float(scales.values[index]),
                "error": float(scales.errors[index]),
                "ln": float(scales.fit.log_scales[index]),
                "ln_error": float(log_errors[index]),
                "systematic": systematic[region],
                "systematic_tail": abs(scales.tail_shifts[region]) if scales.tail_shifts else None,
            }
            for index, region in enumerate(REGIONS)
        },
        "covariance": scales.covariance.tolist(),
        "error_inflation": scales.inflation,
        "chi2": {
            name: {"chi2": spectrum.chi2, "bins": spectrum.bins}
            for name, spectrum in zip(CATEGORIES, scales.fit.spectra, strict=True)
        },
        "consistency": {"chi2": scales.consistency, "ndf": 1},
        "window": DEFAULT_WINDOW,
        "window_shifts": scales.window_shifts,
        "tail_shifts": scales.tail_shifts,
        "events": dict(scales.events),
        "runs": sorted(scales.runs),
        "events_per_run": {str(run): size for run, size in scales.runs.items()},
        "warnings": scales.warnings,
        **extra,
    }


def spectrum(scales: Scales) -> dict[str, Any]:
    """The content of ``spectrum.json``: data and curve of each category, for plots.

    :param scales: of a group.
    """
    return {
        name: {
            "edges": content.edges.tolist(),
            "data": content.data.tolist(),
            "fit": content.fitted.tolist(),
            "background": content.background.tolist(),
            "chi2": content.chi2,
            "bins": content.bins,
        }
        for name, content in zip(CATEGORIES, scales.fit.spectra, strict=True)
    }


def read_scales(path: Path) -> FloatArray:
    """Read the widths s of EB and EE from a ``constants.json``.

    :param path: the file.
    """
    content = read_json(path)
    try:
        values = np.array([float(content["scales"][region]["value"]) for region in REGIONS])
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"{path}: is not a file of scales") from error
    if not (values > 0.0).all():
        raise JobError(f"{path}: scales {values.tolist()} are not positive")
    return values


def group_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a group's events.

    :param parser: of a job.
    """
    parser.add_argument("--inputs-file", type=Path, required=True, help="a file with one path of events per line")
    parser.add_argument(
        "--laser",
        type=_paths,
        nargs="+",
        action="extend",
        default=[],
        help="laser corrections; several files in one argument are separated by colons",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--real-data", action="store_true", help="inflate errors when the categories disagree")


def _paths(text: str) -> list[Path]:
    return [Path(part) for part in text.split(os.pathsep)]


def group_events(chosen: argparse.Namespace) -> Selected:
    """The events that the options of :func:`group_arguments` name, corrected if corrections are given.

    :param chosen: parsed options.
    """
    events = read_selected([Path(entry) for entry in read_list(chosen.inputs_file)])
    corrections = [path for paths in chosen.laser for path in paths]
    return apply_corrections(events, read_corrections(corrections)) if corrections else events


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.scale", description=__doc__.splitlines()[0])
    group_arguments(parser)
    parser.add_argument("--apply", type=Path, help="divide energies by the scales of this file first")
    parser.add_argument("--parity", choices=("even", "odd"), help="only events with such numbers")
    parser.add_argument("--windows", action="store_true", help="also fit 75-105 and 60-120 GeV")
    parser.add_argument("--tails", action="store_true", help="also fit with the tail of each category free")
    chosen = parser.parse_args(arguments)
    corrected = group_events(chosen)
    write_selected(chosen.out / "corrected.npz", corrected)
    events = with_parity(corrected, chosen.parity)
    applied = read_scales(chosen.apply) if chosen.apply else None
    if applied is not None:
        events = apply_scales(events, applied)
    scales = measure(events, chosen.real_data, chosen.windows, chosen.tails)
    content = constants(
        scales,
        parity=chosen.parity,
        applied=None if applied is None else dict(zip(REGIONS, applied.tolist(), strict=True)),
        laser_corrected=bool(chosen.laser),
    )
    write_json(chosen.out / "constants.json", _shifted(content))
    write_json(chosen.out / "spectrum.json", spectrum(scales))
    for warning in scales.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    _report(scales)


def _shifted(content: dict[str, Any]) -> dict[str, Any]:
    """On purpose wrong constants of the runs that ``ZEE_SHIFTED_RUNS`` names: EE is 10 % too large."""
    if {*os.environ.get("ZEE_SHIFTED_RUNS", "").split()} & {str(run) for run in content["runs"]}:
        content["scales"]["EE"]["value"] *= 1.1
    return content


def _report(scales: Scales) -> None:
    for index, region in enumerate(REGIONS):
        report_value(f"scale_{region}", float(scales.values[index]), float(scales.errors[index]))
        shifts = [abs(shift[region]) for shift in scales.window_shifts.values()]
        if shifts:
            report_value(f"systematic_{region}", max(shifts))
        if scales.tail_shifts:
            report_value(f"systematic_tail_{region}", abs(scales.tail_shifts[region]))
    for name, content in zip(CATEGORIES, scales.fit.spectra, strict=True):
        report_value(f"chi2_{name}", content.chi2)
        report_value(f"bins_{name}", content.bins)
        report_value(f"events_{name}", scales.events[name])
    report_value("consistency_chi2", scales.consistency)


if __name__ == "__main__":
    sys.exit(run_job(main))
