"""Death by SIGKILL anywhere, then somebody else goes on: one generation, one accepted attempt per job."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.jobsets.folders import attempt_folder, job_folder
from airflow_calib_provider.ledger import tables
from tests import processes
from tests.jobsets.world import World, mark_success, work

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


@pytest.mark.parametrize("points", [POINTS, *(pytest.param([point], marks=pytest.mark.long) for point in POINTS)])
def test_dying_at(points: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once at each."""
    marks = tmp_path / "marks"
    marks.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    variables = {"CALIB_HOME": str(home), "CALIB_CRASH_AT": ",".join(points), "CALIB_CRASH_FOLDER": str(marks)}
    for _ in points:
        dead = processes.run(work, home, SCRIPT, 3, **variables)
        assert dead.returncode == -signal.SIGKILL, dead.stderr
    again = processes.run(work, home, SCRIPT, 3, **variables)
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


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("point", ["products.before_promote", "products.after_promote", "generation.before_done"])
def test_dying_in_a_mark_success(point: str, cleared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next, housekeeping or a clear, ends with what was accepted, and says which attempt made it."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    world = World(tmp_path, "[ $CALIB_JOB$CALIB_ATTEMPT = 11 ] || echo job > c.txt", 2, products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    attempt_folder(row.folder, 1, 1).joinpath("out", "c.txt").write_text("by hand")
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(tmp_path)}
    dead = processes.run(mark_success, tmp_path, **crash)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    if cleared:
        assert world.run(max_tries=1).state == "done"
    else:
        again = processes.run(mark_success, tmp_path, **crash)
        assert (again.returncode, again.stdout) == (0, "marked\n"), again.stderr
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
