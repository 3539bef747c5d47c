"""Job: are these scales fit to be published? Closure, and the jump against those that held before.

Command line: ``python -m zee.validate --constants FILE --closure FILE [--former FILE] --out DIR``; writes
``DIR/validation.json`` and ``DIR/old_and_new.png``, and reports ``closure_pull`` (the larger pull of both regions) and
``jump`` (the larger relative change of a scale). Where nothing was before, scales are compared with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zee.events import REGIONS, FloatArray
from zee.jobio import JobError, read_json, report_value, run_job, write_json
from zee.plots import plot_old_and_new
from zee.scale import read_scales


def jumps(new: FloatArray, old: FloatArray | None) -> FloatArray:
    """The relative change of the scales of EB and EE.

    :param new: widths s of the regions.
    :param old: those that held before; ``None``: there are none.
    """
    return np.asarray(new - 1.0 if old is None else new / old - 1.0)


def pulls(path: Path) -> FloatArray:
    """The pulls of a ``closure.json``.

    :param path: the file.
    """
    content = read_json(path)
    try:
        return np.array([float(content["closure"][region]["pull"]) for region in REGIONS])
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"{path}: is not a closure test") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.validate", description=__doc__.splitlines()[0])
    parser.add_argument("--constants", type=Path, required=True, help="what is to be published")
    parser.add_argument("--closure", type=Path, required=True, help="its closure test")
    parser.add_argument("--former", default="", help="what held before, if anything did")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    chosen = parser.parse_args(arguments)
    new = read_scales(chosen.constants)
    old = read_scales(Path(chosen.former)) if chosen.former else None
    moved = jumps(new, old)
    closure = pulls(chosen.closure)
    content = {
        region: {
            "new": float(new[index]),
            "old": None if old is None else float(old[index]),
            "jump": float(moved[index]),
            "closure_pull": float(closure[index]),
        }
        for index, region in enumerate(REGIONS)
    }
    write_json(chosen.out / "validation.json", content)
    plot_old_and_new(chosen.constants, Path(chosen.former) if chosen.former else None, chosen.out / "old_and_new.png")
    report_value("closure_pull", float(np.abs(closure).max()))
    report_value("jump", float(np.abs(moved).max()))


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.exit(run_job(main))
