"""Does what Airflow does in the tutorial: injects, runs real jobs on the local backend, publishes; no Airflow."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import generations, openings, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import FORMING, look_and_record
from tests.worlds import WithSpecs

PATIENCE = 120.0
ALL_AT_ONCE = openings.OpeningLimits(starting=1000)
"""Nothing of ``prompt`` has to be started meanwhile."""


class StandIn(WithSpecs):
    """Airflow's part, for the workflows of a folder.

    :param specs: folder of the YAML files.
    """

    def __init__(self, specs: Path) -> None:
        self.specs = specs
        self.ledger = Ledger()
        self._max_tries: dict[tuple[int, str], int] = {}

    def inject(self) -> None:
        """calib_inject, then all that becomes possible, until everything waits or has ended."""
        self.take()
        self.work()

    def clear(self, name: str) -> None:
        """What `calib retry` has Airflow do: the failed tasks of a group get more tries."""
        group, task = tables.run_group, tables.group_task
        query = select(group.c.id, task.c.task).join(task, task.c.group_id == group.c.id)
        with self.ledger.read() as connection:
            rows = connection.execute(query.where(group.c.name == name, task.c.state == "failed")).all()
        assert rows, f"no task of {name} has failed"
        for row in rows:
            key = (row.id, row.task)
            self._max_tries[key] = self._max_tries.get(key, 8) + 9
        self.work()

    def work(self) -> None:
        """Open DAG runs and run every task that may run."""
        end = time.monotonic() + PATIENCE
        while self._step():
            assert time.monotonic() < end, "the tutorial's jobs do not end"

    def _step(self) -> bool:
        with self.ledger.write() as connection:
            openings.plan(connection, _now(), ALL_AT_ONCE)
            for request in openings.claim(connection, "stand-in", _now()):
                openings.opened(connection, request.group_id, "stand-in", _now())
        ready = [row for row in self._tasks() if self._may_run(row)]
        if not ready:
            return False
        running = [begun for row in ready if (begun := self._execute(row)) is not None]
        end = time.monotonic() + PATIENCE
        while running:
            standings = advance(self.ledger, get_backend, running, _now(), base_delay=0.0)
            running = [number for number, standing in standings.items() if standing.state == "running"]
            assert time.monotonic() < end, "the tutorial's jobs do not end"
            time.sleep(0.05)
        return True

    def _tasks(self) -> list[Any]:
        group, task, request = tables.run_group, tables.group_task, tables.dag_run_request
        columns = (group.c.id, group.c.name, group.c.workflow, group.c.state.label("group_state"), task.c.task)
        query = (
            select(*columns, task.c.state, request.c.run_id)
            .join(task, task.c.group_id == group.c.id)
            .join(request, request.c.group_id == group.c.id)
            .order_by(group.c.id, task.c.position)
        )
        with self.ledger.read() as connection:
            return list(connection.execute(query).all())

    def _may_run(self, row: Any) -> bool:
        if row.state not in ("new", "waiting", "failed") or (row.state == "failed" and not self._was_cleared(row)):
            return False
        key = (row.id, row.task if row.group_state == "closed" else FORMING)
        if look_and_record(self.ledger, [key])[key].state != "open":
            return False
        states = {other.task: other.state for other in self._tasks() if other.id == row.id}
        workflow = self.workflows[row.workflow]
        before = [need.task for need in workflow.inside_needs(workflow.tasks[row.task])]
        # Of a campaign that begins in the middle some are not there.
        return all(states.get(name, "done") == "done" for name in before)

    def _was_cleared(self, row: Any) -> bool:
        with self.ledger.read() as connection:
            latest = generations.latest(connection, row.id, row.task)
        return latest is not None and latest.max_tries != self._max_tries.get((row.id, row.task), 8)

    def _execute(self, row: Any) -> int | None:
        workflow = self.workflows[row.workflow]
        task = workflow.tasks[row.task]
        if task.publish is not None:
            publish_group(self.ledger, workflow, task, row.id, now=_now())
            return None
        tries = self._max_tries.get((row.id, row.task), 8)
        begun = begin(self.ledger, workflow, task, row.id, max_tries=tries, dag_run_id=row.run_id, now=_now())
        return begun.generation_id


def _now() -> datetime:
    return datetime.now(UTC)
