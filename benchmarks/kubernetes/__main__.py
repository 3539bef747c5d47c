"""``python -m benchmarks.kubernetes [--only PART] [--jobs N] [--json FILE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.figures import Report
from benchmarks.kubernetes import alone, by_hand, in_airflow, many
from benchmarks.kubernetes.place import Place
from tests.cache import UnavailableError

PARTS = ("job", "operator", "airflow", "many")


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubernetes", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be given again")
    parser.add_argument("--jobs", type=int, help="another number of jobs")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    parts = given.only or PARTS
    try:
        with Place() as place:
            report = Report(f"Kubernetes {place.version()}", given.json)
            if "job" in parts:
                by_hand.run(place, report, given.jobs or by_hand.JOBS)
            if "operator" in parts:
                alone.run(place, report, given.jobs or by_hand.JOBS)
            if "airflow" in parts:
                in_airflow.run(place, report, given.jobs or by_hand.JOBS)
            if "many" in parts:
                many.run(place, report, given.jobs or many.JOBS)
    except UnavailableError as error:
        sys.stdout.write(f"no figures: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
