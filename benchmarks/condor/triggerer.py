"""What a job costs a triggerer that runs already, from submission to acceptance."""

from __future__ import annotations

from benchmarks.condor import jobset
from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Report

GOAL = 2.0


def run(place: Place, report: Report, count: int) -> None:
    """A job set of many jobs, without what one of a single job costs: the start of its process."""
    many, alone = jobset.ours(place, report, count), jobset.ours(place, report, 1, "set-of-one")
    each = 1e3 * (many.ran.cpu - alone.ran.cpu) / (count - 1)
    report.add(
        Figure(
            "triggerer",
            f"{each:.2f} ms CPU a job from submission to acceptance: {many.ran.cpu:.2f} s for {count:,} jobs, "
            f"{alone.ran.cpu:.2f} s for one; {many.ran.wall:.0f} s on the clock",
            many.machine,
            f"at most {GOAL:g} ms",
            each <= GOAL,
            ["begin, submit, watch and accept, the helper process included; what the jobs do is not"],
            {"each": each, "many": many.ran.cpu, "one": alone.ran.cpu},
        )
    )
