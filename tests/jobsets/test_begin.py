"""Rule 14: what an execution of the Airflow task means, by the state of the latest generation and ``max_tries``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import IllegalTransition, RenderError
from airflow_calib_provider.jobsets import begin as begin_module
from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.ledger import generations, skips, tables
from airflow_calib_provider.spec.models import FailureRule
from tests.jobsets.world import World
from tests.ledger.making import T0
from tests.postgres.fixture import database  # noqa: F401  on both

Make = Callable[..., World]


def test_airflow_retry_attaches_to_what_runs(make_world: Make) -> None:
    world = make_world("true")
    first = world.begin(8)
    again = world.begin(8)
    assert (first.attached, first.state) == (False, "running")
    assert (again.generation_id, again.attached, again.state) == (first.generation_id, True, "running")
    assert world.task_state() == "processing"


def test_clear_of_what_runs_attaches(make_world: Make) -> None:
    world = make_world("true")
    first = world.begin(8)
    again = world.begin(17)
    assert (again.generation_id, again.attached) == (first.generation_id, True)
    # That clear is remembered: an Airflow retry after the end returns the result.
    world.finish(first.generation_id)
    assert (world.begin(17).state, world.begin(17).attached) == ("done", True)


def test_airflow_retry_returns_what_is_recorded(make_world: Make) -> None:
    world = make_world("true")
    assert world.run().state == "done"
    assert (world.begin().state, world.begin().attached) == ("done", True)
    world.edit("false")
    assert world.begin().state == "done"
    assert len(world.rows(tables.generation)) == 1


def test_airflow_retry_of_a_failed_one_fails_again_without_jobs(make_world: Make) -> None:
    world = make_world("false")
    assert world.run().state == "failed"
    assert (world.begin().state, world.begin().attached) == ("failed", True)
    assert len(world.rows(tables.attempt)) == 1


def test_clear_of_a_failed_one_continues_with_what_is_not_done(make_world: Make) -> None:
    world = make_world(f"[ $CALIB_JOB != 1 ] || [ -e {make_world().folder}/mended ]", 3, retries=1)
    failed = world.run()
    assert (failed.state, failed.counts) == ("failed", {"succeeded": 2, "failed": 1})
    assert failed.reason is not None
    assert failed.reason["failed"] == [[1, "exit code 1"]]
    assert [row.n for row in world.rows(tables.attempt)] == [1, 1, 2, 1]
    (world.folder / "mended").touch()
    begun = world.begin(9)
    assert (begun.n, begun.state, begun.attached) == (1, "running", False)
    assert world.task_state() == "processing"
    assert world.finish(begun.generation_id).state == "done"
    assert [(row.job_index, row.n) for row in world.rows(tables.attempt)] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert world.task_state() == "done"


def test_a_cleared_one_has_a_fresh_retry_budget_with_the_limits_of_now(make_world: Make) -> None:
    world = make_world("false", retries=1)
    world.run()
    world.edit("false", retries=3)
    assert world.run(9).state == "failed"
    assert len(world.rows(tables.attempt)) == 2 + 4
    (row,) = world.rows(tables.generation)
    assert (row.retries, row.max_tries) == (3, 9)


def test_a_cleared_one_follows_the_policy_and_the_options_of_now(make_world: Make) -> None:
    world = make_world("false")
    world.run()
    (row,) = world.rows(tables.generation)
    assert (row.failures, row.options, row.keep) == ([], {}, 30 * 86_400)
    rules = (FailureRule(exit_codes=(1,), then="fail"),)
    world.edit("false", retries=5, failures=rules, options={"priority": 3}, keep=timedelta(hours=1))
    assert world.run(9).state == "failed"
    (row,) = world.rows(tables.generation)
    assert (row.failures, row.keep) == ([{"exit_codes": [1], "then": "fail"}], 3600)
    assert row.options == {"priority": 3}


def test_clear_with_changed_definitions_starts_the_next(make_world: Make) -> None:
    world = make_world("false")
    world.run()
    world.edit("true")
    begun = world.begin(9)
    assert (begun.n, begun.attached) == (2, False)
    assert world.finish(begun.generation_id).state == "done"
    assert world.states(tables.generation) == ["failed", "done"]


@pytest.mark.parametrize("change", [{"products": {"c": "other.txt"}}, {"environment": {"A": "1"}}])
def test_what_counts_as_another_definition(make_world: Make, change: dict[str, dict[str, str]]) -> None:
    world = make_world("false")
    world.run()
    world.edit("false", **change)
    assert world.begin(9).n == 2


def test_clear_of_a_done_one_starts_the_next(make_world: Make) -> None:
    world = make_world("true")
    world.run()
    begun = world.begin(9)
    assert (begun.n, begun.attached) == (2, False)
    assert (world.task_state(), world.finish(begun.generation_id).state) == ("processing", "done")


def test_clear_after_products_were_deleted_starts_the_next(make_world: Make) -> None:
    world = make_world("[ $CALIB_JOB = 0 ]", 2)
    world.run()
    (row,) = world.rows(tables.generation)
    shutil.rmtree(job_folder(row.folder, 0))
    assert world.begin(9).n == 2


@pytest.mark.parametrize("change", ["deleted", "emptied", "reported"])
def test_clear_after_one_product_file_was_lost_runs_its_job_again(make_world: Make, change: str) -> None:
    report = 'echo "{\\"type\\": \\"product\\", \\"name\\": \\"d\\", \\"file\\": \\"d.txt\\"}" > "$CALIB_REPORT"'
    script = f"echo x > c.txt; echo y > d.txt; {report}; [ $CALIB_JOB = 0 ] || [ -e {make_world().folder}/mended ]"
    world = make_world(script, 2, products={"c": "c.txt"})
    assert world.run().state == "failed"
    (row,) = world.rows(tables.generation)
    file = job_folder(row.folder, 0) / "out" / ("d.txt" if change == "reported" else "c.txt")
    file.write_text("") if change == "emptied" else file.unlink()
    (world.folder / "mended").touch()
    begun = world.begin(9)
    assert world.finish(begun.generation_id).state == "done"
    folder = world.rows(tables.generation)[-1].folder
    assert all((job_folder(folder, n) / "out" / name).stat().st_size for n in (0, 1) for name in ("c.txt", "d.txt"))


@pytest.mark.parametrize("state", ["done", "failed", "running"])
def test_a_worker_that_slept_through_a_clear_starts_nothing(make_world: Make, state: str) -> None:
    world = make_world({"done": "true", "failed": "false", "running": "sleep 100"}[state])
    first = world.begin(9)
    if state != "running":
        world.finish(first.generation_id)
    late = world.begin(8)
    assert (late.generation_id, late.attached, late.state) == (first.generation_id, True, state)
    (row,) = world.rows(tables.generation)
    assert row.max_tries == 9, "the larger one is kept: the next clear is measured by it"


def test_group_of_skipped_runs_stays_skipped(make_world: Make) -> None:
    world = make_world("true")
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [1], reason="x", person="ada", now=T0)
    with pytest.raises(RenderError, match="all runs of run-r1 are skipped"):
        world.begin()
    record_failure(world.ledger, world.group, "skim", "all runs of run-r1 are skipped", T0)
    assert world.task_state() == "skipped"
    assert world.rows(tables.generation) == []


def test_failure_before_there_is_a_generation(make_world: Make) -> None:
    world = make_world("{{ nothing }}")
    with pytest.raises(RenderError):
        world.begin()
    record_failure(world.ledger, world.group, "skim", "no such thing", T0)
    assert world.task_state() == "failed"
    world.edit("true")
    assert world.run(9).state == "done"
    world.edit("{{ nothing }}")
    with pytest.raises(RenderError):
        world.begin(17)
    record_failure(world.ledger, world.group, "skim", "no such thing", T0)
    assert world.task_state() == "failed"


def test_task_added_to_the_spec_after_its_group_was_opened(make_world: Make) -> None:
    world = make_world("true")
    with world.ledger.write() as connection:
        connection.execute(tables.group_task.delete())
    assert world.run().state == "done"
    assert world.task_state() == "done"


def test_two_that_begin_at_once_make_one_generation(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("true")
    slow = begin_module.render

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(begin_module, "render", slow)
        world.begin()
        return slow(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(begin_module, "render", overtaken)
    with pytest.raises(IllegalTransition, match="by another process meanwhile"):
        world.begin()
    assert len(world.rows(tables.generation)) == 1
    assert world.begin().attached


def test_what_a_generation_remembers(make_world: Make) -> None:
    world = make_world("true", 2)
    world.begin(4)
    (row,) = world.rows(tables.generation)
    assert (row.spec_hash, row.runs, row.max_tries) == (world.flow.hash, [1], 4)
    assert row.folder == "prompt/ecal/skim/run-r1/g1"
    with world.ledger.read() as connection:
        query = select(tables.event).where(tables.event.c.entity == "generation")
        (event,) = connection.execute(query).all()
        assert generations.latest(connection, world.group, "skim", state="done") is None
    assert (event.to_state, event.generation, event.data["jobs"]) == ("running", 1, 2)
