"""A workflow that makes constants, validates them and publishes them, with real jobs on this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.spec.loader import load_workflow
from airflow_calib_provider.spec.models import Workflow
from tests.ledger.making import facts, group_ids, put_runs
from tests.worlds import WithJobs

SPEC = """
apiVersion: calib/v1
workflow: ecal
runs: {source: daq, since: 1}
tasks:
  scale:
    group_by: run
    jobs: {command: [sh, -c, 'cp "$HERE/constants" "$CALIB_OUT/c.txt"'], environment: {HERE: FOLDER}, retries: 0}
    products: {constants: c.txt}
  validate:
    needs: [scale]
    jobs:
      command: [sh, -c, 'test -s "$0" && cat "$HERE/report" >> "$CALIB_REPORT"', "{{ tasks.scale.products.constants }}"]
      environment: {HERE: FOLDER}
      retries: 0
    verdict: {closure: {target: 1, within: 0.2%}, jump: {below: 0.05}}
  deliver:
    needs: [scale, validate]
    publish: {tag: Scale, file: "{{ tasks.scale.products.constants }}", validated_by: validate, APPROVE}
"""
SOURCES = """
apiVersion: calib/v1
sources: {daq: {csv: {path: runs.csv}}}
approvers: {conveners: [ada, bob]}
"""
GOOD = {"closure": 1.0005, "jump": 0.01}
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Living(WithJobs):
    """Two runs, each a group.

    :param approve: what stands under ``publish`` besides.
    """

    def __init__(self, folder: Path, ledger: Ledger, approve: str = "") -> None:
        self.folder, self.ledger = folder, ledger
        (folder / "sources.yaml").write_text(SOURCES)
        self.backend: Backend = LocalBackend(folder / "spool", slots=2, grace=0.5)
        self.now = NOW
        self.tries = 0
        self.flow = self.edited(approve)
        put_runs(ledger, self.flow, [facts(1), facts(2)])
        with ledger.write() as connection:  # as it was recorded with the groups
            connection.execute(update(tables.run).values(start=None, end=None))
        self.group = group_ids(ledger, "run")["run-r1"]

    def edited(self, approve: str = "", **replaced: str) -> Workflow:
        """The workflow, as it is after an edit of its file."""
        text = SPEC.replace(", APPROVE", f", {approve}" if approve else "").replace("FOLDER", str(self.folder))
        for before, after in replaced.items():
            text = text.replace(f"{before}: {{below: 0.05}}", f"{before}: {after}")
        (self.folder / "ecal.yaml").write_text(text)
        self.flow = load_workflow(self.folder / "ecal.yaml")
        return self.flow

    def backend_of(self, name: str) -> Backend:
        return self.backend

    def jobs(self, name: str) -> None:
        """Run the jobs of a task; again is another generation."""
        started = begin(
            self.ledger,
            self.flow,
            self.flow.tasks[name],
            self.group,
            max_tries=self.tries,
            dag_run_id="r",
            now=self.now,
        )
        assert self.finish(started.generation_id).state == "done"

    def make(self, constants: str = "1", **values: Any) -> None:
        """Make constants and look at them; what is given is reported instead of what is good."""
        self.tries += 1
        (self.folder / "constants").write_text(constants)
        self.jobs("scale")
        self.look(**values)

    def look(self, **values: Any) -> None:
        """Validate."""
        said = {name: value for name, value in {**GOOD, **values}.items() if value is not None}
        lines = [f'{{"type": "value", "name": "{name}", "value": {value}}}\n' for name, value in said.items()]
        (self.folder / "report").write_text("".join(lines))
        self.jobs("validate")

    def publish(self) -> Published:
        """What the publishing task does, in an hour from the last time."""
        self.now += timedelta(hours=1)
        return publish_group(self.ledger, self.flow, self.flow.tasks["deliver"], self.group, now=self.now)

    def payloads(self) -> list[Payload]:
        """All revisions."""
        with self.ledger.read() as connection:
            return store.listed(connection, "prompt", "Scale", history=True)

    def task(self) -> Any:
        """The publishing task's row."""
        of = tables.group_task
        with self.ledger.read() as connection:
            return connection.execute(select(of).where(of.c.group_id == self.group, of.c.task == "deliver")).one()

    def told(self) -> list[tuple[str | None, str]]:
        """The moves of payloads."""
        event = tables.event
        with self.ledger.read() as connection:
            rows = connection.execute(select(event).where(event.c.entity == "payload").order_by(event.c.id)).all()
        return [(row.from_state, row.to_state) for row in rows]
