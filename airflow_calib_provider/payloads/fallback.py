"""The payload before a group holds for its runs when its own is not published in time (rule 71)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, exists, func, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.quantities import format_time
from airflow_calib_provider.errors import PayloadError
from airflow_calib_provider.ledger import publication_deadlines, publications, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.payload_states import CANDIDATE, FALLBACK, FALLBACK_OF, PUBLISHED, PUBLISHING
from airflow_calib_provider.ledger.payload_states import fell_back as is_fallback
from airflow_calib_provider.ledger.rows import Group, Payload, first_row, read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, insert_one
from airflow_calib_provider.payloads import life, store
from airflow_calib_provider.payloads.publication import carry_out

payload, deadline, group_task, run_group = (
    tables.payload,
    tables.publication_deadline,
    tables.group_task,
    tables.run_group,
)

_OF_GROUP = ("edition", "amendments", "failed_runs", "rollback", store.EXTENDS, FALLBACK_OF)
"""In a provenance: what is of the group alone, and not of what the content was made from."""


def fall_back(ledger: Ledger, clock: Callable[[], datetime], most: int = 100) -> list[str]:
    """Publish the payloads before those groups whose deadline has passed and that have none of their own.

    :returns: what was said of those that could not be, or are not whole.
    """
    with ledger.read() as connection:
        due = connection.execute(_due().limit(most)).all()
    said = []
    for row in due:
        try:
            _fall_back(ledger, row.group_id, row.task, clock)
        except PayloadError as error:
            said.append(f"{row.task} of {row.name} has no fallback yet: {error.message}")
    return said


def _fall_back(ledger: Ledger, group_id: int, task: str, clock: Callable[[], datetime]) -> None:
    crash_point("fallback.before_commit", task)
    now = clock()
    with ledger.write() as connection:
        here = (deadline.c.group_id == group_id, deadline.c.task == task)
        passed = connection.execute(_due().where(*here)).first()
        if passed is None:
            return
        group = group_by_id(connection, group_id)
        formers = _before(connection, group, task)
        if not formers:
            raise PayloadError("nothing is published before it", "publish it")
        why = f"it was to be published by {format_time(passed.due)}"
        made = [_made(connection, group, former, why, now) for former in formers]
        store.make_all_valid(connection, group, made, now, fallback=why)
    crash_point("fallback.after_commit", task)
    with ledger.read() as connection:
        keys = publications.on_their_way(connection, group_id, task)
    for key in keys:
        if not carry_out(ledger, key, clock):
            raise PayloadError("a store has refused it", "its own is published as if nothing had been")


def _due() -> Select[Any]:
    """Deadlines that have passed, of groups that have neither published nor fallen back, once."""
    of = (payload.c.group_id == deadline.c.group_id, payload.c.task == deadline.c.task)
    has_own = exists().where(*of, payload.c.state.in_((PUBLISHED, PUBLISHING)))
    has_fallback = exists().where(*of, is_fallback(payload.c.id))
    here = (group_task.c.group_id == deadline.c.group_id) & (group_task.c.task == deadline.c.task)
    return (
        select(deadline.c.group_id, deadline.c.task, deadline.c.due, run_group.c.name)
        .join(run_group, run_group.c.id == deadline.c.group_id)
        .join(group_task, here)
        .where(
            deadline.c.state == publication_deadlines.PASSED,
            deadline.c.then == publication_deadlines.FALLBACK,
            run_group.c.state == "closed",
            group_task.c.state != "skipped",
            ~has_own,
            ~has_fallback,
        )
        .order_by(run_group.c.first_run)
    )


def _before(connection: Connection, group: Group, task: str) -> list[Payload]:
    """What the task has published for the group that is last before, of this campaign: all of its tags."""
    of_task = (payload.c.campaign == group.campaign, payload.c.workflow == group.workflow, payload.c.task == task)
    query = store.with_group().where(*of_task, payload.c.state == PUBLISHED)
    first = first_row(
        connection,
        query.where(payload.c.first_run < group.span[0]).order_by(payload.c.first_run.desc()).limit(1),
        Payload,
    )
    if first is None:
        return []
    return read_rows(connection, query.where(payload.c.group_id == first.group_id).order_by(payload.c.id), Payload)


def _made(connection: Connection, group: Group, former: Payload, why: str, now: datetime) -> Payload:
    """A revision with the former content, on its way."""
    iov = Iov(*group.span)
    here = (payload.c.campaign == group.campaign, payload.c.tag == former.tag, payload.c.group_id == group.id)
    number = connection.execute(select(func.coalesce(func.max(payload.c.revision), 0)).where(*here)).scalar_one() + 1
    runs = {"first_run": former.first_run, "last_run": former.last_run}
    said = {"group": former.group_name, "revision": former.revision, **runs, "why": why}
    kept = {name: value for name, value in former.provenance.items() if name not in _OF_GROUP}
    key = {"campaign": group.campaign, "tag": former.tag, "group_id": group.id, "task": former.task}
    columns = {
        **{"first_run": iov.first, "last_run": iov.last, "content_hash": former.content_hash, "size": former.size},
        **{"file_name": former.file_name, "workflow": group.workflow, "published_at": now, "superseded_at": None},
        "provenance": {**kept, "group": group.name, FALLBACK_OF: said},
    }
    subject = Subject(group.campaign, group.workflow, former.task, group.name)
    event = {**store.said(former.tag, iov, number, former.content_hash, former.size), FALLBACK: why}
    move = Move({**key, "revision": number}, None, CANDIDATE, subject, columns, event)
    made = life.by_id(connection, insert_one(connection, payload, move))
    life.decide(connection, made, life.PayloadDecision(FALLBACK, "done", comment=why, details=said), now)
    return made
