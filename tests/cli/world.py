"""A small installation without Airflow: specs, a CSV run source, a real SQLite ledger filled through the real code."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.reducer import RetryLimits, reduce
from airflow_calib_provider.injection.inject import InjectionReport
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.folders import attempt_folder, promote
from airflow_calib_provider.ledger import generations, groups, observed, openings, rounds
from airflow_calib_provider.payloads.store import publish
from tests.postgres.places import bring_back, keep, migrated
from tests.worlds import WithSpecs

NOW = datetime.now(UTC).replace(microsecond=0)

SOURCES = """\
apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {start: time, end: time, completed: bool, fill: int, lumi: float}
"""

DEMO = """\
apiVersion: calib/v1
workflow: demo
runs: {source: daq, where: "run.lumi > 0.0", since: 2, settle: 10m}
defaults: {retries: 1}
tasks:
  skim:
    group_by: run
    jobs: {split: {count: 2}, command: [echo, "{{ run.number }}", "{{ job.index }}"]}
  scale:
    group_by: {fill: {at_least: {lumi: 10}, short: drop}}
    needs: [skim]
    jobs: {command: [echo, hello]}
    products: {constants: constants.json}
  deliver:
    group_by: {fill: {at_least: {lumi: 10}, short: drop}}
    needs: [scale]
    publish: {tag: Scale, file: "{{ tasks.scale.products.constants }}", iov: group}
"""

OTHER = """\
apiVersion: calib/v1
workflow: other
runs: {source: daq, where: "run.fill == 99", since: 1}
tasks:
  check:
    group_by: run
    jobs: {command: [echo, "{{ run.number }}"]}
"""

THIRD = """\
apiVersion: calib/v1
workflow: third
runs: {source: daq, since: 1}
tasks:
  laser:
    group_by: run
    locks: [{payload: {tag: Scale, covers: group}}]
    jobs: {command: [echo, "{{ run.number }}"]}
  never:
    group_by: run
    needs: [other.check]
    jobs: {command: [echo, "{{ run.number }}"]}
"""

COLUMNS = ("number", "start", "end", "completed", "fill", "lumi")


def row(
    number: int, fill: Any = 1, lumi: Any = 6.0, completed: bool = True, hours_ago: float | None = None
) -> dict[str, Any]:
    """One run of an hour; higher runs are later."""
    end = NOW - timedelta(hours=50 - number if hours_ago is None else hours_ago)
    start = end - timedelta(hours=1)
    return {
        "number": number,
        "start": start.isoformat(),
        "end": end.isoformat() if completed else "",
        "completed": str(completed).lower(),
        "fill": "" if fill is None else fill,
        "lumi": "" if lumi is None else lumi,
    }


def same_place(factory: pytest.TempPathFactory) -> Path:
    """A folder that is the same for all tests of a process, and empty, so that what one has made can be copied."""
    place = factory.getbasetemp() / "installation"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


class World(WithSpecs):
    """The installation in a folder; ``CALIB_HOME`` must point to ``folder / "calib"``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "workflow_specs"
        self.specs.mkdir()
        for name, text in (("sources", SOURCES), ("demo", DEMO), ("other", OTHER), ("third", THIRD)):
            (self.specs / f"{name}.yaml").write_text(text)
        self.ledger = migrated()

    def once(self, name: str, make: Callable[[World], object]) -> None:
        """Bring an untouched installation into a state: it is made once at this place, and copied after that."""
        kept = self.folder.with_name(f"{self.folder.name}.{self.ledger.url.get_backend_name()}.{name}")
        if kept.is_dir():
            self.ledger.close()
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)
            bring_back(self.ledger, name)
            return
        make(self)
        self.ledger.close()
        keep(self.ledger, name)
        shutil.copytree(self.folder, kept)

    def runs(self, *rows: Mapping[str, Any], file: str = "workflow_specs/runs.csv") -> None:
        """What the source lists from now on."""
        with (self.folder / file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def inject(self, *rows: Mapping[str, Any], limits: openings.OpeningLimits | None = None) -> InjectionReport:
        if rows:
            self.runs(*rows)
        return self.take(NOW, limits=limits)

    def group(self, name: str, workflow: str = "demo", campaign: str = "prompt") -> Any:
        with self.ledger.read() as connection:
            return groups.find_group(connection, campaign, workflow, name)

    def open_dag_runs(self) -> int:
        """What calib_inject does with Airflow."""
        with self.ledger.write() as connection:
            requests = openings.claim(connection, "test", NOW, limit=500)
            for request in requests:
                openings.opened(connection, request.group_id, "test", NOW)
        return len(requests)

    def refuse_dag_runs(self, error: str) -> None:
        with self.ledger.write() as connection:
            for request in openings.claim(connection, "test", NOW, limit=500):
                openings.refused(connection, request.group_id, "test", error, NOW)

    def begin(self, name: str, task: str, max_tries: int = 8) -> int:
        """Start a job set, and submit its first attempts."""
        workflow = self.workflows["demo"]
        group = self.group(name)
        begun = begin(
            self.ledger,
            workflow,
            workflow.tasks[task],
            group.id,
            max_tries=max_tries,
            dag_run_id=f"prompt__{name}",
            now=NOW,
        )
        with self.ledger.write() as connection:
            row = generations.by_id(connection, begun.generation_id)
            rounds.plan(connection, row, NOW)
            for item in rounds.in_states(connection, [row.id], ["planned"]):
                rounds.note_submitted(connection, row, item, NOW)
        return begun.generation_id

    def observe(
        self, generation_id: int, job: int, state: AttemptState, retry_after: float = 600.0, **seen: Any
    ) -> None:
        """The backend says something about the last attempt of a job."""
        with self.ledger.write() as connection:
            row = generations.by_id(connection, generation_id)
            item = rounds.in_states(connection, [row.id], ["submitted"])[-1]
            jobs = {one.job_index: generations.as_job(one) for one in generations.jobs_of(connection, [row.id])}
            before = jobs[job]
            observation = Observation(job, before.attempt, state, NOW, **seen)
            after = reduce(before, observation, RetryLimits(row.retries))
            change = observed.JobChange(before, after, observation, NOW + timedelta(seconds=retry_after))
            assert observed.apply(connection, row, item, [change], f"{item.cursor}x")

    def end(self, generation_id: int, state: str = "done", reason: Mapping[str, Any] | None = None) -> None:
        with self.ledger.write() as connection:
            row = generations.by_id(connection, generation_id)
            said = dict(reason or {"code": "done", "n_jobs": 1, "left_out": []})
            generations.end(connection, row, state, said, NOW)

    def do(self, name: str, task: str) -> int:
        """A job set from its begin to a good end."""
        generation_id = self.begin(name, task)
        with self.ledger.read() as connection:
            jobs = [item.job_index for item in generations.jobs_of(connection, [generation_id])]
            folder = generations.by_id(connection, generation_id).folder
        for job in jobs:
            out = attempt_folder(folder, job, 1) / "out"
            out.mkdir(parents=True)
            (out / "constants.json").write_text('{"scale": 1.01}')
            (out.parent / "stdout").write_text(f"job {job} says\nhello\n")
            (out.parent / "stderr").write_text("a warning\n")
            self.observe(generation_id, job, AttemptState.SUCCEEDED, exit_code=0, host="node1", start=NOW, end=NOW)
            promote(folder, {job: 1})
        self.end(generation_id)
        return generation_id

    def publish(self, name: str, text: str = '{"scale": 1.01}') -> None:
        """The constants of a group under the tag Scale."""
        file = self.folder / "constants.json"
        file.write_text(text)
        group = self.group(name)
        publish(
            self.ledger,
            tag="Scale",
            file=file,
            group_id=group.id,
            task="deliver",
            iov=Iov(group.first_run, group.last_run),
            provenance={"runs": [group.first_run, group.last_run]},
            now=NOW,
        )


def late_fill(world: World) -> None:
    """Fill 2, which is run 3 alone, comes after fill 3 has begun; its constants are made."""
    file = world.specs / "demo.yaml"
    text = file.read_text().replace("group_by: run", "group_by: {run: {late_runs: new_group}}")
    file.write_text(text.replace("short: drop}", "short: drop, late_runs: new_group}"))
    world.inject(row(2, lumi=12.0), row(4, fill=3))
    world.inject(row(2, lumi=12.0), row(3, fill=2, lumi=12.0), row(4, fill=3))
    world.do("run-r3", "skim")
    world.do("fill-r3", "scale")
    world.publish("fill-r3")
