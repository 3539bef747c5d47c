"""``PYTHONPATH=examples python -m benchmarks.announcing [--samples N] [--waiting N] [--json FILE]``.

A real Airflow of its own (SQLite, LocalExecutor). A run ends when its source lists it as completed; `calib runs
announce` is called right then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from benchmarks.figures import Figure, Report, percentile
from tests.integration.harness import Installation

GOAL = 15.0
SAMPLES = 20
FIRST = 10_001
STAGES = ("announce", "Airflow begins calib_inject", "inject", "Airflow begins the group's task", "submit")
LOCKED = "locked"


@dataclass
class Sample:
    """Moments of one run, in seconds since 1970.

    :ivar marks: its end, and the end of each of :data:`STAGES`.
    """

    marks: list[float]

    @property
    def total(self) -> float:
        """Seconds from the end of the run to the submission of its first job."""
        return self.marks[-1] - self.marks[0]

    def stages(self) -> list[float]:
        """Seconds of each stage."""
        return [later - earlier for earlier, later in zip(self.marks, self.marks[1:], strict=False)]


def measure(installation: Installation, run: int) -> Sample:
    """Let a run end, and follow it."""
    known = {item["dag_run_id"] for item in installation.airflow_runs("calib_inject")}
    installation.add_runs([run], fill=1)
    ended = time.time()
    installation.calib("runs", "announce")
    announced = time.time()
    submitted = installation.wait(lambda: _submitted(installation, run), 600, f"the jobs of run {run}")
    opened = _opened(installation, run)
    begun = [
        _started(installation, "calib_inject", str(item["dag_run_id"]), "inject")
        for item in installation.airflow_runs("calib_inject")
        if item["dag_run_id"] not in known
    ]
    # Where the usual interval came in between, it is that injection; one that ran already waits for nothing.
    injecting = max((moment for moment in begun if moment is not None and moment <= opened), default=announced)
    work = _started(installation, "toy__run", f"prompt__run-r{run}", "work")
    assert work is not None
    return Sample([ended, announced, injecting, opened, work, submitted])


def _submitted(installation: Installation, run: int) -> float | None:
    event = tables.event
    here = (event.c.group_name == f"run-r{run}", event.c.entity == "round", event.c.to_state == "submitted")
    rows = installation.rows(select(event.c.at).where(event.c.workflow == "toy", *here).order_by(event.c.id).limit(1))
    return rows[0].at / 1e9 if rows else None


def _opened(installation: Installation, run: int) -> float:
    request = tables.dag_run_request
    here = (request.c.dag_id == "toy__run", request.c.run_id == f"prompt__run-r{run}")
    return float(installation.rows(select(request.c.opened_at).where(*here))[0].opened_at.timestamp())


def _started(installation: Installation, dag_id: str, run_id: str, task: str) -> float | None:
    found = installation.airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}")
    text = found.get("start_date")
    return datetime.fromisoformat(text).astimezone(UTC).timestamp() if text else None


def figures(name: str, samples: list[Sample], report: Report, machine_before: object) -> None:
    """Add what was measured."""
    machine = report.machine()
    machine.load_before = machine_before  # type: ignore[assignment]
    totals = sorted(sample.total for sample in samples)
    worst = percentile(totals, 0.95)
    parts = [statistics.median(part) for part in zip(*(sample.stages() for sample in samples), strict=True)]
    notes = [f"{text}: median {seconds:.1f} s" for text, seconds in zip(STAGES, parts, strict=True)]
    text = (
        f"end of run to first job submitted, {len(samples)} runs: median {statistics.median(totals):.1f} s, "
        f"p95 {worst:.1f} s, at most {totals[-1]:.1f} s"
    )
    values = {"seconds": totals, "stages": dict(zip(STAGES, parts, strict=True))}
    report.add(Figure(name, text, machine, f"p95 below {GOAL:g} s", worst < GOAL, notes, values))


def main(arguments: list[str]) -> int:
    """Measure, first idle and then with groups that wait; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.announcing", description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--waiting", type=int, default=300, help="groups that wait in the second half; 0: no such half")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    report = Report(f"Airflow {version('apache-airflow')}", given.json)
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder) / "idle")
        try:
            installation.start()
            installation.airflow.wait_for_dags("calib_inject", "toy__run", "locked__run")
            installation.inject()
            run = FIRST
            for waiting in [0, given.waiting] if given.waiting else [0]:
                if waiting:
                    # Of fill 100, which only the workflow that waits for a payload takes.
                    installation.add_runs(range(run, run + waiting), fill=100)
                    run += waiting
                    installation.inject()
                before = report.machine().load_before
                samples = []
                for _ in range(given.samples):
                    samples.append(measure(installation, run))
                    run += 1
                figures(
                    f"announcing, {waiting} groups waiting" if waiting else "announcing, idle", samples, report, before
                )
        finally:
            installation.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
