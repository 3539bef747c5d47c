"""A ledger that has grown for years: injected by the real injection, worked off by statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, cast, func, insert, literal, select, update

from airflow_calib_provider.injection.assigning import InjectionReport
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import schema, tables
from airflow_calib_provider.ledger.column_types import Name
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.loader import load_folder, load_sources

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNFINISHED = 200
"""Runs at the end that nothing was done for yet."""

SOURCES = """apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {start: time, end: time, completed: bool, fill: int, lumi_pb: float, good: bool}
"""
SPEC = """apiVersion: calib/v1
workflow: ecal
runs: {source: daq, since: 1, where: "CONDITION"}
tasks:
  select: {group_by: run, jobs: {command: ["true"]}}
  check: {group_by: run, needs: [select], jobs: {command: ["true"]}}
  monitor: {group_by: run, needs: [select], jobs: {command: ["true"]}}
  fit: {group_by: fill, needs: [select], jobs: {command: ["true"]}, products: {out: out.txt}}
  merge: {group_by: fill, needs: [fit], jobs: {command: ["true"]}}
  deliver: {group_by: fill, needs: [fit], publish: {tag: Fit, file: "{{ tasks.fit.products.out }}", iov: group}}
  align:
    group_by: {sum: {lumi_pb: 1000}}
    needs: [check]
    locks: [{payload: {tag: Fit, covers: group}}]
    jobs: {command: ["true"]}
  refine: {group_by: {sum: {lumi_pb: 1000}}, needs: [align], jobs: {command: ["true"]}}
  closure: {group_by: {sum: {lumi_pb: 1000}}, needs: [refine], jobs: {command: ["true"]}}
"""

ALL = "run.good"
run_group, group_task, generation = tables.run_group, tables.group_task, tables.generation


def good_run_list(runs: int, length: int = 610) -> str:
    """A condition as collaborations write it: a list of so many numbers, among the first of so many runs."""
    step = max(1, runs // length)
    return f"run.good && !(run.number in [{', '.join(str(1 + step * n) for n in range(length))}])"


class Growing:
    """A ledger of a workflow with nine tasks in three groupings.

    :param folder: for the spec and the list of runs.
    :param condition: which runs the workflow takes.
    """

    def __init__(self, ledger: Ledger, folder: Path, condition: str = ALL) -> None:
        self.ledger, self.folder = ledger, folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sources.yaml").write_text(SOURCES)
        (folder / "ecal.yaml").write_text(SPEC.replace("CONDITION", condition))
        (folder / "runs.csv").write_text("number,start,end,completed,fill,lumi_pb,good\n")
        schema.upgrade(ledger)
        self.runs = 0

    def list_runs(self, runs: int) -> None:
        """Let the source list runs up to this number."""
        with (self.folder / "runs.csv").open("a") as stream:
            for number in range(self.runs + 1, runs + 1):
                start = BEGIN + timedelta(minutes=20 * number)
                end = start + timedelta(minutes=19)
                stream.write(f"{number},{start.isoformat()},{end.isoformat()},true,{number // 4},20.5,true\n")
        self.runs = runs

    def inject(self) -> InjectionReport:
        """One injection of what the source lists."""
        workflows, errors = load_folder(self.folder)
        if errors:
            raise SystemExit("\n".join(map(str, errors)))
        report = inject(self.ledger, workflows, load_sources(self.folder / "sources.yaml"), self.folder, now=NOW)
        if report.errors:
            raise SystemExit("\n".join(report.errors))
        return report

    def grow(self, runs: int, unfinished: int = UNFINISHED) -> None:
        """List and inject runs up to this number, and work off all but the last ones."""
        self.list_runs(runs)
        self.inject()
        self.work_off(runs - unfinished)

    def work_off(self, last_run: int) -> None:
        """Let everything be done of the closed groups that end before this run."""
        with self.ledger.write() as connection:
            _work_off(connection, last_run)


def _work_off(connection: Connection, last_run: int) -> None:
    here = (run_group.c.state == "closed", run_group.c.last_run < last_run, group_task.c.state.in_(["new", "waiting"]))
    concerned = group_task.join(run_group, run_group.c.id == group_task.c.group_id)
    newest = connection.execute(select(func.max(generation.c.id))).scalar() or 0
    _fill(
        connection,
        generation,
        {
            "group_id": group_task.c.group_id,
            "task": group_task.c.task,
            "spec_hash": group_task.c.spec_hash,
            "folder": run_group.c.name,
            "started_at": run_group.c.opened_at,
            "ended_at": run_group.c.opened_at,
            **{"n": 1, "state": "done", "max_tries": 8, "backend": "local", "definitions_hash": "0" * 64},
            **{"inputs": [], "runs": [], "excluded_runs": [], "products": {}, "used": {}},
            **{"retries": 2, "quorum": 1.0, "dag_run_id": "prompt__r", "failures": [], "options": {}},
        },
        concerned,
        *here,
        group_task.c.kind == "jobs",
    )
    made = generation.c.id > newest
    numbers = {"step": 0, "attempt": 1, "failures": 0, "losses": 0, "accepted_attempt": 1, "job_index": 0}
    of_job = {"generation_id": generation.c.id, "state": "succeeded", "exit_code": 0, "host": "node1", **numbers}
    _fill(connection, tables.job, {**of_job, "definition": {"command": ["true"]}, "releases": 0}, generation, made)
    of_attempt = {"generation_id": generation.c.id, "step": 0, "job_index": 0, "n": 1, "round": 0}
    _fill(connection, tables.attempt, {**of_attempt, "state": "succeeded", "exit_code": 0}, generation, made)
    key = literal("prompt.flow.task.group.g1.s0.r") + cast(generation.c.id, Name)
    of_round = {"generation_id": generation.c.id, "step": 0, "n": 0, "key": key, "state": "finished", "cursor": "12"}
    _fill(connection, tables.round_, {**of_round, "planned_at": NOW}, generation, made)
    _fill(
        connection,
        tables.payload,
        {
            "task": group_task.c.task,
            **{name: run_group.c[name] for name in ("campaign", "first_run", "last_run", "workflow")},
            **{"group_id": run_group.c.id, "tag": "Fit", "revision": 1, "state": "published"},
            **{"content_hash": "0" * 64, "file_name": "out.txt", "size": 12, "provenance": {}, "published_at": NOW},
        },
        concerned,
        *here,
        group_task.c.kind == "publish",
    )
    finished = select(group_task.c.group_id).select_from(concerned).where(*here)
    _tell_of(connection, concerned, here, finished)
    # They have had their DAG runs.
    connection.execute(update(run_group).where(run_group.c.id.in_(finished)).values(opening=None))
    connection.execute(update(group_task).where(group_task.c.group_id.in_(finished)).values(state="done"))


def _tell_of(connection: Connection, concerned: Any, here: Sequence[Any], finished: Any) -> None:
    """The requests and events that such groups leave."""
    dag_id, run_id = run_group.c.workflow + "__" + run_group.c.grouping, "prompt__" + run_group.c.name
    known = select(tables.dag_run_request.c.group_id)
    times = {"run_after": NOW, "wanted_at": NOW, "not_before": NOW, "opened_at": NOW}
    of_request = {"group_id": run_group.c.id, "dag_id": dag_id, "run_id": run_id, "note": "n", "refusals": 0}
    _fill(
        connection,
        tables.dag_run_request,
        {**of_request, **times, "state": "opened"},
        run_group,
        run_group.c.id.in_(finished),
        run_group.c.id.not_in(known),
    )
    event = {"at": 1, "entity": "group_task", "campaign": run_group.c.campaign, "workflow": run_group.c.workflow}
    of_event = {**event, "task": group_task.c.task, "group_name": run_group.c.name, "data": {}}
    _fill(connection, tables.event, {**of_event, "from_state": "new", "to_state": "done"}, concerned, *here)
    _fill(
        connection,
        tables.event,
        {**of_event, "entity": "generation", "generation": 1, "from_state": "running", "to_state": "done"},
        concerned,
        *here,
    )


def _fill(connection: Connection, table: Table, columns: Mapping[str, Any], source: Any, *where: Any) -> None:
    """Rows from rows, without reading them."""
    chosen = [
        value.label(name) if hasattr(value, "label") else literal(value, table.c[name].type).label(name)
        for name, value in columns.items()
    ]
    query = select(*chosen).select_from(source).where(*where)
    connection.execute(insert(table).from_select(list(columns), query, include_defaults=False))
