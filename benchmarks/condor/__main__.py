"""``python -m benchmarks.condor [--only PART] [--jobs N] [--json FILE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.condor import jobset, latency, mapped, memory, peers, submitting, triggerer, whole
from benchmarks.condor.place import Place
from benchmarks.figures import Report
from tests.cache import UnavailableError

PARTS = ("submit", "whole", "triggerer", "set", "airflow", "latency", "memory")


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.condor", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be given again")
    parser.add_argument("--jobs", type=int, help="another number of jobs (of job sets: latency; of tasks: airflow)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    parts = given.only or PARTS
    try:
        with Place(peers.visible()) as place:
            report = Report(f"HTCondor {place.version()}", given.json)
            done: jobset.Ours | None = None
            for part in PARTS:
                if part in parts:
                    done = _run(part, place, report, given.jobs, done)
    except UnavailableError as error:
        sys.stdout.write(f"no figures: {error}\n")
    return 0


def _run(part: str, place: Place, report: Report, size: int | None, done: jobset.Ours | None) -> jobset.Ours | None:
    """Run one part of the benchmark.

    :param done: our run of a job set, if there was one in this run.
    :returns: the same, or a newer one.
    """
    if part == "submit":
        submitting.run(place, report, size or submitting.JOBS)
    elif part == "whole":
        whole.run(place, report, size or whole.JOBS)
    elif part == "triggerer":
        triggerer.run(place, report, size or jobset.JOBS)
    elif part == "set":
        return jobset.run(place, report, size or jobset.JOBS)
    elif part == "airflow":
        done = done or jobset.ours(place, report, jobset.JOBS)
        mapped.run(place, report, done, jobset.ours(place, report, 1, "set-of-one"), size or mapped.TASKS)
    elif part == "latency":
        latency.run(place, report, size or latency.SETS)
    else:
        memory.run(place, report, size or memory.JOBS)
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
