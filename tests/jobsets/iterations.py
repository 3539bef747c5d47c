"""Small iterations of shell scripts: an installation without Airflow, also for processes that are killed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.ledger import steps, tables
from tests.postgres.places import is_new, ledger_url, migrated
from tests.worlds import WithJobs, WithSpecs

SOURCES = """\
apiVersion: calib/v1
sources:
  daq: {csv: {path: runs.csv}, fields: {start: time, end: time}}
"""
RUNS = "number,start,end\n1,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z\n2,2026-01-02T00:00:00Z,2026-01-02T01:00:00Z\n"

MEASURE = """\
awk '{printf "%.10f\\n", 80 * $1}' "$CALIB_CONSTANTS" > "$CALIB_OUT/h.txt"
echo '{"type": "value", "name": "events", "value": 100}' >> "$CALIB_REPORT"
"""

UPDATE = """\
files=$(grep -o '"hist": "[^"]*"' "$CALIB_RESULTS_FILE" | cut -d '"' -f 4)
mass=$(cat $files | awk '{s += $1} END {printf "%.10f", s / NR}')
awk -v m="$mass" '{printf "%.10f\\n", $1 * (1 + 0.7 * (91 / m - 1))}' "$CALIB_CONSTANTS" > "$CALIB_OUT/c.txt"
echo "{\\"metrics\\": {\\"mass\\": {\\"value\\": $mass, \\"error\\": 0.01}}}" >> "$CALIB_REPORT"
"""

SPEC = """\
apiVersion: calib/v1
workflow: zee
runs: {source: daq, since: 1}
tasks:
  scale:
    group_by: run
    iterate:
      constants: {file: c.txt, from: {payload: Scale}, else: "{{ spec.folder }}/start.txt"}
      phases:
        fit:
          measure: {split: {count: 3}, command: [sh, "{{ spec.folder }}/measure.sh"], products: {hist: h.txt}}
          update: {command: [sh, "{{ spec.folder }}/update.sh"]}
          metrics: {mass: {target: 91.0, within: 0.1%}}
    products: {constants: c.txt, plot: convergence.svg}
  deliver:
    group_by: run
    needs: [scale]
    publish: {tag: Scale, file: "{{ tasks.scale.products.constants }}"}
"""


class Iterations(WithSpecs, WithJobs):
    """One workflow with a task that iterates.

    :param folder: of everything; what is there already is gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self.specs = folder / "workflow_specs"
        fresh = is_new(folder)
        self.ledger = migrated(ledger_url(folder))
        if fresh:
            self.specs.mkdir()
            self.write(SPEC)
            self.script("measure", MEASURE)
            self.script("update", UPDATE)
            (self.specs / "start.txt").write_text("1.0\n")
            (self.specs / "sources.yaml").write_text(SOURCES)
            (self.specs / "runs.csv").write_text(RUNS)
            self.take()

    def write(self, text: str) -> None:
        (self.specs / "zee.yaml").write_text(text)

    def script(self, name: str, text: str) -> None:
        (self.specs / f"{name}.sh").write_text(text)

    def reports(self, line: str, more: str = "") -> None:
        """Let an update report what a line of shell gives, which may use ``$CALIB_STEP``."""
        self.script("measure", 'echo 1 > "$CALIB_OUT/h.txt"')
        self.script("update", f'echo $CALIB_STEP > "$CALIB_OUT/c.txt"\n{more}\n{line}\n')

    def group(self, name: str = "run-r1") -> int:
        return int(next(row.id for row in self.rows(tables.run_group) if row.name == name))

    def begin(self, group: str = "run-r1", max_tries: int = 0) -> int:
        flow = self.workflows["zee"]
        now = datetime.now(UTC)
        task, number = flow.tasks["scale"], self.group(group)
        return begin(self.ledger, flow, task, number, max_tries=max_tries, dag_run_id="x", now=now).generation_id

    def steps(self, generation: int) -> list[steps.StepRow]:
        with self.ledger.read() as connection:
            return steps.steps_of(connection, generation)

    def masses(self, generation: int) -> list[float]:
        return [one.report["metrics"]["mass"]["value"] for one in self.steps(generation) if one.report]

    def history(self, generation: int) -> list[tuple[int, str, str, str | None]]:
        """What must come out the same, whoever was killed meanwhile."""
        return [(one.n, one.state, one.constants_hash, one.updated_hash) for one in self.steps(generation)]


def work(folder: Path) -> None:
    """What a worker does, and its triggerer after it: to be killed anywhere."""
    place = Iterations(folder)
    print(place.finish(place.begin(), 120).state)


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
