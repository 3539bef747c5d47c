"""Job sets on a real HTCondor pool: many jobs, of which some fail in every way there is."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.spec.models import FailureRule, ResourceRequest
from tests.jobsets.world import World
from tests.pool.pool import Pool

pytestmark = [pytest.mark.condor, pytest.mark.timeout(1500)]

# What becomes of a job is decided by its number modulo 20.
SCRIPT = """
echo "$CALIB_JOB $CALIB_ATTEMPT" >> "$CALIB_OUT/../../../executions"
echo "product of $CALIB_JOB" > result.txt
case $((CALIB_JOB % 20)) in
  3) [ "$CALIB_ATTEMPT" -ge 2 ] || exit 3 ;;
  5) exit 5 ;;
  7) [ "$CALIB_ATTEMPT" -ge 2 ] || kill -SEGV $$ ;;
  9) [ "$CALIB_ATTEMPT" -ge 2 ] || exec python3 -c "import time; a = bytearray(200 * 2**20); time.sleep(300)" ;;
  11) exit 66 ;;
  13) [ "$CALIB_ATTEMPT" -ge 2 ] || { : > result.txt; } ;;
  17) sleep 300 ;;
  19) while [ ! -e "$CALIB_OUT/../../../held-$CALIB_JOB" ]; do sleep 0.3; done ;;
esac
"""
GOOD = {0, 1, 2, 4, 6, 8, 10, 12, 14, 15, 16, 18, 19}


@pytest.fixture
def pool_world(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, CondorBackend]]:
    assert pool.shared is not None
    before = os.umask(0)
    folder = pool.shared / tmp_path.name
    folder.mkdir()
    monkeypatch.setenv("CALIB_HOME", str(folder))
    monkeypatch.setenv("CALIB_CONDOR_VERIFY_INTERVAL", "5")
    backend = CondorBackend(CondorSettings.from_mapping("calib_condor", pool.connection()), folder / "spool")
    yield folder, backend
    backend.close()
    os.umask(before)


@pytest.mark.parametrize("n_jobs", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_jobs_of_all_kinds(pool_world, pool, n_jobs):
    """Final states are right, and each successful job has exactly one accepted attempt."""
    folder, backend = pool_world
    world = World(
        folder,
        SCRIPT,
        n_jobs,
        backend,
        products={"result": "result.txt"},
        retries=2,
        resources=ResourceRequest(memory=64 * 2**20),
        failures=(
            FailureRule(exit_codes=(66,), then="fail"),
            FailureRule(classes=("memory",), then="retry", factor=6, at_most=2**30),
            FailureRule(hold_codes=(1,), then="release", times=3, after=timedelta(seconds=1)),
        ),
    )
    begun = world.begin()
    removed, held = set(), set()
    until = time.monotonic() + 1200
    while (standing := world.step([begun.generation_id])[begun.generation_id]).state == "running":
        assert time.monotonic() < until, standing
        running = [row for row in world.rows(tables.job) if row.state == "running"]
        _act(pool, backend, "condor_rm", [row for row in running if row.job_index % 20 == 17], removed)
        _act(pool, backend, "condor_hold", [row for row in running if row.job_index % 20 == 19], held)
        for index in held - {row.job_index for row in running}:
            next(folder.glob("products/**/executions")).with_name(f"held-{index}").touch()
        time.sleep(1)
    jobs = {row.job_index: row for row in world.rows(tables.job)}
    expected = {5: ("failed", 3), 11: ("failed", 1), 17: ("removed", 1)}
    expected |= dict.fromkeys(GOOD, ("succeeded", 1)) | dict.fromkeys((3, 7, 9, 13), ("succeeded", 2))
    wrong = {
        index: (row.state, row.attempt, row.reason)
        for index, row in jobs.items()
        if (row.state, row.attempt) != expected[index % 20]
    }
    assert not wrong
    accepted = Counter(row.job_index for row in world.rows(tables.attempt) if row.state == "succeeded")
    assert accepted == {index: 1 for index, row in jobs.items() if row.state == "succeeded"}
    assert all(jobs[index].request_memory == 384 * 2**20 for index in jobs if index % 20 == 9)
    executed = Counter(next(folder.glob("products/**/executions")).read_text().splitlines())
    twice = {line for line, times in executed.items() if times > 1}
    assert {int(line.split()[0]) % 20 for line in twice} == {19}, "only what was held while it ran is executed again"
    assert len(backend.rounds()) == 0
    for index, row in jobs.items():
        if row.state == "succeeded":
            file = next(folder.glob(f"products/**/g1/job-{index:05d}/out/result.txt"))
            assert file.read_text() == f"product of {index}\n"
    assert standing.state == "failed"
    assert world.task_state() == "failed"


def _act(pool: Pool, backend: CondorBackend, command: str, rows: list, done: set[int]) -> None:
    """What a person does to running jobs of the first round by their numbers in the queue."""
    new = [row.job_index for row in rows if row.job_index not in done]
    if new:
        (folder,) = backend.spool.glob("*.r0")
        cluster = int((folder / "cluster").read_text())
        pool.tool(command, *(f"{cluster}.{index}" for index in new))
        done.update(new)


def test_jobs_that_the_pool_refuses_fail_the_task_with_the_reason(pool_world):
    folder, backend = pool_world
    world = World(folder, "true", 3, backend)
    world.edit("true", 3, options={"requirements": "this is (not an expression"})
    standing = world.run()
    assert standing.state == "failed"
    assert "requirements" in standing.reason["message"].lower()
    assert backend.rounds() == []


def test_a_product_that_does_not_come_back_is_told(pool_world):
    """With file transfer: one job leaves its product out, another one takes the folder away that is to be fetched."""
    folder, backend = pool_world
    script = """
    case $CALIB_JOB in
      0) echo good > "$CALIB_OUT/result.txt" ;;
      2) rm -rf "$CALIB_OUT" "$CALIB_REPORT" ;;
    esac
    """
    world = World(
        folder,
        script,
        3,
        backend,
        products={"result": "result.txt"},
        failures=(FailureRule(classes=("transfer",), then="fail"),),
        options={"transfer": True},
    )
    begun = world.begin()
    standing = world.finish(begun.generation_id, patience=120)
    jobs = {row.job_index: row for row in world.rows(tables.job)}
    assert [(jobs[n].state, jobs[n].failure) for n in range(3)] == [
        ("succeeded", None),
        ("failed", "product"),
        ("failed", "transfer"),
    ]
    assert jobs[1].reason == "product result: result.txt is missing"
    assert "scratch/out: (errno 2) No such file" in jobs[2].reason
    assert standing.state == "failed"
    assert backend.rounds() == []
