"""``PYTHONPATH=examples python -m benchmarks.campaigns [--runs N] [--max-groups N] [--slots N] [--json FILE]``.

A real Airflow of its own (SQLite, LocalExecutor), and a campaign of 2,000 runs with local jobs. The campaign is paused
and resumed in turn, so that whatever else the machine does lies on both; in each turn a few runs of ``prompt`` end one
after the other, and are followed from the end to their first job.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables, throttle
from benchmarks.announcing.__main__ import FIRST, STAGES, Sample, measure
from benchmarks.figures import Figure, Report, percentile
from tests.integration.harness import Installation

GOAL = 1.2
SAMPLES = 20
TURN = 5
"""Samples of one turn."""

NAME, WORKFLOW = "large", "again"

SLOTS = 2 * (os.cpu_count() or 1)
"""Tasks that this Airflow runs at once, by default: each needs a second of CPU for its start."""


def prepare(installation: Installation, runs: int, options: list[str]) -> None:
    """A workflow whose runs are older than itself, so that ``prompt`` takes none of them, and the campaign."""
    installation.add_workflow(WORKFLOW)
    spec = installation.specs / f"{WORKFLOW}.yaml"
    installation.edit(spec, spec.read_text().replace(", since: 1", ""))
    installation.add_runs(range(1, runs + 1), luminosity=0)
    what = ("--source", WORKFLOW, "--workflow", WORKFLOW, "--runs", f"1-{runs}")
    installation.calib("campaign", "create", NAME, *what, *options)
    installation.calib("campaign", "pause", NAME)
    installation.take_runs_from("runs")
    if (state := installation.inject(timeout=600)) != "success":
        raise RuntimeError(f"calib_inject ended as {state}")


def tasks_of_campaign(installation: Installation, state: str) -> int:
    """How many tasks of the campaign are in this state."""
    group, task = tables.run_group, tables.group_task
    query = select(func.count()).select_from(task).join(group, group.c.id == task.c.group_id)
    return int(installation.rows(query.where(group.c.campaign == NAME, task.c.state == state))[0][0])


def is_quiet(installation: Installation) -> bool:
    """Whether nothing of the campaign runs: what it had begun has ended, or waits for the end of the pause."""
    path = f"/api/v2/dags/{WORKFLOW}__run/dagRuns/~/taskInstances?limit=1&state=running&state=queued&state=scheduled"
    with installation.ledger.read() as connection:
        jobs = throttle.live_jobs(connection, NAME)
    return not jobs and not installation.airflow.call("GET", path)["total_entries"]


def turn(installation: Installation, first: int, samples: int, *, beside: bool) -> list[Sample]:
    """Follow a few runs, with the campaign at work, or when what it had begun has ended."""
    installation.calib("campaign", "resume" if beside else "pause", NAME)
    if beside:
        # What a job set's end does at other times: the first groups are opened.
        installation.calib("runs", "announce")
        installation.wait(lambda: tasks_of_campaign(installation, "processing"), 300, "the campaign to be at work")
    else:
        installation.wait(lambda: is_quiet(installation), 900, "the campaign to be quiet")
    found = []
    for n in range(samples):
        found.append(measure(installation, first + n))
        # It takes long, and may be ended by somebody.
        parts = ", ".join(f"{part:.1f}" for part in found[-1].stages())
        told = f"{'beside' if beside else 'quiet'}: {found[-1].total:.1f} s ({parts})"
        print(told, file=sys.stderr, flush=True)
    return found


def figure(report: Report, load: float, quiet: list[Sample], beside: list[Sample], done: int, options: str) -> Figure:
    """What was measured."""
    machine = report.machine()
    machine.load_before = load
    totals = {name: sorted(item.total for item in found) for name, found in (("quiet", quiet), ("beside", beside))}
    medians = {name: statistics.median(values) for name, values in totals.items()}
    ratio = medians["beside"] / medians["quiet"]
    notes = [f"{options}; {done} of its tasks had ended"]
    stages = []
    for place, text in enumerate(STAGES):
        alone, together = (statistics.median(item.stages()[place] for item in found) for found in (quiet, beside))
        notes.append(f"{text}: median {alone:.1f} s, beside the campaign {together:.1f} s")
        stages.append([alone, together])
    text = (
        f"end of run to first job submitted, {len(quiet)} and {len(beside)} runs: median {medians['quiet']:.1f} s and "
        f"{medians['beside']:.1f} s, p95 {percentile(totals['quiet'], 0.95):.1f} s and "
        f"{percentile(totals['beside'], 0.95):.1f} s; ratio {ratio:.2f}"
    )
    values = {"seconds": totals, "stages": stages, "ratio": ratio}
    return Figure("prompt beside a campaign", text, machine, f"ratio at most {GOAL}", ratio <= GOAL, notes, values)


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaigns", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of the campaign")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="with the campaign at work, and without")
    parser.add_argument("--max-groups", type=int, help="throttle of the campaign")
    parser.add_argument("--slots", type=int, default=SLOTS, help="tasks that this Airflow runs at once")
    parser.add_argument("--starting", help="CALIB_STARTING of this Airflow, if not its default")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    options = [] if given.max_groups is None else ["--max-groups", str(given.max_groups)]
    report = Report(f"Airflow {version('apache-airflow')}", given.json)
    with tempfile.TemporaryDirectory() as folder:
        starting = {"CALIB_STARTING": given.starting} if given.starting else {}
        environment = {"AIRFLOW__CORE__PARALLELISM": str(given.slots), **starting}
        installation = Installation(Path(folder) / "airflow", environment)
        try:
            installation.start()
            installation.airflow.wait_for_dags("calib_inject", "toy__run")
            prepare(installation, given.runs, options)
            load, run, quiet, beside = round(os.getloadavg()[0], 1), FIRST, list[Sample](), list[Sample]()
            measure(installation, run)
            while len(beside) < given.samples:
                n = min(TURN, given.samples - len(beside))
                quiet += turn(installation, run + 1, n, beside=False)
                beside += turn(installation, run + 1 + n, n, beside=True)
                run += 2 * n
            done = tasks_of_campaign(installation, "done")
            starting_told = "".join(f", {name}={value}" for name, value in starting.items())
            told = f"{' '.join(options) or 'no throttle'}, {given.slots} tasks of Airflow at once{starting_told}"
            report.add(figure(report, load, quiet, beside, done, told))
        finally:
            installation.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
