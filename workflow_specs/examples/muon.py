"""The momentum scale of muons with Z → μμ: selection and fit, on pairs that are made up. Needs nothing but Python."""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from pathlib import Path

MASS = 91.1876
"""GeV, of the Z."""
WIDTH = 3.0
"""GeV, of the peak."""
PAIRS = 125
"""In an inverse picobarn, before the selection; a third is background."""
WINDOW = 12.0
"""GeV, on either side of the peak."""


def select(run: int, response: float, lumi: float, job: int, report: Path, out: Path) -> None:
    """Write the masses of the pairs of one job that are near the peak, and report how many they are."""
    source = random.Random(f"{run} {job}")
    masses = [
        source.uniform(60, 120) if source.random() < 1 / 3 else source.gauss(MASS * response, WIDTH)
        for _ in range(round(PAIRS * lumi))
    ]
    kept = [round(mass, 4) for mass in masses if abs(mass - MASS) < WINDOW]
    (out / "pairs.json").write_text(json.dumps(kept))
    report.write_text(json.dumps({"type": "value", "name": "pairs", "value": len(kept)}) + "\n")


def fit(inputs: Path, report: Path, out: Path) -> None:
    """Find the peak, the mean within 1.5 widths of itself, and write the correction that puts it where it belongs."""
    masses = [mass for file in inputs.read_text().splitlines() for mass in json.loads(Path(file).read_text())]
    peak = MASS
    for _ in range(50):
        near = [mass for mass in masses if abs(mass - peak) < 1.5 * WIDTH]
        peak = statistics.fmean(near)
    error = statistics.stdev(near) / math.sqrt(len(near)) / MASS
    values = {"type": "value", "name": "scale", "value": peak / MASS, "error": error}
    report.write_text(json.dumps(values) + "\n")
    (out / "constants.json").write_text(json.dumps({"scale": round(MASS / peak, 6), "pairs": len(masses)}))


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    of_job = {"run": int, "response": float, "lumi": float, "job": int}
    for function, options in ((select, of_job), (fit, {"inputs": Path})):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name, kind in {**options, "report": Path, "out": Path}.items():
            command.add_argument(f"--{name}", type=kind, required=True)
    given = vars(parser.parse_args())
    given.pop("function")(**given)


if __name__ == "__main__":
    main()
