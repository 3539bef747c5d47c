"""From the end of a job set's last job to the moment at which its trigger fires."""

from __future__ import annotations

import statistics

from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Report, percentile

SETS, JOBS = 40, 3
GOAL = 5.0
# Ends spread over some seconds, in no step with the watcher's looks. The time is the last thing that a job writes.
SCRIPT = "n=${CALIB_GROUP#run-r}; sleep $((2 + n % 7 + CALIB_JOB)).$((n * 37 % 90 + 10)); date +%s.%N > at.txt"


def run(place: Place, report: Report, sets: int = SETS) -> None:
    """Many small job sets at once, watched by one poller at its default interval."""
    machine = report.machine()
    folder = place.new("latency")
    plan = {"script": SCRIPT, "jobs": JOBS, "groups": sets, "products": {"at": "at.txt"}}
    _, said = place.ours("watch", plan, folder)
    if said["states"] != {"done": sets}:
        raise RuntimeError(f"job sets ended as {said['states']}; see {folder / 'watch.log'}")
    products = folder / "calib" / "products"
    seconds = []
    for name, done in said["done_at"].items():
        ends = [float(file.read_text()) for file in products.glob(f"*/bench/skim/{name}/*/job-*/out/at.txt")]
        if len(ends) != JOBS:
            raise RuntimeError(f"{name} has {len(ends)} products, not {JOBS}")
        seconds.append(done - max(ends))
    worst = percentile(seconds, 0.95)
    report.add(
        Figure(
            "latency",
            f"last job's end to job set done, {sets} job sets of {JOBS} jobs: "
            f"median {statistics.median(seconds):.2f} s, p95 {worst:.2f} s, at most {max(seconds):.2f} s",
            machine,
            f"p95 below {GOAL:g} s",
            worst < GOAL,
            [
                "a job's end: the time that it writes itself, last; done: the trigger's event; watch interval 2 s",
                "HTCondor's own part is in it: starter, shadow and schedd must end before there is an event in the log",
            ],
            {"seconds": sorted(seconds), "p95": worst},
        )
    )
