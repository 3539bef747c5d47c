"""Reserved workers keep what they have: the slots that they may not take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.local.slots import LOOK, Slots, WorkersSlots
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import SubmissionRefused


def in_turn(take: Callable[[int], list[int] | None], wanted: int = 1) -> list[int] | None:
    """What is got within a second of looks."""
    end = time.monotonic() + 1
    while (taken := take(wanted)) is None and time.monotonic() < end:
        time.sleep(LOOK)
    return taken


def test_the_last_slot_is_not_for_workers(tmp_path: Path) -> None:
    """Nor do those that wait for a place keep others waiting, in the same round and in another."""
    one, other, job = WorkersSlots(tmp_path, 3), WorkersSlots(tmp_path, 3), Slots(tmp_path, 3)
    first, second = in_turn(one.take), in_turn(one.take)
    assert first
    assert second
    assert in_turn(one.take) is None
    assert in_turn(other.take) is None
    of_job = in_turn(job.take)
    assert of_job
    job.release(of_job)
    job.withdraw()
    one.release(first)
    one.withdraw()
    assert in_turn(other.take), "a place that is given back is another worker's"


def test_jobs_first(tmp_path: Path) -> None:
    """A worker that has a place waits for a slot as any job does, and gives its place back when it is not wanted."""
    worker, later, job = WorkersSlots(tmp_path, 2), WorkersSlots(tmp_path, 2), Slots(tmp_path, 2)
    taken = [in_turn(job.take), in_turn(job.take)]
    job.withdraw()
    assert all(taken)
    assert in_turn(worker.take) is None
    worker.withdraw()
    job.release(taken[0] or [])
    assert in_turn(later.take)


@pytest.mark.parametrize(("cpus", "slots"), [(1, 1), (2, 2)])
def test_workers_that_would_take_all_of_it(tmp_path: Path, cpus: int, slots: int) -> None:
    key = RoundKey("prompt", "zee", "scale", "run-r1", 1, -1, 0)
    worker = JobSubmission(0, 1, ("true",), {}, tmp_path / "job", Resources(cpus))
    with pytest.raises(
        SubmissionRefused, match=f"takes {cpus} of {slots} slots of this machine, and one must stay for others"
    ):
        LocalBackend(tmp_path / "spool", slots=slots).submit(key, [worker])
    assert not (tmp_path / "spool").exists()
