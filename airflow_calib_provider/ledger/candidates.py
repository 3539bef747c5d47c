"""Tasks that wait for a publication of their own group, which stays a candidate until a person publishes it (rule 50).

In a DAG the publishing task has succeeded, and so the task after it is started. It waits then as for the task of
another grouping.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from airflow_calib_provider.domain.reasons import Reason, parts_of
from airflow_calib_provider.kinds import NEEDS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import ledger_lock
from airflow_calib_provider.ledger.payload_states import CANDIDATE, ONLY_A_CANDIDATE
from airflow_calib_provider.ledger.rows import Group

lock = tables.lock

NEEDED = "needs"
"""The code of the reason of a lock on a task."""


def awaited(reason: Reason) -> list[str]:
    """The tasks whose candidates alone keep a task from starting, as :func:`~.starting.require_open` says it.

    :param reason: of what is not open; nothing, if anything else holds it, too.
    """
    names: list[str] = []
    said_of_them = (ONLY_A_CANDIDATE, ledger_lock(NEEDS).texts[CANDIDATE])
    for part in parts_of(reason) or [reason]:
        own = _pairs(part, "tasks") if part.get("code") == "upstream_not_done" else []
        locked = _pairs(part, "missing") if part.get("code") == NEEDED else []
        if not own + locked or any(said not in said_of_them for _, said in own + locked):
            return []
        names += [str(name) for name, _ in own]
    return names


def _pairs(reason: Reason, name: str) -> list[tuple[object, object]]:
    found = reason.get(name)
    return [(what, said) for what, said in found] if isinstance(found, list) else []


def hold(connection: Connection, group: Group, task: str, names: Sequence[str]) -> None:
    """Give a task a lock on each of these tasks of its own group. Doing it again changes nothing."""
    known = connection.execute(
        select(lock.c.position, lock.c.kind, lock.c.parameters).where(lock.c.group_id == group.id, lock.c.task == task)
    ).all()
    held = [row.parameters for row in known if row.kind == NEEDS]
    wanted = [{"workflow": group.workflow, "grouping": group.grouping, "task": name} for name in names]
    first = max((row.position for row in known), default=-1) + 1
    new = [parameters for parameters in wanted if parameters not in held]
    for position, parameters in enumerate(new, first):
        values = {"group_id": group.id, "task": task, "position": position, "kind": NEEDS, "parameters": parameters}
        connection.execute(insert(lock).values(**values, deadline=None))
