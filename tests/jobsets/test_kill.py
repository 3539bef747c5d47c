"""What a person's kill and mark success mean (rule 19)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.jobsets.kill import leftovers, remove_leftovers, settle
from airflow_calib_provider.ledger import generations, tables
from tests.jobsets.test_advance import FakeBackend
from tests.jobsets.world import World
from tests.postgres.fixture import database  # noqa: F401  on both

Make = Callable[..., World]


def begun(world: World) -> int:
    generation = world.begin().generation_id
    world.step([generation])
    return generation


def settled(world: World, generation: int, state: str | None) -> str:
    return settle(world.ledger, lambda name: world.backend, generation, state, datetime.now(UTC))


@pytest.mark.parametrize("state", [None, "running", "deferred", "queued", "restarting", "up_for_retry", "removed"])
def test_nothing_is_removed_while_airflow_has_not_ended_the_task(make_world: Make, state: str | None) -> None:
    world = make_world("sleep 100")
    generation = begun(world)
    assert settled(world, generation, state) == "nothing"
    assert len(world.backend.rounds()) == 1


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_kill(make_world: Make, state: str) -> None:
    world = make_world("[ $CALIB_JOB = 0 ] || sleep 100", 3)
    generation = begun(world)
    assert settled(world, generation, state) == "removed"
    assert world.backend.rounds() == []
    (row,) = world.rows(tables.generation)
    assert (row.state, row.ended_by) == ("failed", "a person, in Airflow")
    assert render(row.reason) == f"killed by a user: Airflow's state is {state}"
    assert world.task_state() == "failed"
    assert "removed" in world.states(tables.job)
    assert settled(world, generation, state) == "nothing"


def test_a_killed_one_continues_after_a_clear(make_world: Make) -> None:
    world = make_world("[ $CALIB_ATTEMPT = 2 ] || sleep 100", 2)
    settled(world, begun(world), "failed")
    again = world.begin(9)
    assert (again.n, again.state) == (1, "running")
    assert world.finish(again.generation_id).state == "done"


def test_kill_of_an_older_generation_touches_nothing(make_world: Make) -> None:
    world = make_world("true")
    assert world.run().state == "done"
    first = world.rows(tables.generation)[0].id
    world.edit("sleep 100")
    second = world.begin(9).generation_id
    world.step([second])
    assert settled(world, first, "failed") == "nothing"
    assert len(world.backend.rounds()) == 1


def test_kill_that_fails_records_nothing(make_world: Make) -> None:
    world = make_world("true")
    generation = world.begin().generation_id

    class Broken(FakeBackend):
        def remove(self, *arguments: object) -> None:
            raise BackendError("no answer")

    world.backend = Broken()  # type: ignore[assignment]
    world.step([generation])
    with pytest.raises(BackendError):
        settled(world, generation, "failed")
    assert world.states(tables.generation) == ["running"]
    world.backend = FakeBackend()  # type: ignore[assignment]


def test_mark_success_with_products(make_world: Make) -> None:
    """The jobs ended well, without their products: a person supplied these."""
    world = make_world("[ $CALIB_JOB = 1 ] || echo x > c.txt", 2, products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    made = world.folder / "products" / row.folder / "attempts" / "job-00001-a1" / "out" / "c.txt"
    made.write_text("by hand")
    assert settled(world, row.id, "success") == "marked"
    (row,) = world.rows(tables.generation)
    assert (row.state, row.reason["code"]) == ("done", "marked_success")
    assert world.task_state() == "done"
    assert [job.state for job in world.rows(tables.job)] == ["succeeded", "succeeded"]
    # What comes after finds the products as those of any other done generation.
    assert len(world.rows(tables.product)) == 2
    assert all((job_folder(row.folder, index) / "out" / "c.txt").exists() for index in (0, 1))


@pytest.mark.parametrize("script", ["seq 5 > c.txt; sleep 100", "seq 5 > c.txt; exec sleep 100"])
def test_mark_success_while_a_product_is_being_written(make_world: Make, script: str) -> None:
    world = make_world(script, products={"c": "c.txt"})
    generation = begun(world)
    out = world.folder / "products/prompt/ecal/skim/run-r1/g1/attempts/job-00000-a1/out/c.txt"
    while not out.exists() or not out.stat().st_size:
        time.sleep(0.02)
    assert settled(world, generation, "success") == "kept"
    assert (world.states(tables.generation), world.task_state()) == (["running"], "processing")
    assert len(world.backend.rounds()) == 1, "the job goes on"
    (row,) = world.rows(tables.group_task)
    assert "c of job 0 (no attempt of it ended well)" in render(row.reason)


def test_mark_success_of_jobs_that_have_ended_well_since_the_last_look(make_world: Make) -> None:
    world = make_world("echo x > c.txt", products={"c": "c.txt"})
    generation = begun(world)
    until = time.monotonic() + 60
    # Housekeeping looks again and again, and nobody else does.
    while settled(world, generation, "success") == "kept":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (world.states(tables.generation), world.states(tables.job)) == (["done"], ["succeeded"])


@pytest.mark.parametrize("content", [None, ""])
def test_mark_success_of_an_accepted_job_whose_product_is_gone(make_world: Make, content: str | None) -> None:
    world = make_world("echo x > c.txt; [ $CALIB_JOB = 0 ]", 2, products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    product = job_folder(row.folder, 0) / "out" / "c.txt"
    product.unlink() if content is None else product.write_text(content)
    assert settled(world, row.id, "success") == "kept"
    assert world.states(tables.generation) == ["failed"]
    (task,) = world.rows(tables.group_task)
    assert "c of job 0, c of job 1 (no attempt of it ended well)" in render(task.reason)


class Clears:
    """A backend of which the removal takes so long that a person clears the task meanwhile."""

    def __init__(self, world: World, max_tries: int, watched: bool) -> None:
        self.world, self.inner, self.max_tries, self.watched = world, world.backend, max_tries, watched

    def remove(self, key: RoundKey, *jobs: Any) -> None:
        begun = self.world.begin(self.max_tries)
        assert begun.attached
        self.inner.remove(key)
        if self.watched:
            assert self.world.step([begun.generation_id])[begun.generation_id].state == "failed"


@pytest.mark.parametrize("watched", [False, True])
def test_a_clear_during_the_removal_lets_the_jobs_run_again(make_world: Make, watched: bool) -> None:
    world = make_world("[ $CALIB_ATTEMPT = 2 ] || sleep 100", 2)
    generation = begun(world)
    slow = Clears(world, 9, watched)
    assert settle(world.ledger, lambda name: slow, generation, "failed", datetime.now(UTC)) == "cleared"  # type: ignore[arg-type,return-value]
    assert (world.states(tables.generation), world.task_state()) == (["running"], "processing")
    assert world.finish(generation).state == "done"
    assert [row.state for row in world.rows(tables.attempt) if row.n == 1] == ["removed", "removed"]


def test_a_clear_before_the_removal_stops_it(make_world: Make) -> None:
    """Airflow said failed; then the task was cleared, and attached, before the removal began."""
    world = make_world("sleep 100")
    generation = begun(world)
    assert world.begin(9).attached
    assert settle(world.ledger, lambda name: world.backend, generation, "failed", datetime.now(UTC), 0) == "nothing"
    assert len(world.backend.rounds()) == 1


def test_mark_success_without_products(make_world: Make) -> None:
    world = make_world("sleep 100", products={"c": "c.txt"})
    generation = begun(world)
    assert settled(world, generation, "success") == "kept"
    assert world.states(tables.generation) == ["running"]
    assert len(world.backend.rounds()) == 1
    (row,) = world.rows(tables.group_task)
    assert row.state == "processing"
    assert "the ledger stays as it was: missing products c of job 0" in render(row.reason)


def test_mark_success_of_a_failed_one(make_world: Make) -> None:
    world = make_world("exit 0", products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    assert settled(world, row.id, "success") == "kept"
    assert world.task_state() == "failed"
    made = world.folder / "products" / row.folder / "attempts" / "job-00000-a1" / "out" / "c.txt"
    made.write_text("by hand")
    assert settled(world, row.id, "success") == "marked"
    assert (world.task_state(), world.states(tables.job)) == ("done", ["succeeded"])
    assert (job_folder(row.folder, 0) / "out" / "c.txt").read_text() == "by hand"


def test_mark_success_does_not_believe_what_a_job_that_failed_left_behind(make_world: Make) -> None:
    world = make_world("echo half > c.txt; exit 1", products={"c": "c.txt"})
    assert world.run().state == "failed"
    assert settled(world, world.rows(tables.generation)[0].id, "success") == "kept"
    assert world.task_state() == "failed"


def test_airflow_success_of_a_done_one_is_nothing(make_world: Make) -> None:
    world = make_world("true")
    world.run()
    assert settled(world, world.rows(tables.generation)[0].id, "success") == "nothing"


def test_leftovers(make_world: Make) -> None:
    world = make_world("sleep 100")
    generation = begun(world)
    assert leftovers(world.ledger, world.backend) == []
    with world.ledger.write() as connection:
        generations.end(
            connection, generations.by_id(connection, generation), "failed", {"code": "x"}, datetime.now(UTC)
        )
    (found,) = leftovers(world.ledger, world.backend)
    assert found.why == "its generation is failed"
    assert remove_leftovers(world.backend, [found]) == ([found], [])
    assert world.backend.rounds() == []


def test_what_is_left_of_a_generation_that_was_cleared(make_world: Make) -> None:
    """It runs again, and what its first rounds left runs beside it, unseen."""
    world = make_world("sleep 100")
    generation = begun(world)
    with world.ledger.write() as connection:
        row = generations.by_id(connection, generation)
        generations.end(connection, row, "failed", {"code": "x"}, datetime.now(UTC))
    assert world.begin(max_tries=9).generation_id == generation
    world.step([generation])
    assert len(world.backend.rounds()) == 2
    (found,) = leftovers(world.ledger, world.backend)
    assert (found.key.round, found.why) == (0, "it is over, though its generation is running")
    assert remove_leftovers(world.backend, [found]) == ([found], [])
    assert [key.round for key in world.backend.rounds()] == [1]
    world.backend.remove(world.backend.rounds()[0])


def test_rounds_of_others_are_reported_and_never_removed(make_world: Make) -> None:
    world = make_world("sleep 100")
    begun(world)
    with world.ledger.write() as connection:
        connection.execute(tables.round_.update().values(key="another"))
    (found,) = leftovers(world.ledger, world.backend)
    assert found.why == "unknown to this ledger"
    assert remove_leftovers(world.backend, [found]) == ([], [])
    assert len(world.backend.rounds()) == 1
