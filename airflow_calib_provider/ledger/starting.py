"""Whether a task may start, asked in the transaction that starts it (rule 21).

Airflow starts a task when those before it are a success there. That is no proof: a person may have marked a sensor, or
a job set, as success while runs are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, literal, select, union_all

from airflow_calib_provider.domain.reasons import RELEASES, Reason, render
from airflow_calib_provider.errors import NotOpen
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.waiting import FORMING, look

generation, payload, group_task = tables.generation, tables.payload, tables.group_task


def require_open(connection: Connection, group_id: int, task: str, before: Iterable[str] = ()) -> None:
    """Refuse to start a task whose group is not closed, whose locks are not all open, or that comes before its turn.

    :param before: the tasks of its own DAG that it needs.
    :raises NotOpen: with everything that it waits for.
    """
    found = look(connection, [(group_id, FORMING), (group_id, task)])
    closed = [item for item in found.values() if item.state != "open" and item.reason]
    reasons = [dict(item.reason or {}) for item in closed]
    if pending := _not_done(connection, group_id, list(before)):
        reasons.append({"code": "upstream_not_done", "tasks": pending})
    if reasons:
        raise not_open(reasons)


def not_open(reasons: Sequence[Reason]) -> NotOpen:
    """The error of a task that was started though these reasons hold it."""
    inner = reasons[0] if len(reasons) == 1 else {"code": "several", "reasons": reasons}
    reason = {"code": "not_open", "reason": inner}
    return NotOpen(render(reason), RELEASES["not_open"], reason)


def _not_done(connection: Connection, group_id: int, tasks: list[str]) -> list[list[str]]:
    """Those that have neither a done generation nor a publication, each with its state."""
    if not tasks:
        return []
    rows = connection.execute(
        union_all(
            select(generation.c.task, literal("done").label("state")).where(
                generation.c.group_id == group_id, generation.c.task.in_(tasks), generation.c.state == "done"
            ),
            select(payload.c.task, literal("done")).where(payload.c.group_id == group_id, payload.c.task.in_(tasks)),
            select(group_task.c.task, group_task.c.state).where(
                group_task.c.group_id == group_id, group_task.c.task.in_(tasks), group_task.c.state != "done"
            ),
        )
    ).all()
    done = {row.task for row in rows if row.state == "done"}
    states = {row.task: row.state for row in rows if row.state != "done"}
    return [[name, states.get(name, "new")] for name in tasks if name not in done]
