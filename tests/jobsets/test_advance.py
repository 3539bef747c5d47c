"""The watcher's step with the real local backend (rules 13–17)."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.observation import AttemptState, Observation, RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets import ending, observing
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.ending import jobs_needed
from airflow_calib_provider.jobsets.folders import attempt_folder, job_folder
from airflow_calib_provider.ledger import generations, tables
from airflow_calib_provider.spec.models import Jobs
from tests import processes
from tests.jobsets.scripted import Story
from tests.jobsets.world import World
from tests.ledger.making import RUN, facts, group_ids, new_ledger, put_runs, task, workflow

Make = Callable[..., World]


class FakeBackend:
    """Answers as it is told."""

    name = "local"

    def __init__(self) -> None:
        self.submitted: dict[RoundKey, list[JobSubmission]] = {}
        self.news: list[Observation] = []
        self.finished = False
        self.removed: list[RoundKey] = []
        self.cursor = 0
        self.trouble: str = ""

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Any = None) -> None:
        if self.trouble:
            raise BackendError(self.trouble)
        self.submitted.setdefault(key, list(jobs))

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        if self.trouble:
            raise BackendError(self.trouble)
        self.cursor += 1
        return {key: RoundObservations(self.news, str(self.cursor), self.finished) for key in rounds}

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        self.removed.append(key)

    def rounds(self) -> Sequence[RoundKey]:
        return list(self.submitted)

    def forget(self, key: RoundKey) -> None:
        self.submitted.pop(key)

    def see(self, *states: tuple[int, int, AttemptState], finished: bool = False) -> None:
        self.news = [Observation(index, attempt, state, datetime.now(UTC)) for index, attempt, state in states]
        self.finished = finished


S, R, F, L = AttemptState.SUCCEEDED, AttemptState.RUNNING, AttemptState.FAILED, AttemptState.LOST


def step(world: World, backend: Any, generation: int, delay: float = 0.0, at: datetime | None = None) -> Any:
    return advance(world.ledger, lambda name: backend, [generation], at or datetime.now(UTC), delay)[generation]


def test_only_failed_jobs_are_retried(make_world: Make) -> None:
    world = make_world("[ $CALIB_JOB != 1 ] || [ $CALIB_ATTEMPT = 3 ]", 3, retries=2)
    standing = world.run()
    assert (standing.state, standing.counts) == ("done", {"succeeded": 3})
    attempts = [(row.job_index, row.n, row.state, row.round) for row in world.rows(tables.attempt)]
    assert attempts == [
        (0, 1, "succeeded", 0),
        (1, 1, "failed", 0),
        (1, 2, "failed", 1),
        (1, 3, "succeeded", 2),
        (2, 1, "succeeded", 0),
    ]
    assert [row.accepted_attempt for row in world.rows(tables.job)] == [1, 3, 1]
    assert set(world.states(tables.round_)) == {"finished"}


def test_retries_mean_attempts(make_world: Make) -> None:
    world = make_world("exit 7", retries=3)
    standing = world.run()
    assert standing.state == "failed"
    assert len(world.rows(tables.attempt)) == 4
    assert world.task_state() == "failed"
    (job,) = world.rows(tables.job)
    assert (job.exit_code, job.failures, job.state) == (7, 4, "failed")


def test_product_missing_fails_the_job_with_that_reason(make_world: Make) -> None:
    world = make_world("[ $CALIB_JOB = 0 ] && echo 1 > c.txt || true", 2, products={"c": "c.txt"})
    standing = world.run()
    assert standing.reason is not None
    assert standing.reason["failed"] == [[1, "product c: c.txt is missing"]]
    assert world.states(tables.attempt) == ["succeeded", "failed"]


def test_values_and_products_of_the_accepted_attempt(make_world: Make) -> None:
    report = '{"type": "value", "name": "scale", "value": 1.01, "error": 0.1}'
    world = make_world(f"echo x > c.txt; echo '{report}' >> $CALIB_REPORT", products={"c": "c.txt"})
    assert world.run().state == "done"
    (value,), (product,) = world.rows(tables.value), world.rows(tables.product)
    assert (value.name, value.value, value.error) == ("scale", 1.01, 0.1)
    assert (product.name, product.file) == ("c", "c.txt")
    folder = world.rows(tables.generation)[0].folder
    assert (job_folder(folder, 0) / "out" / "c.txt").read_text() == "x\n"


def test_quorum(make_world: Make) -> None:
    world = make_world("[ $CALIB_JOB -lt 8 ] || sleep 100", 10, quorum=0.8)
    standing = world.run()
    assert (standing.state, standing.counts) == ("done", {"succeeded": 8, "left_out": 2})
    assert standing.reason == {"code": "done", "n_jobs": 10, "left_out": [8, 9]}
    assert world.backend.rounds() == []
    assert [row.state for row in world.rows(tables.attempt)[8:]] == ["removed", "removed"]


def test_quorum_out_of_reach_lets_the_others_end(make_world: Make) -> None:
    world = make_world("[ $CALIB_JOB -gt 1 ]", 5, quorum=0.8)
    assert world.run().counts == {"succeeded": 3, "failed": 2}
    assert world.task_state() == "failed"


@pytest.mark.parametrize(
    ("quorum", "jobs", "needed"),
    [(0.9, 10, 9), (0.07, 100, 7), (0.29, 100, 29), (1.0, 7, 7), (0.5, 3, 2), (1e-12, 3, 1), (0.999, 1000, 999)],
)
def test_quorum_in_floating_point(quorum: float, jobs: int, needed: int) -> None:
    assert jobs_needed(quorum, jobs) == needed


def test_what_jobs_are_told(make_world: Make) -> None:
    world = make_world("env > env.txt; pwd > pwd.txt")
    world.run()
    out = job_folder(world.rows(tables.generation)[0].folder, 0) / "out"
    told = dict(line.split("=", 1) for line in (out / "env.txt").read_text().splitlines() if "=" in line)
    expected = {"CALIB_CAMPAIGN": "prompt", "CALIB_GROUP": "run-r1", "CALIB_RUNS": "1", "CALIB_JOB": "0"}
    assert expected.items() <= told.items()
    assert told["CALIB_OUT"] == (out / "pwd.txt").read_text().strip()


def test_net_change_of_several_observations(make_world: Make) -> None:
    world, fake = make_world("true", 2, retries=1), FakeBackend()
    generation = world.begin().generation_id
    (key,) = _submit(world, fake, generation)
    assert key == RoundKey("prompt", "ecal", "skim", "run-r1", 1, 0, 0)
    fake.see((0, 1, R), (0, 1, S), (1, 1, R), (1, 1, F), (1, 1, R), (0, 1, F), (0, 2, S), (9, 1, S))
    assert step(world, fake, generation, delay=60).counts == {"succeeded": 1, "waiting": 1}
    assert world.states(tables.attempt) == ["succeeded", "failed"]
    assert step(world, fake, generation, delay=60).counts == {"succeeded": 1, "waiting": 1}


def _submit(world: World, fake: FakeBackend, generation: int) -> list[RoundKey]:
    fake.see()
    step(world, fake, generation)
    return list(fake.submitted)


def test_delay_before_a_retry(make_world: Make) -> None:
    world, fake = make_world("true", retries=1), FakeBackend()
    generation = world.begin().generation_id
    _submit(world, fake, generation)
    fake.see((0, 1, F))
    now = datetime.now(UTC).replace(second=30, microsecond=0)
    step(world, fake, generation, 60, now)
    fake.see()
    step(world, fake, generation, 60, now + timedelta(seconds=59))
    assert len(fake.submitted) == 1
    step(world, fake, generation, 60, now + timedelta(seconds=60))
    assert len(fake.submitted) == 2


def test_jobs_that_fail_one_after_the_other_are_submitted_together(make_world: Make) -> None:
    world, fake = make_world("true", 3, retries=1), FakeBackend()
    generation = world.begin().generation_id
    _submit(world, fake, generation)
    now = datetime.now(UTC).replace(second=31, microsecond=0)
    for index in range(3):
        fake.see((index, 1, F))
        step(world, fake, generation, 60, now + timedelta(seconds=10 * index))
    fake.see()
    step(world, fake, generation, 60, now + timedelta(seconds=88))
    assert len(fake.submitted) == 1
    step(world, fake, generation, 60, now + timedelta(seconds=89))
    assert [len(jobs) for jobs in fake.submitted.values()] == [3, 3]


def test_losses_are_not_counted_as_failures_but_capped(make_world: Make) -> None:
    world, fake = make_world("true", retries=0), FakeBackend()
    generation = world.begin().generation_id
    for attempt in range(1, 12):
        fake.see((0, attempt, L))
        standing = step(world, fake, generation)
    assert (standing.state, len(world.rows(tables.attempt))) == ("failed", 11)
    assert (world.rows(tables.job)[0].losses, world.rows(tables.job)[0].failures) == (11, 0)


def test_round_that_the_backend_forgot_is_lost(make_world: Make) -> None:
    world = make_world("sleep 100", 2, retries=0)
    generation = world.begin().generation_id
    world.step([generation])
    (key,) = world.backend.rounds()
    world.backend.remove(key)
    shutil.rmtree(world.folder / "spool" / str(key))
    world.step([generation])
    assert world.states(tables.attempt) == ["lost", "lost"]
    assert world.states(tables.round_) == ["finished"]
    world.edit("true")
    assert world.step([generation])[generation].counts == {"submitted": 2}


def test_one_trouble_does_not_hold_back_the_others(make_world: Make) -> None:
    world, fake = make_world("true"), FakeBackend()
    first = world.begin().generation_id
    assert world.finish(first).state == "done"
    second = world.begin(9).generation_id
    fake.trouble = "no answer"
    seen = advance(world.ledger, lambda name: fake, [first, second], datetime.now(UTC), 0.0)
    assert (seen[first].state, seen[first].trouble) == ("done", "")
    assert (seen[second].state, seen[second].trouble) == ("running", "no answer")
    with pytest.raises(BackendError, match="no answer"):
        advance(world.ledger, lambda name: fake, [second], datetime.now(UTC), 0.0)
    assert world.finish(second).state == "done"
    assert world.step([first, 77])[77].state == "unknown"


def test_kill_between_plan_and_submission_leaves_no_jobs(make_world: Make) -> None:
    world, fake = make_world("true"), FakeBackend()
    generation = world.begin().generation_id

    class Killed(FakeBackend):
        def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Any = None) -> None:
            with world.ledger.write() as connection:
                row = generations.by_id(connection, generation)
                generations.end(
                    connection, row, "failed", {"code": "killed", "airflow_state": "failed"}, datetime.now(UTC)
                )
            super().submit(key, jobs, options)

    fake = Killed()
    assert step(world, fake, generation).state == "failed"
    assert fake.removed == list(fake.submitted)
    assert world.states(tables.round_) == ["finished"]
    # Continued, it does not submit the old round again.
    again = FakeBackend()
    world.begin(9)
    step(world, again, generation)
    assert [key.round for key in again.submitted] == [1]


def test_end_by_somebody_else_during_a_poll(make_world: Make) -> None:
    world = make_world("true")
    generation = world.begin().generation_id
    _submit(world, fake := FakeBackend(), generation)

    class Late(FakeBackend):
        def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
            with world.ledger.write() as connection:
                row = generations.by_id(connection, generation)
                generations.end(
                    connection, row, "failed", {"code": "killed", "airflow_state": "failed"}, datetime.now(UTC)
                )
            return super().poll(rounds)

    fake = Late()
    fake.see((0, 1, S), finished=True)
    assert step(world, fake, generation).state == "failed"
    assert world.states(tables.attempt) == ["removed"]


def test_products_that_vanish_before_the_end_fail_the_generation(make_world: Make) -> None:
    world, fake = make_world("true", 2), FakeBackend()
    generation = world.begin().generation_id
    _submit(world, fake, generation)
    fake.see((0, 1, S))
    step(world, fake, generation)
    folder = world.rows(tables.generation)[0].folder
    shutil.rmtree(job_folder(folder, 0))
    fake.see((1, 1, S))
    standing = step(world, fake, generation)
    assert standing.state == "failed"
    assert standing.reason is not None
    assert "are gone" in standing.reason["message"]
    assert world.begin(9).n == 2


def test_promotion_is_made_up_for(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world, fake = make_world("true", 2), FakeBackend()
    generation = world.begin().generation_id
    _submit(world, fake, generation)
    for module in (observing, ending):
        monkeypatch.setattr(module, "promote", lambda *a: None)
    fake.see((0, 1, S))
    step(world, fake, generation)
    monkeypatch.undo()
    monkeypatch.setenv("CALIB_HOME", str(world.folder))
    folder = world.rows(tables.generation)[0].folder
    assert attempt_folder(folder, 0, 1).is_dir()
    fake.see((1, 1, S))
    assert step(world, fake, generation).state == "done"
    assert job_folder(folder, 0).is_dir()


def _watch(folder: Path, generation: int, out: multiprocessing.Queue[str]) -> None:
    os.environ["CALIB_HOME"] = str(folder)
    world = World(folder)
    world.backend = LocalBackend(folder / "spool", slots=4)
    out.put(world.finish(generation).state)


def test_two_watchers_make_one_accepted_attempt_per_job(make_world: Make) -> None:
    script = "echo x > c.txt; [ $CALIB_ATTEMPT -gt 1 ] || [ $(($CALIB_JOB % 2)) = 0 ]"
    world = make_world(script, 8, retries=2, products={"c": "c.txt"})
    generation = world.begin().generation_id
    world.ledger.close()
    out: multiprocessing.Queue[str] = processes.context().Queue()
    watchers = [processes.process(_watch, world.folder, generation, out) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    assert [out.get(timeout=60) for _ in watchers] == ["done"] * 3
    for watcher in watchers:
        watcher.join()
        assert watcher.exitcode == 0
    accepted = [row for row in world.rows(tables.attempt) if row.state == "succeeded"]
    assert [(row.job_index, row.n) for row in accepted] == [(index, 1 + index % 2) for index in range(8)]
    assert len(world.rows(tables.product)) == 8
    assert all(row.n <= 2 for row in world.rows(tables.attempt))
    rounds = [row.key for row in world.rows(tables.round_)]
    assert len(rounds) == len(set(rounds))
    assert len(rounds) <= 5


@pytest.mark.parametrize("error", [BackendError("the log is damaged"), OverflowError("the log is damaged")])
def test_a_damaged_round_or_job_set_does_not_hold_back_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    ledger = new_ledger(tmp_path)
    flow = workflow("ecal", task("skim", RUN, jobs=Jobs(command=("true",))), file=str(tmp_path / "ecal.yaml"))
    put_runs(ledger, flow, [facts(1), facts(2), facts(3)])
    now = datetime.now(UTC)
    ids = [
        begin(ledger, flow, flow.tasks["skim"], group, max_tries=0, dag_run_id=name, now=now).generation_id
        for name, group in sorted(group_ids(ledger, "run").items())
    ]

    class Damaged(LocalBackend):
        def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Any = None) -> None:
            if key.group == "run-r2":
                raise ValueError("cannot be encoded")
            super().submit(key, jobs, options)

        def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
            if any(key.group == "run-r1" for key in rounds):
                raise error
            return super().poll(rounds)

    backend = Damaged(tmp_path / "spool", slots=2, grace=0.5)
    until = time.monotonic() + 30
    while True:
        seen = advance(ledger, lambda name: backend, ids, datetime.now(UTC), 0.0)
        if seen[ids[2]].state == "done":
            break
        assert time.monotonic() < until, seen
        time.sleep(0.05)
    assert [seen[number].state for number in ids[:2]] == ["running", "running"]
    assert seen[ids[0]].trouble.endswith("the log is damaged")
    assert seen[ids[1]].trouble == "ValueError: cannot be encoded"


def test_jobs_without_news_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each two seconds, all of a large job set would keep the triggerer busy with nothing."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    story = Story(World(tmp_path, "true", 3))
    story.step()
    story.backend.tell(1, AttemptState.RUNNING)
    story.step(1)
    story.step(2)  # the first look at what running jobs report
    read: list[Any] = []
    monkeypatch.setattr(generations, "jobs_of", lambda *_: read.append(1) or [])
    assert story.step(3).counts == {"submitted": 2, "running": 1}
    assert read == []
