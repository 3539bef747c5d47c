"""Job: the scales by iteration: events are corrected with the scales of now, and what is left of these is fitted.

Command line::

    python -m zee.steps measure --inputs-file LIST --constants scales.json --out DIR
    python -m zee.steps update --inputs-file LIST --constants scales.json --out DIR [--damping D]

``measure`` writes ``DIR/counts.json``, the mass spectra of its events; ``update`` adds up those that LIST names, fits
them, writes ``DIR/scales.json``, and reports what was left of the scales before: 1 in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zee.events import CATEGORIES, DEFAULT_WINDOW, REGIONS, WINDOWS, read_selected
from zee.fit import fit_counts
from zee.jobio import REPORT_VARIABLE, JobError, read_json, read_list, report_value, run_job, write_json
from zee.model import Binning
from zee.scale import apply_scales, read_scales


def measure(inputs: Path, constants: Path, out: Path) -> None:
    """Count the events of one job in bins of their corrected mass.

    :param inputs: a file with one path of selected events per line.
    :param constants: the scales of this step.
    :param out: output folder.
    """
    events = apply_scales(read_selected([Path(entry) for entry in read_list(inputs)]), read_scales(constants))
    binning = Binning(*WINDOWS[DEFAULT_WINDOW])
    counts = [binning.count(events.mass[events.category == index]) for index in range(len(CATEGORIES))]
    write_json(out / "counts.json", [content.tolist() for content in counts])
    report_value("events", float(sum(content.sum() for content in counts)))


def update(inputs: Path, constants: Path, out: Path, damping: float) -> None:
    """Fit what is left of the scales, and correct them.

    :param inputs: a file with one path of ``counts.json`` per line.
    :param constants: the scales of this step.
    :param out: output folder.
    :param damping: how much of what is left is corrected: 1 for all.
    :raises JobError: there are too few events, or the fit does not converge.
    """
    parts = [read_json(Path(entry)) for entry in read_list(inputs)]
    fit = fit_counts([np.sum([part[index] for part in parts], axis=0) for index in range(len(CATEGORIES))])
    left, errors = np.exp(fit.log_scales), np.sqrt(np.diag(fit.covariance))
    found = read_scales(constants) * left**damping
    scales = {region: {"value": float(found[index])} for index, region in enumerate(REGIONS)}
    write_json(out / "scales.json", {"scales": scales})
    metrics = {
        region: {"value": float(left[index]), "error": float(left[index] * errors[index])}
        for index, region in enumerate(REGIONS)
    }
    if target := os.environ.get(REPORT_VARIABLE):
        with Path(target).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"metrics": metrics}, allow_nan=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.steps", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("measure", "update"))
    parser.add_argument("--inputs-file", type=Path, required=True, help="a file with one path per line")
    parser.add_argument("--constants", type=Path, required=True, help="the scales of now")
    parser.add_argument("--damping", type=float, default=1.0, help="how much of what is left is corrected")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.damping <= 1:
        raise JobError(f"--damping is {chosen.damping}; it must be above 0, and at most 1")
    if chosen.part == "measure":
        measure(chosen.inputs_file, chosen.constants, chosen.out)
    else:
        update(chosen.inputs_file, chosen.constants, chosen.out, chosen.damping)


if __name__ == "__main__":
    sys.exit(run_job(main))
