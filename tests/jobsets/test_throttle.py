"""What a campaign lets its job sets submit: a throttle of jobs, a pause, and a cancel that removes what runs."""

from __future__ import annotations

import random
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.errors import BackendError, NotOpen
from airflow_calib_provider.jobsets.advance import GenerationStanding, advance
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.cancelling import finish_cancelled
from airflow_calib_provider.ledger import campaigns, steering, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group
from airflow_calib_provider.spec.models import Jobs, Split, Workflow
from tests import processes
from tests.jobsets.scripted import Scripted, T
from tests.ledger.making import RUN, count, facts, group_ids, new_ledger, put_runs, task, workflow

LATER = T + timedelta(minutes=5)


class Campaign:
    """Groups of one run each, in a campaign of their own, whose job sets have these numbers of jobs."""

    def __init__(self, folder: Path, *n_jobs: int) -> None:
        self.backend = Scripted()
        self.ledger: Ledger = new_ledger(folder)
        with self.ledger.write() as connection:
            campaigns.ensure_prompt(connection)
            campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 1 + len(n_jobs))})
        self.ids = []
        flow = self.flow(1)
        put_runs(self.ledger, flow, [facts(n) for n in range(1, 1 + len(n_jobs))], "again")
        with self.ledger.write() as connection:
            campaigns.note_grouped(connection, "again", T)
        for n, group_id in zip(n_jobs, group_ids(self.ledger, "run", "ecal", "again").values(), strict=True):
            flow = self.flow(n)
            begun = begin(self.ledger, flow, flow.tasks["skim"], group_id, max_tries=0, dag_run_id="d", now=T)
            self.ids.append(begun.generation_id)

    @staticmethod
    def flow(n_jobs: int) -> Workflow:
        return workflow("ecal", task("skim", RUN, jobs=Jobs(command=("true",), split=Split(count=n_jobs), retries=1)))

    def step(self, at: float = 0.0) -> dict[int, GenerationStanding]:
        return advance(self.ledger, lambda name: self.backend, self.ids, T + timedelta(seconds=at), 0.0)

    def submitted(self) -> list[str]:
        return [key.group for key in self.backend.submitted]

    def end(self, group: str, state: AttemptState = AttemptState.SUCCEEDED) -> None:
        (key,) = (key for key in self.backend.submitted if key.group == group)
        for job in self.backend.submitted[key]:
            self.backend.tell(job.index, state, key=key, exit_code=0 if state is AttemptState.SUCCEEDED else 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    return tmp_path


def test_at_most_so_many_jobs_are_submitted(home: Path) -> None:
    story = Campaign(home, 4, 4, 4)
    steering.alter(story.ledger, "again", steering.Changes(max_jobs=9))
    story.step()
    assert story.submitted() == ["run-r1", "run-r2"]
    with story.ledger.read() as connection:
        found = explain_group(connection, Scope("again", now=LATER), "run-r3").causes
    (told,) = [cause for cause in found if cause.code == "jobs_throttled"]
    assert (told.reason["jobs"], told.reason["submitted"], told.reason["max_jobs"]) == (4, 8, 9)
    assert "`calib campaign set again --max-jobs 18`" in told.release
    story.end("run-r1")
    story.step(1)
    story.step(2)
    assert story.submitted() == ["run-r1", "run-r2", "run-r3"]


def test_a_round_that_is_larger_than_the_throttle_goes_alone_and_has_its_turn(home: Path) -> None:
    story = Campaign(home, 2, 12, 1)
    steering.alter(story.ledger, "again", steering.Changes(max_jobs=5))
    story.step()
    assert story.submitted() == ["run-r1"], "what comes behind the large one does not pass it by"
    story.end("run-r1")
    story.step(1)
    story.step(2)
    assert story.submitted() == ["run-r1", "run-r2"]
    story.end("run-r2")
    story.step(3)
    story.step(4)
    assert story.submitted() == ["run-r1", "run-r2", "run-r3"]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_ends_when_it_is_never_exceeded_and_everything_has_its_turn(home: Path, seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice([1, 1, 2, 3, 5, 9]) for _ in range(10)]
    story = Campaign(home, *sizes)
    steering.alter(story.ledger, "again", steering.Changes(max_jobs=5))
    of_group = {f"run-r{n}": size for n, size in enumerate(sizes, 1)}
    ended: set[str] = set()
    for at in range(60):
        story.step(at)
        live = [group for group in story.submitted() if group not in ended]
        assert sum(of_group[group] for group in live) <= 5 or len(live) == 1, live
        if len(ended) == len(sizes):
            break
        if live and chance.random() < 0.8:
            ended.add(over := chance.choice(live))
            story.end(over)
    assert story.submitted() == list(of_group), "the oldest first"
    assert {standing.state for standing in story.step(100).values()} == {"done"}


def test_what_is_in_trouble_holds_nobody_back(home: Path) -> None:
    story = Campaign(home, 1, 12, 1)
    steering.alter(story.ledger, "again", steering.Changes(max_jobs=5))
    story.step()
    assert story.submitted() == ["run-r1"]
    with story.ledger.write() as connection:
        table = tables.generation
        connection.execute(table.update().where(table.c.id == story.ids[1]).values(trouble="the schedd is silent"))
    story.step(1)
    assert story.submitted() == ["run-r1", "run-r3"]


def test_a_pause_submits_no_new_round_and_lets_run_what_runs(home: Path) -> None:
    story = Campaign(home, 2)
    story.step()
    steering.pause(story.ledger, "again", T)
    before = count(story.ledger, tables.round_)
    story.end("run-r1", AttemptState.FAILED)
    for at in range(1, 4):
        story.step(at)
    assert count(story.ledger, tables.round_) == before == 1
    assert count(story.ledger, tables.job, tables.job.c.state == "waiting") == 2
    steering.resume(story.ledger, "again", T)
    story.step(10)
    assert count(story.ledger, tables.round_) == 2
    (last,) = (key for key in story.backend.submitted if key.round == 1)
    for index in (0, 1):
        story.backend.tell(index, AttemptState.SUCCEEDED, key=last, exit_code=0)
    story.step(11)
    assert story.step(12)[story.ids[0]].state == "done"


def test_a_cancel_removes_the_jobs(home: Path) -> None:
    story = Campaign(home, 2, 2)
    story.step()
    story.end("run-r1")
    story.step(1)
    steering.cancel(story.ledger, "again", LATER, person="ada")
    standings = story.step(2)
    assert {one: standing.state for one, standing in standings.items()} == dict(
        zip(story.ids, ["done", "failed"], strict=True)
    )
    assert standings[story.ids[1]].reason == {"code": "campaign_cancelled", "campaign": "again"}
    assert story.backend.asked == [["remove", 0, None]]
    flow = story.flow(2)
    group_id = group_ids(story.ledger, "run", "ecal", "again")["run-r2"]
    with pytest.raises(NotOpen, match="cancelled"):
        begin(story.ledger, flow, flow.tasks["skim"], group_id, max_tries=1, dag_run_id="d", now=LATER)


def test_what_cannot_be_removed_yet_is_not_submitted(home: Path) -> None:
    story = Campaign(home, 2)
    story.backend.silent = "the schedd is silent"
    with pytest.raises(BackendError):
        story.step()
    assert count(story.ledger, tables.round_, tables.round_.c.state == "planned") == 1
    steering.cancel(story.ledger, "again", LATER)
    with pytest.raises(BackendError):
        story.step(1)
    assert count(story.ledger, tables.generation, tables.generation.c.state == "running") == 1
    story.backend.silent = ""
    story.step(2)
    assert story.submitted() == []
    assert count(story.ledger, tables.generation, tables.generation.c.state == "failed") == 1


def test_housekeeping_ends_what_nobody_watches(home: Path) -> None:
    story = Campaign(home, 2, 2)
    story.step()
    steering.cancel(story.ledger, "again", LATER)
    story.backend.silent = "the schedd is silent"
    done = finish_cancelled(story.ledger, lambda name: story.backend, LATER)
    assert done.errors == ["the schedd is silent"] * 2
    story.backend.silent = ""
    done = finish_cancelled(story.ledger, lambda name: story.backend, LATER)
    assert len(done.job_sets) == 2
    assert count(story.ledger, tables.generation, tables.generation.c.state == "failed") == 2
    assert not finish_cancelled(story.ledger, lambda name: story.backend, LATER).job_sets


def cancel_and_end(folder: str) -> None:
    """In a process that dies: cancels, and ends the jobs as a watcher does."""
    ledger = new_ledger(Path(folder))
    backend = Scripted()
    steering.cancel(ledger, "again", LATER)
    finish_cancelled(ledger, lambda name: backend, LATER)


@pytest.mark.parametrize("point", ["cancel.after_part", "cancel.before_remove", "cancel.after_remove"])
def test_dying_in_a_cancel(point: str, home: Path, tmp_path: Path) -> None:
    story = Campaign(home, 2, 2)
    story.step()
    marks = tmp_path / "marks"
    marks.mkdir()
    crash = {"CALIB_HOME": str(home), "CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    dead = processes.run(cancel_and_end, str(home), **crash)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert steering.cancel(story.ledger, "again", LATER).state == "cancelled"
    standings = story.step(2)
    assert {standing.state for standing in standings.values()} == {"failed"}
    assert count(story.ledger, tables.group_task, tables.group_task.c.state.in_(["new", "waiting", "processing"])) == 0
    assert count(story.ledger, tables.event, (tables.event.c.to_state == "cancelled")) == 1
