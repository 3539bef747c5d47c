"""Job: one block of one run's events → selected events.

Command line::

    python -m zee.select --run N (--input FILE … | --inputs-file LIST) --out DIR [--job I --jobs N]
                         [--fail] [--fail-attempt A] [--flaky-run RUN …] [--broken-run RUN …]

Writes ``DIR/events.npz`` (arrays ``run event mass category``) and ``DIR/counts.json``. The last four options make the
job fail on purpose, for demonstrations: always; at one attempt (the number in the environment variable
``CALIB_ATTEMPT``); at the first attempt of job 0 of some runs; always for some runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from zee.events import (
    CATEGORIES,
    DEFAULT_WINDOW,
    KEPT_WINDOW,
    WINDOWS,
    Pairs,
    Selected,
    in_window,
    read_pairs,
    select,
    write_selected,
)
from zee.jobio import JobError, read_list, report_value, run_job, write_json

ATTEMPT_VARIABLE = "CALIB_ATTEMPT"
"""Environment variable with the number of this attempt, 1 for the first."""

EXIT_ON_PURPOSE = 3
"""Exit code of a failure that was asked for."""


def counts(pairs: Pairs, selected: Selected) -> dict[str, object]:
    """How many events pass which cut.

    :param pairs: the events that were read.
    :param selected: those that were selected.
    """
    window = in_window(selected.mass, WINDOWS[DEFAULT_WINDOW])
    return {
        "read": len(pairs),
        "opposite_sign": int(pairs.opposite_sign().sum()),
        "kept": len(selected),
        "kept_window": list(KEPT_WINDOW),
        "in_window": int(window.sum()),
        "window": list(WINDOWS[DEFAULT_WINDOW]),
        "categories": {
            name: int((window & (selected.category == index)).sum()) for index, name in enumerate(CATEGORIES)
        },
    }


def _fail_on_purpose(chosen: argparse.Namespace) -> None:
    text = os.environ.get(ATTEMPT_VARIABLE, "")
    attempt = int(text) if text.isdigit() else None
    where = f"run {chosen.run}, job {chosen.job}"
    if chosen.fail or chosen.run in chosen.broken_run:
        raise JobError(f"{where}: fails for good, as it was asked to", EXIT_ON_PURPOSE)
    flaky = attempt == 1 and chosen.job == 0 and chosen.run in chosen.flaky_run
    if flaky or (attempt is not None and attempt == chosen.fail_attempt):
        raise JobError(f"{where}: fails at attempt {attempt}, as it was asked to", EXIT_ON_PURPOSE)


def _asked_for(variable: str) -> list[int]:
    """Run numbers from the environment: a demonstration breaks runs without an edit of the workflow."""
    return [int(word) for word in os.environ.get(variable, "").split()]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.select", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=int, required=True, help="run number; other runs in the files are ignored")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", type=Path, nargs="+", help="event files")
    source.add_argument("--inputs-file", type=Path, help="a file with one event file per line")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--job", type=int, default=0, help="which block of the events, from 0")
    parser.add_argument("--jobs", type=int, default=1, help="number of blocks")
    parser.add_argument("--fail", action="store_true", help="fail always")
    parser.add_argument("--fail-attempt", type=int, default=None, metavar="A", help="fail at attempt A")
    flaky, broken = _asked_for("ZEE_FLAKY_RUNS"), _asked_for("ZEE_BROKEN_RUNS")
    parser.add_argument("--flaky-run", type=int, nargs="+", default=flaky, metavar="RUN", help="or $ZEE_FLAKY_RUNS")
    parser.add_argument("--broken-run", type=int, nargs="+", default=broken, metavar="RUN", help="or $ZEE_BROKEN_RUNS")
    chosen = parser.parse_args(arguments)
    _fail_on_purpose(chosen)
    files = chosen.input or [Path(entry) for entry in read_list(chosen.inputs_file)]
    pairs = read_pairs(files, chosen.run, chosen.job, chosen.jobs)
    selected = select(pairs)
    summary = counts(pairs, selected)
    write_selected(chosen.out / "events.npz", selected)
    write_json(chosen.out / "counts.json", {"run": chosen.run, "job": chosen.job, "jobs": chosen.jobs, **summary})
    report_value("events_read", len(pairs))
    report_value("events_selected", len(selected))


if __name__ == "__main__":
    sys.exit(run_job(main))
