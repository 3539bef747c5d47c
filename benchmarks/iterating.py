"""``python -m benchmarks.iterating [--workers N] [--steps K] [--others K] [--json FILE]``: the cost of a step.

The same jobs and the same updates on one HTCondor pool three times: with reserved workers, with a round per step, and
by a script that calls ``condor_submit`` and ``condor_wait`` for each step, as people do by hand. The pool negotiates as
often as HTCondor does by itself. The first step is left out: in it all three wait for their places.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.settings import number
from airflow_calib_provider.triggers.poller import GLANCE
from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Report
from tests.cache import UnavailableError
from tests.jobsets.iterations import SPEC, Iterations

WORKERS, STEPS, SECONDS = 100, 30, 1
GOAL, TIMES = 5.0, 10.0
MEASURE = f'sleep {SECONDS}; cp "$CALIB_CONSTANTS" "$CALIB_OUT/h.txt"\n'
UPDATE = 'read -r x < "$CALIB_CONSTANTS"; echo $((x + 1)) > "$CALIB_OUT/c.txt"\n'
BY_HAND = """\
echo 0 > constants
n=0
while [ $n -lt {steps} ]; do
    rm -f log
    condor_submit -terse job.sub >/dev/null && condor_wait log >/dev/null || exit 1
    read -r x < constants
    echo $((x + 1)) > constants.new && mv constants.new constants
    date +%s.%N >> judged
    n=$((n + 1))
done
"""
SUBMIT = """\
executable = /bin/sh
arguments = "-c 'sleep {seconds}; cp {folder}/constants {folder}/h-$(ProcId).txt'"
should_transfer_files = NO
log = {folder}/log
request_memory = 100
request_disk = 10000
queue {workers}
"""


def run(place: Place, report: Report, workers: int, steps: int, others: int) -> None:
    """The three, one after the other.

    :param others: steps of those that are slow.
    """
    machine = report.machine()
    reserved = "reserve: true, heartbeat: 30s"
    seconds = {
        "reserved": _ours(place, "reserved", workers, steps, reserved),
        "round per step": _ours(place, "rounds", workers, others, "reserve: false"),
        "by hand": _by_hand(place, workers, others),
    }
    over = {name: one / ((steps if name == "reserved" else others) - 1) - SECONDS for name, one in seconds.items()}
    mine = over["reserved"]
    ratios = {name: one / mine for name, one in over.items() if name != "reserved"}
    said = ", ".join(f"{name} {one:.2f} s" for name, one in over.items())
    report.add(
        Figure(
            "iterating",
            f"{workers} jobs in each of {steps} steps, overhead of each after the first: {said}",
            machine,
            f"reserved at most {GOAL:g} s, and {TIMES:g} x less than by hand",
            mine <= GOAL and ratios["by hand"] >= TIMES,
            [
                f"a step takes {SECONDS} s of measuring if there is nothing else",
                f"watch interval {number('WATCH_INTERVAL'):g} s; HTCondor's own negotiation",
                ", ".join(f"{name}: {one:.1f} x reserved" for name, one in ratios.items()),
                "all jobs share the cores of this machine",
            ],
            {"workers": workers, "steps": steps, "others": others, "seconds": seconds, "overhead": over},
        )
    )


class _OnPool(Iterations):
    backend: CondorBackend


def _ours(place: Place, name: str, workers: int, steps: int, how: str) -> float:
    folder = place.new(name)
    os.environ["CALIB_HOME"] = str(folder)
    made = _OnPool(folder)
    made.backend = CondorBackend(CondorSettings.from_mapping("bench", place.pool.connection()), folder / "spool")
    text = SPEC.replace("group_by: run\n    iterate", "group_by: run\n    backend: condor\n    iterate")
    text = text.replace("split: {count: 3}, ", "").replace(
        "phases:", f"workers: {{count: {workers}, {how}}}\n      phases:"
    )
    resources = "defaults: {resources: {memory: 100MB, disk: 10MB}}\ntasks:"
    text = text.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", f"visits: {steps}").replace(
        "tasks:", resources
    )
    made.write(text)
    made.script("measure", MEASURE)
    made.script("update", UPDATE)
    (made.specs / "start.txt").write_text("0\n")
    generation = made.begin()
    while True:
        looked = time.monotonic()
        standing = advance(made.ledger, lambda _: made.backend, [generation], datetime.now(UTC))[generation]
        if standing.state != "running":
            break
        # As a triggerer's poller does.
        while time.monotonic() - looked < number("WATCH_INTERVAL"):
            time.sleep(GLANCE)
            if standing.awaited is not None and standing.awaited.here():
                break
    judged = [one.judged_at for one in made.steps(generation) if one.judged_at is not None]
    made.backend.close()
    made.ledger.close()
    if standing.state != "done":
        raise RuntimeError(f"{name} has ended as {standing}")
    place.empty()
    return (judged[-1] - judged[0]).total_seconds()


def _by_hand(place: Place, workers: int, steps: int) -> float:
    folder = place.new("hand")
    (folder / "job.sub").write_text(SUBMIT.format(folder=folder, workers=workers, seconds=SECONDS))
    (folder / "iterate.sh").write_text(BY_HAND.format(steps=steps))
    ran = place.inside("sh iterate.sh", folder, folder / "hand.log")
    if ran.code or (folder / "constants").read_text() != f"{steps}\n":
        raise RuntimeError(f"by hand: {(folder / 'hand.log').read_text()[-500:]}")
    judged = [float(line) for line in (folder / "judged").read_text().split()]
    return judged[-1] - judged[0]


def main(arguments: Sequence[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iterating", description=__doc__)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--steps", type=int, default=STEPS, help="at least 2")
    parser.add_argument("--others", type=int, help="steps of a round per step and by hand, if fewer; at least 2")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    try:
        # One more for the update of a round per step, and four that are the second schedd's.
        with Place(cpus=given.workers + 5, negotiates_as_usual=True) as place:
            report = Report(f"HTCondor {place.version()}", given.json)
            run(place, report, given.workers, given.steps, given.others or given.steps)
    except UnavailableError as error:
        sys.stdout.write(f"no figures: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
