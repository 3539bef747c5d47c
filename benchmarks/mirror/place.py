"""A ledger with many groups, and jobs whose states change."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.ledger import generations, rounds, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.mirror.target import InfluxTarget
from tests.ledger.making import facts, group_ids, new_ledger, put_runs, task, workflow
from tests.mirror.conftest import settings

FLOW = workflow("ecal", task("skim"))


def target_of(server: Any) -> InfluxTarget:
    """The present database of a server, written through influxdb-client in both versions."""
    values = settings(server)
    if server.major == 1:
        values |= {"bucket": f"{server.database}/autogen", "database": ""}
    return InfluxTarget.from_mapping(values)


class Place:
    """A ledger with one running generation of many jobs."""

    def __init__(self, folder: Path, jobs: int) -> None:
        folder.mkdir(parents=True)
        self.ledger: Ledger = new_ledger(folder)
        put_runs(self.ledger, FLOW, [facts(1)])
        group = group_ids(self.ledger, "run")["run-r1"]
        new = generations.NewGeneration(
            group, "skim", 0, "local", "h", None, "d", [], [], [], {}, 0, 1.0, {}, "f", "r", [{}] * jobs
        )
        with self.ledger.write() as connection:
            self.row = generations.by_id(connection, generations.create(connection, new, datetime.now(UTC)))
            rounds.plan(connection, self.row, datetime.now(UTC))

    def toggle(self, connection: Any, first: int, count: int, source: str, target: str) -> None:
        """Move jobs between two states, as the watcher does."""
        subject = Subject.of_generation(self.row)
        data = {"host": "node17.example.org", "memory": 1_234_567_890, "exit_code": 0}
        move(
            connection,
            tables.job,
            [
                Move(
                    {"generation_id": self.row.id, "step": 0, "job_index": index},
                    source,
                    target,
                    Subject(**{**vars(subject), "job_index": index, "attempt": 1}),
                    {"host": "node17.example.org"},
                    data,
                )
                for index in range(first, first + count)
            ],
        )


def as_json(target: InfluxTarget) -> str:
    """A target for another process."""
    values = target.model_dump()
    for name in ("token", "password"):
        values[name] = values[name].get_secret_value()
    return json.dumps(values)
