"""What a watcher costs that has very many jobs on record."""

from __future__ import annotations

from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Report

JOBS, ROUNDS = 100_000, 20
_MEBIBYTE = 1 << 20


def run(place: Place, report: Report, count: int = JOBS) -> None:
    """Submit them, one job of each round in the queue; then look at them in a process that begins anew."""
    machine = report.machine()
    folder = place.new("memory")
    plan = {
        "script": "echo $CALIB_JOB > out.txt",
        "jobs": count // ROUNDS,
        "groups": ROUNDS,
        "condor": {"requirements": "false", "max_materialize": 1},
    }
    _, filled = place.ours("fill", plan, folder)
    _, said = place.ours("idle", {**plan, "generations": filled["generations"]}, folder)
    place.empty()
    size = {name: said[name] / _MEBIBYTE for name in said if name.startswith("resident")}
    grown = size["resident"] - size["resident_before"]
    report.add(
        Figure(
            "memory",
            f"a process that polls {count:,} jobs in {ROUNDS} rounds: {size['resident']:.0f} MiB resident, of which "
            f"{grown:.0f} MiB for the jobs ({grown * _MEBIBYTE / count:.0f} bytes each), and "
            f"{size['resident_helper']:.0f} MiB in its helper process",
            machine,
            notes=[
                f"a poll of the backend with nothing new: {said['poll_cpu'] * 1e3:.1f} ms CPU; the first, which reads "
                f"the lists of jobs: {said['first_poll_cpu']:.2f} s",
                f"a whole step of the watcher, which loads these jobs from the ledger too: {said['step_cpu']:.2f} s "
                f"CPU, after it {size['resident_step']:.0f} MiB resident",
                f"to put them on record and submit them took {filled['seconds']:.0f} s",
            ],
            values={**said, "filled_in": filled["seconds"]},
        )
    )
