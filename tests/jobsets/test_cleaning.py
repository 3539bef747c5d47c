"""What is left of ended generations goes after its time, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets import observing
from airflow_calib_provider.jobsets.cleaning import clean
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder
from airflow_calib_provider.ledger import tables
from tests.jobsets.world import World

Make = Callable[..., World]
SCRIPT = "echo x > c.txt; [ $CALIB_JOB = 0 ] || [ $CALIB_ATTEMPT = 2 ]"


def after(**past: float) -> datetime:
    return datetime.now(UTC) + timedelta(**past)


def swept(world: World, at: datetime, **options: Any) -> int:
    found = clean(world.ledger, lambda name: world.backend, at, **options)
    assert found.errors == []
    return found.generations


def test_after_its_time_only_products_are_left(make_world: Make) -> None:
    world = make_world(SCRIPT, 2, retries=2, products={"c": "c.txt"}, keep=timedelta(hours=1))
    assert world.run().state == "done"
    (row,) = world.rows(tables.generation)
    attempts = generation_folder(row.folder) / "attempts"
    assert attempts.is_dir()
    assert swept(world, after(minutes=59)) == 0
    assert (len(list((world.folder / "spool").glob("prompt.*"))), attempts.is_dir()) == (2, True)
    assert swept(world, after(minutes=61)) == 1
    assert list((world.folder / "spool").glob("prompt.*")) == []
    assert not attempts.exists()
    for job in (0, 1):
        assert (job_folder(row.folder, job) / "out" / "c.txt").read_text() == "x\n"
        assert (job_folder(row.folder, job) / "stdout").exists()
    assert swept(world, after(minutes=61)) == 0


def test_a_running_generation_is_left_alone_and_a_cleared_one_can_go_on(make_world: Make) -> None:
    world = make_world("[ -e $CALIB_OUT/../../../mended ] && echo x > c.txt", retries=0, keep=timedelta(seconds=1))
    assert world.run().state == "failed"
    assert swept(world, after(hours=1)) == 1
    (row,) = world.rows(tables.generation)
    (generation_folder(row.folder) / "mended").touch()
    begun = world.begin(9)
    assert begun.n == 1
    assert swept(world, after(hours=1)) == 0
    assert world.finish(begun.generation_id).state == "done"
    assert swept(world, after(hours=1)) == 1


def test_what_was_accepted_and_not_yet_in_its_place(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("echo x > c.txt", 2, products={"c": "c.txt"})
    monkeypatch.setattr(observing, "promote", lambda *_: None)
    world.run()
    (row,) = world.rows(tables.generation)
    accepted = job_folder(row.folder, 0)
    shutil.move(accepted, generation_folder(row.folder) / "attempts" / "job-00000-a1")
    assert swept(world, after(days=29)) == 0
    assert swept(world, after(days=31)) == 1
    assert (accepted / "out" / "c.txt").exists()


def test_in_batches_and_past_what_is_in_trouble(make_world: Make) -> None:
    world = make_world("true", keep=timedelta(seconds=1))
    for turn in range(7):
        world.run(turn)
    asked = []

    class Broken:
        def forget(self, key: Any) -> None:
            asked.append(key)
            raise BackendError("no answer")

    found = clean(world.ledger, lambda name: Broken(), after(hours=1))  # type: ignore[arg-type, return-value]
    assert (found.generations, found.errors, len(asked)) == (0, ["no answer"] * 3, 3)
    assert [swept(world, after(hours=1), at_once=4) for _ in range(3)] == [4, 3, 0]
