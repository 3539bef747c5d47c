"""Injected against recovered scales: *region · injected · recovered ± error · pull* for each group.

Command line: ``python -m zee.report --truth truth.json CONSTANTS.json …`` prints the table.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zee.events import REGIONS
from zee.jobio import JobError, read_json, run_job


@dataclass(frozen=True)
class Row:
    """One region of one group.

    :param region: ``EB`` or ``EE``.
    :param runs: run numbers of the group.
    :param injected: exp of the mean of ln s over the group's selected events.
    :param recovered: the fitted scale.
    :param error: its standard deviation.
    """

    region: str
    runs: tuple[int, ...]
    injected: float
    recovered: float
    error: float

    @property
    def pull(self) -> float:
        """(ln recovered − ln injected) / error of ln."""
        return math.log(self.recovered / self.injected) * self.recovered / self.error


def injected_log_scale(truth: Any, events_per_run: dict[str, int], region: str) -> float:
    """Mean of the injected ln s over a group's selected events.

    :param truth: content of ``truth.json``.
    :param events_per_run: numbers of selected events.
    :param region: ``EB`` or ``EE``.
    """
    total = sum(events_per_run.values())
    try:
        return math.fsum(truth["runs"][run]["ln_s"][region] * n for run, n in events_per_run.items()) / total
    except KeyError as error:
        raise JobError(f"the truth does not know run or region {error}") from error
    except ZeroDivisionError:
        raise JobError("a group without selected events has no injected scale") from None


def compare(truth_file: Path, constants_files: Iterable[Path]) -> list[Row]:
    """Compare groups with the truth.

    :param truth_file: ``truth.json`` of the simulation.
    :param constants_files: ``constants.json`` of the groups.
    :returns: rows in the order of the files, EB before EE.
    """
    truth = read_json(truth_file)
    rows: list[Row] = []
    for file in constants_files:
        content = read_json(file)
        try:
            for region in REGIONS:
                injected = math.exp(injected_log_scale(truth, content["events_per_run"], region))
                fitted = content["scales"][region]
                rows.append(Row(region, tuple(content["runs"]), injected, fitted["value"], fitted["error"]))
        except (KeyError, TypeError) as error:
            raise JobError(f"{file}: is not a file of scales") from error
    return rows


def table(rows: Iterable[Row]) -> str:
    """The table as text.

    :param rows: of :func:`compare`.
    """
    lines = [f"{'runs':>13}  region  injected  recovered ± error      pull"]
    for row in rows:
        span = f"{min(row.runs)}–{max(row.runs)}" if len(row.runs) > 1 else str(row.runs[0])
        lines.append(
            f"{span:>13}  {row.region:<6}  {row.injected:.5f}   {row.recovered:.5f} ± {row.error:.5f}  {row.pull:+6.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.report", description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("constants", type=Path, nargs="+")
    chosen = parser.parse_args(arguments)
    print(table(compare(chosen.truth, chosen.constants)))


if __name__ == "__main__":
    sys.exit(run_job(main))
