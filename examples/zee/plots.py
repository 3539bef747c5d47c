"""Pictures: the mass spectra of a group with the fit, and the scales of many groups against time or run number.

Command line::

    python -m zee.plots spectrum SPECTRUM.json --out FILE.png
    python -m zee.plots scales CONSTANTS.json … [--truth truth.json] --out FILE.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zee.events import CATEGORIES, REGIONS
from zee.jobio import read_json, run_job, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {"EBEB": "EB–EB", "EBEE": "EB–EE", "EEEE": "EE–EE"}
_COLOURS = {"EB": "tab:blue", "EE": "tab:red"}


def plot_spectrum(spectrum_file: Path, out: Path) -> None:
    """The mass spectrum of each category, the fitted curve, and the deviations in standard deviations.

    :param spectrum_file: ``spectrum.json`` of a group.
    :param out: the PNG file.
    """
    from matplotlib.figure import Figure

    content = read_json(spectrum_file)
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    axes = figure.subplots(2, len(CATEGORIES), sharex=True, height_ratios=(3, 1), squeeze=False)
    for column, name in enumerate(CATEGORIES):
        category = content[name]
        edges, data, fit = (np.array(category[key]) for key in ("edges", "data", "fit"))
        centre = 0.5 * (edges[1:] + edges[:-1])
        above, below = axes[0, column], axes[1, column]
        above.errorbar(centre, data, yerr=np.sqrt(data), fmt="k.", markersize=3, linewidth=0.7, label="events")
        above.stairs(fit, edges, color="tab:red", label="fit")
        above.stairs(category["background"], edges, color="tab:grey", linestyle="--", label="background")
        quality = f"χ² {category['chi2']:.1f} in {category['bins']} bins"
        above.set_title(f"{_TITLES[name]}: {int(data.sum())} events, {quality}")
        above.set_ylim(bottom=0)
        below.axhline(0.0, color="tab:grey", linewidth=0.8)
        below.plot(centre, (data - fit) / np.sqrt(fit), "k.", markersize=3)
        below.set_ylim(-4.5, 4.5)
        below.set_xlabel("mass [GeV]")
    axes[0, 0].set_ylabel(f"events / {edges[1] - edges[0]:.1f} GeV")
    axes[1, 0].set_ylabel("(data − fit)/σ")
    axes[0, 0].legend(frameon=False)
    _save(figure, out)


def plot_old_and_new(constants_file: Path, former_file: Path | None, out: Path) -> None:
    """The scales of a group beside those that held before.

    :param constants_file: ``constants.json`` of the group.
    :param former_file: that of the group before; ``None``: there is none.
    :param out: the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for file, label, marker, shift in ((constants_file, "new", "o", 0.06), (former_file, "old", "s", -0.06)):
        if file is None:
            continue
        scales = [read_json(file)["scales"][region] for region in REGIONS]
        places = np.arange(len(REGIONS)) + shift
        values, errors = ([scale[key] for scale in scales] for key in ("value", "error"))
        axis.errorbar(places, values, yerr=errors, fmt=marker, label=label)
    axis.set_xticks(range(len(REGIONS)), REGIONS)
    axis.set_ylabel("scale")
    axis.legend(frameon=False)
    _save(figure, out)


def plot_scales(constants_files: Sequence[Path], out: Path, truth_file: Path | None = None) -> None:
    """The groups' scales, against time with the injected curve if there is a truth, else against run number.

    :param constants_files: ``constants.json`` of the groups.
    :param out: the PNG file.
    :param truth_file: ``truth.json`` of the simulation; it knows the runs' times.
    """
    from matplotlib.figure import Figure

    groups = [read_json(file) for file in constants_files]
    truth = read_json(truth_file) if truth_file else None
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots(len(REGIONS), 1, sharex=True)
    for axis, region in zip(axes, REGIONS, strict=True):
        for group in groups:
            first, last = _span(group, truth)
            middle = first + (last - first) / 2
            scale = group["scales"][region]
            axis.hlines(scale["value"], first, last, color=_COLOURS[region])
            axis.errorbar(
                [middle], [scale["value"]], yerr=[scale["error"]], fmt="o", markersize=4, color=_COLOURS[region]
            )
        if truth:
            curve = truth["curve"]
            times = [_moment(text) for text in curve["time"]]
            axis.plot(times, np.exp(curve[f"ln_s_{region}"]), color="tab:grey", label="injected")
            axis.legend(frameon=False)
        axis.set_ylabel(f"scale {region}")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time (UTC)" if truth else "run")
    if truth:
        figure.autofmt_xdate()
    else:
        axes[-1].ticklabel_format(style="plain", useOffset=False)
    _save(figure, out)


def _span(group: Any, truth: Any) -> tuple[Any, Any]:
    runs = group["runs"]
    if truth is None:
        return min(runs), max(runs)
    return _moment(truth["runs"][str(min(runs))]["start"]), _moment(truth["runs"][str(max(runs))]["end"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _save(figure: Figure, out: Path) -> None:
    write_whole(out, lambda target: figure.savefig(target, dpi=130, format="png"))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.plots", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    spectrum = kinds.add_parser("spectrum", help="mass spectra of a group")
    spectrum.add_argument("spectrum", type=Path)
    scales = kinds.add_parser("scales", help="scales of groups against time, or run number without a truth")
    scales.add_argument("constants", type=Path, nargs="+")
    scales.add_argument("--truth", type=Path)
    for kind in (spectrum, scales):
        kind.add_argument("--out", type=Path, required=True, help="PNG file")
    chosen = parser.parse_args(arguments)
    if chosen.kind == "spectrum":
        plot_spectrum(chosen.spectrum, chosen.out)
    else:
        plot_scales(chosen.constants, chosen.out, chosen.truth)


if __name__ == "__main__":
    sys.exit(run_job(main))
