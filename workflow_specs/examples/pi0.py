"""Monitoring with π⁰ → γγ: selection, fit and report, on photon pairs that are made up. Needs nothing but Python."""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from pathlib import Path

MASS = 0.1349768
"""GeV, of the π⁰."""
WIDTH = 0.012
"""GeV, of the peak."""
PAIRS = 2_000
"""Of a job, before the selection; a third is background."""


def select(run: int, response: float, job: int, out: Path) -> None:
    """Write the masses of the photon pairs of one job that are near the peak."""
    source = random.Random(f"{run} {job}")
    masses = [
        source.uniform(0.05, 0.25) if source.random() < 1 / 3 else source.gauss(MASS * response, WIDTH)
        for _ in range(PAIRS)
    ]
    kept = [round(mass, 6) for mass in masses if abs(mass - MASS) < 3 * WIDTH]
    (out / "masses.json").write_text(json.dumps(kept))


def fit(inputs: Path, out: Path) -> None:
    """Find the peak: the mean within 1.5 widths of itself, to which flat background adds nothing."""
    masses = [mass for file in inputs.read_text().splitlines() for mass in json.loads(Path(file).read_text())]
    peak = MASS
    for _ in range(50):
        near = [mass for mass in masses if abs(mass - peak) < 1.5 * WIDTH]
        peak = statistics.fmean(near)
    error = statistics.stdev(near) / math.sqrt(len(near))
    (out / "peak.json").write_text(json.dumps({"peak": peak, "error": error, "pairs": len(masses)}))


def monitor(peak: Path, report: Path, out: Path) -> None:
    """Report how far the scale is from the nominal one."""
    found = json.loads(peak.read_text())
    scale, error = found["peak"] / MASS, found["error"] / MASS
    report.write_text(json.dumps({"type": "value", "name": "scale", "value": scale, "error": error}) + "\n")
    words = "as it should be" if abs(scale - 1) < 0.01 else "to be corrected"
    (out / "summary.txt").write_text(f"scale {scale:.4f} ± {error:.4f} from {found['pairs']} pairs: {words}\n")


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function, options in (
        (select, {"run": int, "response": float, "job": int, "out": Path}),
        (fit, {"inputs": Path, "out": Path}),
        (monitor, {"peak": Path, "report": Path, "out": Path}),
    ):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name, kind in options.items():
            command.add_argument(f"--{name}", type=kind, required=True)
    given = vars(parser.parse_args())
    given.pop("function")(**given)


if __name__ == "__main__":
    main()
