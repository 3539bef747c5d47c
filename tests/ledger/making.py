"""Workflows, runs and ledgers for tests, made directly from the models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, assign
from airflow_calib_provider.ledger import campaigns, groups, open_groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import (
    FieldType,
    Jobs,
    Lock,
    Need,
    Publish,
    RunSelection,
    RunSource,
    Task,
    Workflow,
)
from tests.postgres.places import is_new, ledger_url, migrated

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Grouping(kind="run", label="run")
SOURCE = RunSource(
    name="daq",
    fields={
        "number": FieldType.INT,
        "start": FieldType.TIME,
        "end": FieldType.TIME,
        "completed": FieldType.BOOL,
        "fill": FieldType.INT,
        "lumi_pb": FieldType.FLOAT,
    },
    kind="csv",
    options={"path": "runs.csv"},
)


def fill(at_least: float = 0.0, **options: Any) -> Grouping:
    minimum = {"lumi_pb": float(at_least)} if at_least else {}
    return Grouping(kind="fill", label="fill", minimum=minimum, **options)


def total(amount: float, **options: Any) -> Grouping:
    return Grouping(kind="sum", label="sum", options={"amounts": {"lumi_pb": float(amount)}}, **options)


def counted(runs: int, **options: Any) -> Grouping:
    return Grouping(kind="count", label="count", options={"runs": runs}, **options)


def nightly(every: float = 24, at: str = "06:00", zone: str = "Europe/Zurich", **options: Any) -> Grouping:
    """:param every: in hours."""
    return Grouping(kind="window", label="window", options={"every": every * 3600, "at": at, "zone": zone}, **options)


def enough(when: str, of: str = "select", **options: Any) -> Grouping:
    return Grouping(kind="until", label="until", options={"task": of, "when": when}, **options)


def task(
    name: str,
    policy: Grouping = RUN,
    *,
    needs: Iterable[str] = (),
    payloads: Iterable[str] = (),
    publish: str = "",
    file: str = "",
    jobs: Jobs | None = None,
    **options: Any,
) -> Task:
    """``needs`` are ``workflow.task@grouping``."""
    parts = [(need.partition("@")[0].split("."), need.partition("@")[2]) for need in needs]
    return Task(
        name=name,
        policy=policy,
        needs=tuple(Need(workflow=names[0], task=names[1], grouping=grouping or None) for names, grouping in parts),
        locks=tuple(Lock(kind="payload", parameters={"tag": tag}) for tag in payloads),
        jobs=None if publish else jobs or Jobs(command=("true",)),
        publish=Publish(tag=publish, file=file) if publish else None,
        **options,
    )


def workflow(name: str, *tasks: Task, text: str = "", file: str = "/nowhere/w.yaml", **selection: Any) -> Workflow:
    selection.setdefault("since", 0)
    text = text or f"{name} {tasks} {selection}"
    return Workflow(
        name=name,
        runs=RunSelection(source="daq", **selection),
        tasks={item.name: item for item in tasks},
        text=text,
        hash=hashlib.sha256(text.encode()).hexdigest(),
        file=file,
    )


def new_ledger(folder: Path) -> Ledger:
    """A ledger of this folder's own, on the database that the test runs on."""
    is_new(folder)
    return migrated(ledger_url(folder))


def facts(number: int, fill_number: Any = 1, lumi: Any = 10.0, *, selected: bool = True) -> RunFacts:
    start = T0 + timedelta(hours=number)
    return RunFacts(number, start, start + timedelta(minutes=50), {"fill": fill_number, "lumi_pb": lumi}, selected)


def write_runs(file: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """A CSV run source; what is left out is made up from the number."""
    names = ["number", "start", "end", "completed", "fill", "lumi_pb"]
    lines = [",".join(names)]
    for run in runs:
        start = T0 + timedelta(hours=run["number"])
        row = {
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=50)).isoformat(),
            "completed": "true",
            "fill": run["number"] // 4,
            "lumi_pb": 20.0,
            **run,
        }
        lines.append(",".join("" if row[name] is None else str(row[name]) for name in names))
    file.write_text("\n".join(lines) + "\n")


def put_runs(
    ledger: Ledger, flow: Workflow, runs: Iterable[RunFacts], campaign: str = "prompt", at: datetime = T0
) -> None:
    """Assign runs to a workflow's groups without a source: as an injection would, in one transaction."""
    runs = list(runs)
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        known = set(connection.execute(select(tables.run.c.number)).scalars())
        recorded = [_recorded(run, at) for run in runs if run.number not in known]
        move(connection, tables.run, recorded)
        for grouping, policy in flow.groupings().items():
            _note_grouping(connection, campaign, flow.name, grouping, max((run.number for run in runs), default=0) + 1)
            forming = open_groups.forming_group(connection, campaign, flow.name, grouping)
            assignment = assign(policy, forming, runs, at)
            groups.store(connection, campaign, flow, assignment.groups, at)
            of_run = {number: draft for draft in assignment.groups for number in draft.added}
            subject = Subject(campaign=campaign, workflow=flow.name)
            moves = [_member(subject, grouping, run, of_run.get(run.number), at) for run in runs]
            move(connection, tables.membership, moves)
            dropped = [draft.id for draft in assignment.groups if draft.state == "dropped" and draft.id]
            groups.drop_members(connection, campaign, flow.name, dropped)


def _recorded(run: RunFacts, at: datetime) -> Move:
    columns = {
        **{"start": run.start, "end": run.end, "completed": True, "fields": dict(run.fields), "files": []},
        **{"recorded_at": at, "completed_at": at, "content_hash": "0" * 64},
    }
    return Move({"source": "daq", "number": run.number}, None, "recorded", Subject(run=run.number), columns)


def _member(of: Subject, grouping: str, run: RunFacts, group: GroupDraft | None, at: datetime) -> Move:
    name = groups.group_name(grouping, group.first_run) if group else None
    record = {**run.fields, "number": run.number, "files": [], "start": None, "end": None}
    return Move(
        {"campaign": of.campaign, "workflow": of.workflow, "grouping": grouping, "run": run.number},
        None,
        "grouped" if group else "not_selected",
        replace(of, run=run.number, group_name=name),
        {"source": "daq", "group_id": group and group.id, "reason": None, "record": record, "assigned_at": at},
    )


def _note_grouping(connection: Connection, campaign: str, name: str, grouping: str, below: int) -> None:
    table = tables.grouping
    key = {"campaign": campaign, "workflow": name, "label": grouping}
    here = [table.c[column] == value for column, value in key.items()]
    if connection.execute(update(table).where(*here).values(assigned_below=below)).rowcount == 0:
        connection.execute(insert(table).values(**key, assigned_below=below, first_seen_at=T0))


def group_ids(ledger: Ledger, grouping: str, flow: str | None = None, campaign: str = "prompt") -> dict[str, int]:
    """Name → id."""
    table = tables.run_group
    query = select(table.c.name, table.c.id).where(table.c.grouping == grouping, table.c.campaign == campaign)
    if flow:
        query = query.where(table.c.workflow == flow)
    with ledger.read() as connection:
        return {row.name: row.id for row in connection.execute(query.order_by(table.c.first_run))}


def set_state(ledger: Ledger, group_id: int, name: str, *states: str) -> None:
    """Move a task of a group through states, without what would bring it there."""
    with ledger.write() as connection:
        for state in states:
            groups.set_task_states(connection, group_id, state, None, T0, task=name)


def done(
    ledger: Ledger, group_id: int, name: str, *jobs: Mapping[str, float], at: datetime = T0, state: str = "done"
) -> None:
    """Give a task of a group a done generation.

    :param jobs: what each has reported.
    """
    from airflow_calib_provider.ledger import generations

    with ledger.write() as connection:
        new = generations.NewGeneration(
            group_id, name, 0, "local", "h", None, "d", [], [], [], {}, 0, 1.0, {}, f"f/{name}/{group_id}", "r", [{}]
        )
        row = generations.by_id(connection, generations.create(connection, new, at))
        values = [
            {"generation_id": row.id, "step": 0, "job_index": index, "name": value, "value": number}
            for index, job in enumerate(jobs)
            for value, number in job.items()
        ]
        if values:
            connection.execute(insert(tables.value), values)
        generations.end(connection, row, state, {"code": state}, at)


def count(ledger: Ledger, table: Any, *where: Any) -> int:
    with ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())
