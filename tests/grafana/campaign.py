"""A campaign recorded in a ledger: real jobs of a few shell scripts on the local backend, with mishaps.

Runs 1 to 9 are taken in two batches. Run 4's job fails at its first attempt, run 7's for good; run 8 is skipped. The
sums of runs wait for the payload of a fill that comes with the second batch. At the end a job of run 10 is held, and
run 11 is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.ledger import skips, steering, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move
from airflow_calib_provider.mirror import sampling
from airflow_calib_provider.spec.loader import load_folder, load_sources
from tests.docs.stand_in import StandIn
from tests.postgres.places import migrated

SOURCES = """
apiVersion: calib/v1
sources:
  daq:
    csv: {path: ../runs.csv, columns: {number: run}}
    fields: {start: time, end: time, fill: int, events: int, completed: bool}
"""

ZEE = """
apiVersion: calib/v1
workflow: zee
runs: {source: daq, since: 1}
defaults: {retries: 1}
tasks:
  select:
    group_by: run
    jobs: {command: ["{{ spec.folder }}/../select.sh", "{{ run.number }}"], split: {count: 2}}
    products: {events: events.txt}
  scale:
    group_by: {sum: {events: 3}}
    needs: [select]
    locks: [{payload: {tag: Corrections, covers: group}, at_most: 48h, then: go_on}]
    jobs: {command: ["{{ spec.folder }}/../scale.sh"], inputs: "{{ tasks.select.products.events }}"}
    products: {constants: scale.txt}
  deliver:
    needs: [scale]
    publish: {tag: Scale, file: "{{ tasks.scale.products.constants }}"}
"""

LASER = """
apiVersion: calib/v1
workflow: laser
runs: {source: daq, since: 1}
tasks:
  fit:
    group_by: fill
    jobs: {command: ["{{ spec.folder }}/../scale.sh"]}
    products: {corrections: scale.txt}
  deliver:
    needs: [fit]
    publish: {tag: Corrections, file: "{{ tasks.fit.products.corrections }}"}
"""

SELECT = """#!/bin/sh
set -eu
if [ "$1" = 4 ] && [ "$CALIB_JOB" = 0 ] && [ "$CALIB_ATTEMPT" = 1 ]; then exit 3; fi
if [ "$1" = 7 ]; then echo "no data" >&2; exit 66; fi
echo "$1" > events.txt
echo "{\\"type\\": \\"progress\\", \\"value\\": 1}" >> "$CALIB_REPORT"
n=$((900 + $1 * 7 % 40))
echo "{\\"type\\": \\"value\\", \\"name\\": \\"selected\\", \\"value\\": $n, \\"error\\": 30}" >> "$CALIB_REPORT"
"""

SCALE = """#!/bin/sh
set -eu
echo 1 > scale.txt
echo "{\\"type\\": \\"value\\", \\"name\\": \\"scale\\", \\"value\\": 1.01, \\"error\\": 0.002}" >> "$CALIB_REPORT"
"""


@contextmanager
def recorded(folder: Path) -> Iterator[Ledger]:
    """The ledger of the campaign; ``CALIB_HOME`` must be a folder of its own already."""
    specs = folder / "workflow_specs"
    specs.mkdir(parents=True)
    for name, text in {"sources": SOURCES, "zee": ZEE, "laser": LASER}.items():
        (specs / f"{name}.yaml").write_text(text)
    for name, text in {"select": SELECT, "scale": SCALE}.items():
        (folder / f"{name}.sh").write_text(text)
        (folder / f"{name}.sh").chmod(0o755)
    ledger = migrated()
    try:
        airflow = StandIn(specs)
        begun = datetime.now(UTC) - timedelta(hours=12)
        _write(folder, begun, 5)
        airflow.inject()
        steering.alter(ledger, "prompt", steering.Changes(max_jobs=50))
        sampling.sample(ledger, "calib_influxdb")
        _write(folder, begun, 9)
        _take(ledger, specs)
        with ledger.write() as connection:
            skips.add(connection, "prompt", "zee", [8], reason="no beam", person="shifter", now=datetime.now(UTC))
        airflow.work()
        _write(folder, begun, 11)
        _take(ledger, specs)
        _leave_unfinished(ledger, specs)
        sampling.sample_spool(ledger)
        with ledger.write() as connection:
            sampling.append(connection, sampling.look(connection, datetime.now(UTC)))
        yield ledger
    finally:
        ledger.close()


def _write(folder: Path, begun: datetime, runs: int) -> None:
    """Runs of one event each, four a fill, one an hour."""
    lines = ["run,start,end,fill,events,completed"]
    for number in range(1, runs + 1):
        start = begun + timedelta(hours=number)
        lines.append(f"{number},{start:%FT%TZ},{start + timedelta(minutes=50):%FT%TZ},{1 + (number - 1) // 4},1,true")
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")


def _take(ledger: Ledger, specs: Path) -> None:
    """Put the runs that there are into groups, and do nothing with them."""
    workflows, errors = load_folder(specs)
    assert not errors
    report = inject(ledger, workflows, load_sources(specs / "sources.yaml"), specs, now=datetime.now(UTC))
    assert not report.errors


def _leave_unfinished(ledger: Ledger, specs: Path) -> None:
    """Begin with run 10, and let one of its jobs be held."""
    group, job, now = tables.run_group, tables.job, datetime.now(UTC)
    query = select(group.c.id).where(group.c.workflow == "zee", group.c.name == "run-r10")
    with ledger.read() as connection:
        found = connection.execute(query).scalar_one()
    workflows, _ = load_folder(specs)
    zee = workflows["zee"]
    begun = begin(ledger, zee, zee.tasks["select"], found, max_tries=8, dag_run_id="prompt__run-r10", now=now)
    with ledger.read() as connection:
        first = connection.execute(select(job).where(job.c.generation_id == begun.generation_id)).first()
    assert first
    key = {"generation_id": begun.generation_id, "step": first.step, "job_index": first.job_index}
    subject = Subject("prompt", "zee", "select", "run-r10", generation=1, job_index=0, attempt=1)
    told = {"host": "node7", "failure": "hold", "reason": "over the memory that it asked for", "request_memory": 10**9}
    with ledger.write() as connection:
        _judge_a_step(connection)
        move(connection, job, [Move(key, "waiting", "submitted", subject, data=told | {"failure": None})])
        move(connection, job, [Move(key, "submitted", "held", subject, data=told)])


def _judge_a_step(connection: Connection) -> None:
    """What a judged step of an iteration tells; an iteration of its own would take longer than all else here."""
    subject = Subject("prompt", "zee", "align", "run-r1", generation=1)
    report = {"metrics": {"mass": {"value": 91.1, "error": 0.01}}}
    told = {"step": 1, "stage": 1, "phase": "fit", "report": report, "judged": {"deviations": {"mass": 1.2}}}
    append_events(connection, [{"entity": "step", "subject": subject, "to_state": "judged", "data": told}])
