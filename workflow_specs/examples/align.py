"""The alignment of a toy tracker as Millepede does it: collect normal equations, solve once. Needs nothing but Python.

Straight tracks cross planes that measure two coordinates each. A plane may be shifted and rotated. The parameters of a
track are eliminated while its measurements are collected, so that a job leaves one small system of equations, whatever
the number of its tracks. Rotations are not linear: hence a second and a third visit.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

PLANES = 6
"""A metre apart, the first and the last of which are where they should be."""
RESOLUTION = 0.01
"""mm, of each coordinate."""
INJECTED = [
    (0.0, 0.0, 0.0), (0.8, -0.5, 0.12), (-0.6, 0.3, -0.09), (0.4, 0.9, 0.15), (-0.2, -0.7, -0.05), (0.0, 0.0, 0.0),
]  # fmt: skip
"""Of each plane its shifts in mm, and its rotation; a real tracker does not say."""
FREE = 3 * (PLANES - 2)

Plane = tuple[float, float, float]
Matrix = list[list[float]]


def tracks(job: int, number: int) -> list[list[tuple[float, float]]]:
    """What the planes measure of some tracks, in mm: the same for a job in each visit."""
    source = random.Random(f"tracks {job}")
    found = []
    for _ in range(number):
        x, y, tx, ty = (source.uniform(-20, 20) for _ in range(4))
        hits = []
        for z, (du, dv, angle) in enumerate(INJECTED):
            at_x, at_y, cos, sin = x + tx * z, y + ty * z, math.cos(angle), math.sin(angle)
            u, v = cos * at_x + sin * at_y + du, cos * at_y - sin * at_x + dv
            hits.append((source.gauss(u, RESOLUTION), source.gauss(v, RESOLUTION)))
        found.append(hits)
    return found


def left_of_line() -> Matrix:
    """What a fitted straight line leaves of coordinates in all planes: they are multiplied by this, shape (6, 6)."""
    mean = (PLANES - 1) / 2
    spread = sum((z - mean) ** 2 for z in range(PLANES))
    return [[(p == q) - 1 / PLANES - (p - mean) * (q - mean) / spread for q in range(PLANES)] for p in range(PLANES)]


def collect(constants: Path, job: int, events: int, report: Path, out: Path) -> None:
    """Add up the normal equations of a job's tracks, with the alignment of this visit."""
    planes: list[Plane] = [tuple(one) for one in json.loads(constants.read_text())]
    matrix, vector, squares = [[0.0] * FREE for _ in range(FREE)], [0.0] * FREE, 0.0
    left = left_of_line()
    for hits in tracks(job, events):
        found = [_placed(hit, plane) for hit, plane in zip(hits, planes, strict=True)]
        for axis in (0, 1):
            position = [one[0][axis] for one in found]
            residuals = [sum(a * b for a, b in zip(row, position, strict=True)) for row in left]
            squares += sum(one * one for one in residuals)
            for p in range(1, PLANES - 1):
                of_p = found[p][1][axis]
                for i in range(3):
                    vector[3 * p - 3 + i] -= of_p[i] * residuals[p]
                for q in range(1, PLANES - 1):
                    of_q, weight = found[q][1][axis], left[p][q]
                    for i in range(3):
                        row, scaled = matrix[3 * p - 3 + i], weight * of_p[i]
                        for j in range(3):
                            row[3 * q - 3 + j] += scaled * of_q[j]
    (out / "equations.json").write_text(json.dumps({"matrix": matrix, "vector": vector, "squares": squares}))
    report.write_text(json.dumps({"type": "value", "name": "events", "value": events}) + "\n")


def _placed(hit: tuple[float, float], plane: Plane) -> tuple[tuple[float, float], tuple[Plane, Plane]]:
    """Where a hit is, in mm, and how x and y change with the plane's parameters."""
    cos, sin = math.cos(plane[2]), math.sin(plane[2])
    u, v = hit[0] - plane[0], hit[1] - plane[1]
    x, y = cos * u - sin * v, sin * u + cos * v
    return (x, y), ((-cos, sin, -y), (-sin, -cos, x))


def solve(results: Path, constants: Path, report: Path, out: Path) -> None:
    """Solve the equations of all jobs, and correct the alignment."""
    planes = json.loads(constants.read_text())
    parts = [
        json.loads(Path(one["products"]["equations"]).read_text()) for one in json.loads(results.read_text())["results"]
    ]
    matrix = [[sum(part["matrix"][i][j] for part in parts) for j in range(FREE)] for i in range(FREE)]
    vector = [sum(part["vector"][i] for part in parts) for i in range(FREE)]
    for i, change in enumerate(solved(matrix, vector)):
        planes[1 + i // 3][i % 3] += change
    (out / "align.json").write_text(json.dumps(planes))
    squares = sum(part["squares"] for part in parts)
    report.write_text(json.dumps({"metrics": {"squares": {"value": squares}}}) + "\n")


def solved(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    """The solution of linear equations, by elimination; the matrix is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, len(row)):
                row[j] -= factor * pivot[j]
    found = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        known = sum(rows[i][j] * found[j] for j in range(i + 1, len(rows)))
        found[i] = (rows[i][-1] - known) / rows[i][i]
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function, options in ((collect, {"job": int, "events": int}), (solve, {"results": Path})):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name, kind in {**options, "constants": Path, "report": Path, "out": Path}.items():
            command.add_argument(f"--{name}", type=kind, required=True)
    asked = vars(parser.parse_args(given))
    asked.pop("function")(**asked)


if __name__ == "__main__":
    main()
