"""Job: transparency corrections of a group of runs, from the laser's measurements in ``runs.csv``.

The correction multiplies energies: c_r = 1 / T_r, with T_r the measured transparency.

Command line: ``python -m zee.laser --runs-file runs.csv (--run N … | --runs-list LIST) --out DIR``; writes
``DIR/corrections.json``.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zee.events import REGIONS, FloatArray, Selected
from zee.jobio import JobError, read_json, read_list, report_value, run_job, write_json

Corrections = Mapping[int, Mapping[str, float]]
"""By run number and region, the factor that multiplies energies."""


def corrections_of(transparencies: Mapping[int, Sequence[float]]) -> dict[int, dict[str, float]]:
    """Corrections from measured transparencies.

    :param transparencies: by run number: EB, EE.
    """
    return {
        run: {region: 1.0 / value for region, value in zip(REGIONS, values, strict=True)}
        for run, values in transparencies.items()
    }


def read_transparencies(runs_file: Path, runs: Sequence[int]) -> dict[int, tuple[float, float]]:
    """The laser's measurements of some runs.

    :param runs_file: with columns ``run``, ``laser_eb``, ``laser_ee``.
    :param runs: run numbers.
    :raises JobError: the file is broken, or a run is not in it.
    """
    found: dict[int, tuple[float, float]] = {}
    try:
        with runs_file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = {"run", "laser_eb", "laser_ee"} - set(reader.fieldnames or ())
            if missing:
                raise JobError(f"{runs_file}:1: the header lacks the column {', '.join(sorted(missing))}")
            for row in reader:
                try:
                    run, values = int(row["run"]), (float(row["laser_eb"]), float(row["laser_ee"]))
                except (TypeError, ValueError) as error:
                    raise JobError(f"{runs_file}:{reader.line_num}: not a run with laser_eb and laser_ee") from error
                if not all(0.5 < value < 2.0 for value in values):
                    raise JobError(f"{runs_file}:{reader.line_num}: a transparency of {values} is not credible")
                found[run] = values
    except OSError as error:
        raise JobError(f"{runs_file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{runs_file}: is not UTF-8 text") from error
    absent = [str(run) for run in runs if run not in found]
    if absent:
        raise JobError(f"{runs_file}: has no run {', '.join(absent)}")
    return {run: found[run] for run in runs}


def read_corrections(files: Sequence[Path]) -> dict[int, dict[str, float]]:
    """Read and join files of corrections.

    :param files: files written by this job, each ``{"runs": {"<run>": {"EB": c, "EE": c}}}``.
    """
    joined: dict[int, dict[str, float]] = {}
    for file in files:
        content = read_json(file)
        try:
            for run, factors in content["runs"].items():
                joined[int(run)] = {region: float(factors[region]) for region in REGIONS}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JobError(f"{file}: is not a file of laser corrections") from error
    return joined


def apply_corrections(events: Selected, corrections: Corrections) -> Selected:
    """Correct masses: a pair's mass scales with the square root of its electrons' factors.

    :param events: selected events.
    :param corrections: of every run among the events.
    :raises JobError: a run has no correction.
    """
    runs, place = np.unique(events.run, return_inverse=True)
    absent = [str(run) for run in runs if int(run) not in corrections]
    if absent:
        raise JobError(f"no laser correction for run {', '.join(absent)}")
    factors = np.array([[corrections[int(run)][region] for region in REGIONS] for run in runs]).reshape(-1, 2)
    return events.with_mass(events.mass * mass_factor(factors[place], events.category))


def mass_factor(factors: FloatArray, category: np.typing.NDArray[np.int64]) -> FloatArray:
    """√(f_i f_j) of pairs.

    :param factors: of the regions EB and EE, shape (2,) or (n, 2).
    :param category: number of endcap electrons, shape (n,).
    """
    return np.asarray(factors[..., 0] ** (1.0 - 0.5 * category) * factors[..., 1] ** (0.5 * category))


def _dawdle(runs: Sequence[int]) -> None:
    """Be late with the run of ``ZEE_SLOW_LASER="RUN SECONDS"``: a demonstration of what waits for this payload."""
    asked = os.environ.get("ZEE_SLOW_LASER", "").split()
    if len(asked) == 2 and int(asked[0]) in runs:
        time.sleep(float(asked[1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.laser", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs-file",
        type=Path,
        default=os.environ.get("CALIB_ZEE_RUNS"),
        help="runs.csv with the laser's measurements; $CALIB_ZEE_RUNS if left out",
    )
    parser.add_argument("--events", type=Path, help="without either, the runs.csv is above the folder of this file")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", type=int, nargs="+", help="run numbers")
    which.add_argument(
        "--runs-list",
        type=Path,
        default=os.environ.get("CALIB_RUNS_FILE"),
        help="a file with one run number per line; $CALIB_RUNS_FILE if left out",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    chosen = parser.parse_args(arguments)
    runs_file = chosen.runs_file or (chosen.events and chosen.events.parents[1] / "runs.csv")
    if runs_file is None:
        parser.error("say --runs-file or --events, or set CALIB_ZEE_RUNS")
    runs = chosen.run
    if runs is None:
        if chosen.runs_list is None:
            parser.error("say --run or --runs-list, or set CALIB_RUNS_FILE")
        try:
            runs = [int(entry) for entry in read_list(chosen.runs_list)]
        except ValueError as error:
            raise JobError(f"{chosen.runs_list}: not a list of run numbers: {error}") from error
    _dawdle(runs)
    corrections = corrections_of(read_transparencies(runs_file, runs))
    write_json(chosen.out / "corrections.json", {"runs": {str(run): factors for run, factors in corrections.items()}})
    report_value("laser_runs", len(corrections))
    for region in REGIONS:
        mean = sum(factors[region] for factors in corrections.values()) / len(corrections)
        report_value(f"laser_correction_{region}", mean)


if __name__ == "__main__":
    sys.exit(run_job(main))
