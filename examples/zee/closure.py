"""Job: closure test. Constants from even event numbers, applied to odd ones, refitted: 1 within errors.

Command line: ``python -m zee.closure --inputs-file LIST --out DIR [--laser FILE …] [--real-data]``; writes
``DIR/closure.json``. On the events that gave the constants it would be a tautology; hence the halves. The exit code is
not zero only when the test cannot be made; a scale that is not 1 is a result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zee.events import REGIONS, FloatArray, Selected
from zee.jobio import report_value, run_job, write_json
from zee.scale import Scales, apply_scales, constants, group_arguments, group_events, measure, with_parity


@dataclass(frozen=True)
class Closure:
    """The outcome.

    :param even: the constants of the even events.
    :param refit: of the odd events after the constants were applied.
    """

    even: Scales
    refit: Scales

    @property
    def values(self) -> FloatArray:
        """Refitted s of EB and EE; 1 is perfect."""
        return self.refit.values

    @property
    def errors(self) -> FloatArray:
        """Errors of ``values``: those of both halves, which are independent."""
        combined = np.diag(self.even.log_covariance) + np.diag(self.refit.log_covariance)
        return np.asarray(np.sqrt(combined) * self.values)

    @property
    def pulls(self) -> FloatArray:
        """(value − 1) / error of EB and EE."""
        return np.asarray((self.values - 1.0) / self.errors)

    @property
    def chi2(self) -> float:
        """χ² of both scales being 1, two degrees of freedom, with their correlation."""
        deviation = np.log(self.values)
        covariance = self.even.log_covariance + self.refit.log_covariance
        return float(deviation @ np.linalg.solve(covariance, deviation))


def close(events: Selected, real_data: bool = False) -> Closure:
    """Make the closure test.

    :param events: selected and corrected events.
    :param real_data: inflate errors when the categories disagree.
    """
    even = measure(with_parity(events, "even"), real_data)
    return Closure(even, measure(apply_scales(with_parity(events, "odd"), even.values), real_data))


def closure_content(closure: Closure) -> dict[str, Any]:
    """The content of ``closure.json``.

    :param closure: the outcome.
    """
    return {
        "closure": {
            region: {
                "value": float(closure.values[index]),
                "error": float(closure.errors[index]),
                "pull": float(closure.pulls[index]),
            }
            for index, region in enumerate(REGIONS)
        },
        "chi2": closure.chi2,
        "ndf": len(REGIONS),
        "even": constants(closure.even),
        "odd_refitted": constants(closure.refit),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m zee.closure", description=__doc__.splitlines()[0])
    group_arguments(parser)
    chosen = parser.parse_args(arguments)
    closure = close(group_events(chosen), chosen.real_data)
    write_json(chosen.out / "closure.json", closure_content(closure))
    for index, region in enumerate(REGIONS):
        report_value(f"closure_{region}", float(closure.values[index]), float(closure.errors[index]))
    report_value("closure_chi2", closure.chi2)


if __name__ == "__main__":
    sys.exit(run_job(main))
