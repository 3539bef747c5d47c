"""One group, one task, a real local backend; also what the processes do that tests start and kill."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.jobsets.advance import GenerationStanding
from airflow_calib_provider.jobsets.begin import Begun, begin
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.openings import OpeningLimits
from airflow_calib_provider.spec.models import Jobs, Split, Task, Workflow
from tests.ledger.making import RUN, facts, group_ids, put_runs, task, workflow
from tests.postgres.places import is_new, ledger_url, migrated
from tests.worlds import WithJobs

__all__ = ["OpeningLimits", "World"]


class World(WithJobs):
    """Everything that a job set needs, under one folder.

    :param script: what a job runs, by ``sh -c``; it may use ``$CALIB_JOB`` and ``$CALIB_ATTEMPT``.
    :param backend: where; this machine by default.
    """

    def __init__(
        self, folder: Path, script: str = "true", n_jobs: int = 1, backend: Backend | None = None, **options: Any
    ) -> None:
        self.folder = folder
        self.flow = self.make(script, n_jobs, **options)
        fresh = is_new(folder)
        self.ledger = migrated(ledger_url(folder))
        if fresh:
            put_runs(self.ledger, self.flow, [facts(1)])
        self.group = group_ids(self.ledger, "run")["run-r1"]
        self.backend: Backend = backend or LocalBackend(folder / "spool", slots=4, grace=0.5)

    def make(self, script: str, n_jobs: int, products: dict[str, str] | None = None, **options: Any) -> Workflow:
        jobs = Jobs(command=("sh", "-c", script), split=Split(count=n_jobs), **{"retries": 0, **options})
        made: Task = task("skim", RUN, jobs=jobs, products=products or {})
        return workflow("ecal", made, file=str(self.folder / "ecal.yaml"))

    def edit(self, script: str, n_jobs: int = 1, **options: Any) -> None:
        self.flow = self.make(script, n_jobs, **options)

    def begin(self, max_tries: int = 0) -> Begun:
        spec = self.flow.tasks["skim"]
        now = datetime.now(UTC)
        return begin(
            self.ledger, self.flow, spec, self.group, max_tries=max_tries, dag_run_id="prompt__run-r1", now=now
        )

    def backend_of(self, name: str) -> Backend:
        return self.backend

    def run(self, max_tries: int = 0) -> GenerationStanding:
        return self.finish(self.begin(max_tries).generation_id)

    def task_state(self) -> str:
        return str(self.rows(tables.group_task)[0].state)


def work(folder: Path, script: str, n_jobs: int) -> None:
    """What a worker does for one task, and its triggerer after it: to be killed anywhere."""
    world = World(folder, script, n_jobs, retries=2, products={"c": "c.txt"})
    begun = world.begin()
    print(world.finish(begun.generation_id).state)


def mark_success(folder: Path) -> None:
    """What housekeeping does where a person has marked a task as success: to be killed anywhere."""
    world = World(folder)
    print(settle(world.ledger, lambda name: world.backend, 1, "success", datetime.now(UTC)))
