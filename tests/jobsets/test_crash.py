"""Death by SIGKILL anywhere, then somebody else goes on: one generation, one accepted attempt per job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.jobsets.folders import attempt_folder, job_folder
from airflow_calib_provider.ledger import tables
from tests.jobsets.world import World

POINTS = [
    "generation.before_create",
    "generation.after_create",
    "round.before_submit",
    "round.after_submit",
    "round.after_record",
    "jobs.before_apply",
    "jobs.after_apply",
    "products.before_promote",
    "products.after_promote",
    "generation.before_done",
    "generation.after_done",
]
SCRIPT = "echo $CALIB_JOB > c.txt; [ $CALIB_JOB != 1 ] || [ $CALIB_ATTEMPT = 2 ]"


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.jobsets.world", str(folder), SCRIPT, "3"],
        env={**os.environ, "CALIB_HOME": str(folder), "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("point", POINTS)
def test_dying_at(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    dead = run(home, **crash)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    again = run(home, **crash)
    assert (again.returncode, again.stdout.strip()) == (0, "done"), again.stderr
    monkeypatch.setenv("CALIB_HOME", str(home))
    world = World(home)
    (generation,) = world.rows(tables.generation)
    attempts = world.rows(tables.attempt)
    assert [row.job_index for row in attempts if row.state == "succeeded"] == [0, 1, 2]
    assert len(attempts) == 4, "a job ran once more than it had to"
    assert {row.state for row in world.rows(tables.round_)} == {"finished"}
    assert world.task_state() == "done"
    for index in range(3):
        assert (job_folder(generation.folder, index) / "out" / "c.txt").read_text() == f"{index}\n"
    assert world.backend.rounds() == []
    assert not doubled(world.rows(tables.event))


MARK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from airflow_calib_provider.jobsets.kill import settle
from tests.jobsets.world import World
world = World(Path(sys.argv[1]))
print(settle(world.ledger, lambda name: world.backend, 1, "success", datetime.now(UTC)))
"""


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("point", ["products.before_promote", "products.after_promote", "generation.before_done"])
def test_dying_in_a_mark_success(point: str, cleared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next, housekeeping or a clear, ends with what was accepted, and says which attempt made it."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    world = World(tmp_path, "[ $CALIB_JOB$CALIB_ATTEMPT = 11 ] || echo job > c.txt", 2, products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    attempt_folder(row.folder, 1, 1).joinpath("out", "c.txt").write_text("by hand")
    environment = {
        **os.environ,
        "PYTHONPATH": os.getcwd(),
        "CALIB_CRASH_AT": point,
        "CALIB_CRASH_FOLDER": str(tmp_path),
    }
    mark = [sys.executable, "-c", MARK, str(tmp_path)]
    dead = subprocess.run(mark, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    if cleared:
        assert world.run(max_tries=1).state == "done"
    else:
        assert subprocess.check_output(mark, env=environment, text=True, timeout=60) == "marked\n"
    assert (world.states(tables.generation), world.task_state()) == (["done"], "done")
    assert [job.accepted_attempt for job in world.rows(tables.job)] == [1, 1]
    assert job_folder(row.folder, 1).joinpath("out", "c.txt").read_text() == "by hand"
    assert len(world.rows(tables.product)) == 2


def doubled(events: list[Any]) -> list[Any]:
    """Changes of state that are told more than once."""
    seen = Counter(
        (e.entity, e.task, e.group_name, e.run, e.generation, e.job_index, e.attempt, e.from_state, e.to_state)
        for e in events
        if e.entity in ("generation", "job", "attempt", "group_task")
    )
    return [key for key, n in seen.items() if n > 1]
