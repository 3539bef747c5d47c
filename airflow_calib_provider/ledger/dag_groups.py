"""Groups without runs: what operators in hand-written DAGs run their jobs for, one group for each DAG run (rule 39)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, insert, select

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.kinds import EACH_RUN
from airflow_calib_provider.ledger import campaigns, groups, tables
from airflow_calib_provider.ledger.openings import wanted
from airflow_calib_provider.ledger.rows import Group, first_row, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move

CAMPAIGN = campaigns.DAGS
"""The campaign of all of them; it takes no runs."""
LABEL = "dag_run"

MAX_NAME = 60
"""Names become parts of one file name, which the file system limits to 255 characters."""

_DOT = "+"
"""Stands for the dots of a task id, which a round's key cannot hold; Airflow's ids never have it."""

group, request, group_task = tables.run_group, tables.dag_run_request, tables.group_task


def task_name(task_id: str) -> str:
    """The name that a task of a hand-written DAG has in the ledger: its id, ``+`` for the dots of task groups.

    :raises ValueError: the id is too long, or has other characters than ASCII letters, digits, ``_``, ``-`` and ``.``.
    """
    if len(task_id) > MAX_NAME or not re.fullmatch(r"[A-Za-z0-9_.-]+", task_id, re.ASCII):
        raise ValueError(f"task_id is {task_id!r}; expected at most {MAX_NAME} ASCII letters, digits, '_', '-' and '.'")
    return task_id.replace(".", _DOT)


def airflow_task_id(name: str) -> str:
    """The inverse of :func:`task_name`; what a spec calls a task has the same id in Airflow."""
    return name.replace(_DOT, ".")


def workflow_name(dag_id: str) -> str:
    """A DAG's id as the name of a workflow: the same where it is one, else made one, with a digest of the id."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", dag_id)
    if not safe[:1].isalpha():
        safe = f"dag_{safe}"
    return _unique(safe, dag_id)


def group_name(run_id: str) -> str:
    """A DAG run's id as the name of a group, in the same way."""
    return _unique(re.sub(r"[^A-Za-z0-9_-]+", "-", run_id), run_id)


def _unique(safe: str, text: str) -> str:
    if safe == text and 0 < len(text) <= MAX_NAME:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: MAX_NAME - 9].rstrip('_-')}_{digest}"


@dataclass(frozen=True)
class Source:
    """The Python file of a DAG, as the ledger remembers it.

    :ivar hash: SHA-256 of the text.
    """

    hash: str
    text: str | None = None


def ensure_group(connection: Connection, dag_id: str, run_id: str, start: datetime | None, now: datetime) -> Group:
    """The group of a DAG run, made if there is none yet.

    :param start: when the DAG run started: the group's start, and the number that stands for its first run.
    :raises LedgerError: a person has a campaign of this name.
    """
    found = group_of_dag_run(connection, dag_id, run_id)
    if found is not None:
        return found
    _ensure_campaign(connection)
    workflow, name = workflow_name(dag_id), group_name(run_id)
    here = {"campaign": CAMPAIGN, "workflow": workflow, "grouping": LABEL}
    number = _free_number(connection, workflow, start or now)
    subject = Subject(campaign=CAMPAIGN, workflow=workflow, group_name=name)
    policy = Grouping(kind=EACH_RUN, label=LABEL)
    columns = {
        "name": name,
        "last_run": number,
        "policy": policy.model_dump(mode="json"),
        "amounts": {},
        "fills": [],
        "start": start,
        "end": None,
        "opened_at": now,
        "closed_at": None,
        "close_reason": None,
    }
    move(connection, group, [Move({**here, "first_run": number}, None, "forming", subject, columns)])
    row = connection.execute(
        select(group).where(*(group.c[key] == value for key, value in here.items()), group.c.first_run == number)
    ).one()
    move(connection, group, [Move({"id": row.id}, "forming", "closed", subject, {"closed_at": now})])
    note_dag_run(connection, row.id, subject, dag_id, run_id, start or now, "of a hand-written DAG", now)
    return groups.group_by_id(connection, row.id)


def group_of_dag_run(connection: Connection, dag_id: str, run_id: str) -> Group | None:
    """The group that a DAG run belongs to; ``None``: to none."""
    query = select_of(Group, group).join(request, request.c.group_id == group.c.id)
    return first_row(connection, query.where(request.c.dag_id == dag_id, request.c.run_id == run_id), Group)


def _ensure_campaign(connection: Connection) -> None:
    table = tables.campaign
    row = connection.execute(select(table).where(table.c.name == CAMPAIGN)).first()
    if row is None:
        campaigns.create(connection, CAMPAIGN, kind=campaigns.DAGS)
    elif row.kind != campaigns.DAGS:
        raise LedgerError(
            f"the campaign {CAMPAIGN} takes runs, but the jobs of hand-written DAGs belong into one of this name",
            "the name is reserved since these jobs exist; use another ledger for one of the two",
        )


def _free_number(connection: Connection, workflow: str, start: datetime) -> int:
    """Microseconds since 1970, or the next number that no group of the workflow has."""
    number = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    here = (group.c.campaign == CAMPAIGN, group.c.workflow == workflow, group.c.grouping == LABEL)
    taken = set(connection.execute(select(group.c.first_run).where(*here, group.c.first_run >= number)).scalars())
    while number in taken:
        number += 1
    return number


def note_dag_run(
    connection: Connection,
    group_id: int,
    subject: Subject,
    dag_id: str,
    run_id: str,
    start: datetime,
    note: str,
    now: datetime,
) -> None:
    """The DAG run is there already: Airflow's scheduler or a person opened it, nobody is asked for it."""
    key = {"group_id": group_id}
    move(connection, request, [wanted(group_id, subject, dag_id, run_id, start, note, now)])
    move(connection, request, [Move(key, "wanted", "claimed", subject, {"claimed_at": now})])
    move(connection, request, [Move(key, "claimed", "opened", subject, {"opened_at": now})])


def ensure_task(connection: Connection, row: Group, name: str, source: Source, now: datetime) -> None:
    """Write the row of a task of such a group, and the text that describes it.

    :param row: the group.
    :param name: as :func:`task_name` gives it.
    """
    if groups.has_task(connection, row.id, name):
        return
    here = select(func.count()).select_from(group_task).where(group_task.c.group_id == row.id)
    columns = {
        "position": connection.execute(here).scalar_one(),
        "kind": "jobs",
        "is_root": True,
        "spec_hash": source.hash,
        "reason": None,
        "since": now,
        "looked_at": None,
    }
    subject = Subject(campaign=row.campaign, workflow=row.workflow, task=name, group_name=row.name)
    move(connection, group_task, [Move({"group_id": row.id, "task": name}, None, "new", subject, columns)])


def note_source(connection: Connection, workflow: str, source: Source, now: datetime) -> None:
    """Keep the text of a DAG's file, once."""
    text = tables.spec_text
    if source.text is None or connection.execute(select(text.c.hash).where(text.c.hash == source.hash)).first():
        return
    values = {"hash": source.hash, "workflow": workflow, "text": source.text, "recorded_at": now}
    connection.execute(insert(text).values(values))
