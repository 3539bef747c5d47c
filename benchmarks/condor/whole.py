"""Many jobs from the spec to the cluster's number, beside a script that renders as many and calls ``condor_submit``."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.jobsets.submitting import submit_due
from airflow_calib_provider.ledger import generations
from benchmarks.condor.ours import World
from benchmarks.condor.place import Place, measured
from benchmarks.condor.submitting import NEVER
from benchmarks.figures import Figure, Report, spread

JOBS, PAIRS = 10_000, 5
GOAL, GOAL_CPU = 2.0, 0.35
COMMAND = "calibrate --seed {{ job.index }} --of {{ job.count }} --run {{ run.number }} > result.txt"
ENVIRONMENT = {"DETECTOR": "ecal", "SEED": "{{ job.index }}"}

SCRIPT = '''\
"""What a physicist writes: all commands from a template, a submit file, an item file, and condor_submit."""

import subprocess
import sys
from pathlib import Path

from jinja2 import Template

folder, count, *submit = sys.argv[1:]
command = Template({command!r})
seed = Template({seed!r})
lines = []
for index in range(int(count)):
    job = {{"index": index, "count": count}}
    text = command.render(job=job, run={{"number": 1}})
    lines.append("\\x1f".join([str(index), f"DETECTOR=ecal SEED={{seed.render(job=job)}}", text]))
Path(folder, "items").write_text("\\n".join(lines) + "\\n")
Path(folder, "job.sub").write_text(f"""\\
executable = /bin/sh
transfer_executable = false
arguments = "-c '$(command)'"
environment = "$(variables)"
initialdir = {{folder}}
output = out.$(index)
error = err.$(index)
log = {{folder}}/log
request_memory = 100
request_disk = 10240
requirements = false
max_materialize = 1
max_idle = 1000
queue 1 index,variables,command from {{folder}}/items
""")
subprocess.run([*submit, "condor_submit", "-terse", "job.sub"], check=True)
'''


def run(place: Place, report: Report, count: int = JOBS) -> None:
    """In turn, several times; and ours once more without the pool, for its CPU time."""
    machine = report.machine()
    folder = place.new("whole")
    plan: dict[str, Any] = {"folder": str(folder), "connection": place.pool.connection(), "groups": 2 * PAIRS + 2}
    plan |= {"script": COMMAND, "environment": ENVIRONMENT, "jobs": count, "products": {"out": "result.txt"}}
    walls, peers, alone = [], [], []
    with mock.patch.dict(os.environ, {"CALIB_HOME": str(folder / "calib")}):
        world = World({**plan, "condor": NEVER})
        try:
            world.backend.check()  # the helper process is there already, as in a triggerer that has watched before
            groups = iter(world.groups)
            for n in range(PAIRS + 1):
                walls.append(_timed(lambda: _ours(world, next(groups)))[0])
                place.empty()
                peers.append(_peer(place, folder / f"peer-{n}", count))
                place.empty()
            with mock.patch.object(world.backend._helper, "call", return_value=1):
                alone = [_timed(lambda: _ours(world, next(groups)))[1] for _ in range(PAIRS + 1)]
        finally:
            world.close()
    ratios = [one / other for one, other in zip(walls[1:], peers[1:], strict=True)]
    ratio, each = statistics.median(ratios), [1e3 * one / count for one in alone[1:]]
    report.add(
        Figure(
            "whole",
            f"{count:,} jobs from the spec to the cluster's number: ours {spread(walls[1:])} s, a script of its own "
            f"{spread(peers[1:])} s, ratio {spread(ratios)}; {PAIRS} pairs, in turn",
            machine,
            f"ratio at most {GOAL:g}",
            ratio <= GOAL,
            [
                "ours: begin and submit, with all jobs on record in the ledger (SQLite), durably",
                "the script: Python with Jinja2 from its start, a submit file, an item file, condor_submit",
            ],
            {"ours": walls[1:], "script": peers[1:], "ratio": ratio},
        )
    )
    report.add(
        Figure(
            "whole, CPU",
            f"{count:,} jobs without the pool: {spread(each)} ms CPU a job; {PAIRS} times",
            machine,
            f"at most {GOAL_CPU:g} ms",
            statistics.median(each) <= GOAL_CPU,
            values={"each": each},
        )
    )


def _ours(world: World, group: str) -> None:
    now = datetime.now(UTC)
    (generation,) = world.begin([group])
    with world.ledger.read() as connection:
        row = generations.by_id(connection, generation)
    backend: CondorBackend = world.backend
    submit_due(world.ledger, backend, row, now)


def _peer(place: Place, folder: Path, count: int) -> float:
    folder.mkdir(mode=0o777)
    script = folder / "submit.py"
    script.write_text(SCRIPT.format(command=COMMAND, seed=ENVIRONMENT["SEED"]))
    enter = place.entering(folder)
    with (folder / "said").open("wb") as log:
        ran = measured([sys.executable, str(script), str(folder), str(count), *enter], stdout=log, stderr=log)
    if ran.code:
        raise RuntimeError(f"the script failed: {(folder / 'said').read_text()}")
    shutil.rmtree(folder)
    return ran.wall


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and CPU time of this process."""
    begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    action()
    spent = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.perf_counter() - begin
    return wall, spent.ru_utime - used.ru_utime + spent.ru_stime - used.ru_stime
