"""What a payload is published to besides the ledger, and the intent to do so, before any store is asked (rule 71)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, or_, select

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import PayloadError, PayloadStoreDown
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.payload_states import FALLBACK_OF, PUBLISHING
from airflow_calib_provider.ledger.rows import Group, Payload
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.outside.placing import Guard

STORES = "stores"
"""In the provenance: the outside stores that a payload is published to."""

ON_ITS_WAY = "publishing"
"""The code of the reason of a task whose set is on its way."""


@dataclass(frozen=True)
class Target:
    """An outside store, and how a payload is published there.

    :ivar store: as ``kind:place``.
    :ivar tag: under which it is there.
    :ivar after: what holds behind the last run.
    :ivar default: file name and hash of what does, with ``default``; it is kept in the embedded store.
    :ivar refuse_gaps: an interval that does not join the one before is refused.
    :ivar protect: whether what was processed is protected: ``refuse`` what would change it, or ``move`` the start.
    """

    store: str
    tag: str
    after: Literal["hold", "default", "next"] = "next"
    default: tuple[str, str] | None = None
    refuse_gaps: bool = False
    protect: Literal["", "refuse", "move"] = ""

    def as_dict(self) -> dict[str, Any]:
        """As the provenance has it."""
        return asdict(self)


def targets_of(row: Payload) -> list[Target]:
    """Where a payload is published besides the ledger, as was said when it was made."""
    found: Any = row.provenance.get(STORES, ())
    return [Target(**{**one, "default": tuple(one["default"]) if one["default"] else None}) for one in found]


def intend(
    connection: Connection, group: Group, rows: Sequence[tuple[Payload, Mapping[str, Any]]], now: datetime
) -> str:
    """Let payloads be on their way to their stores, as one set.

    :param rows: all of one task and with the same stores, each with what its event says.
    :returns: the key of the set.
    """
    falls_back = any(FALLBACK_OF in row.provenance for row, _ in rows)
    stores = []
    for position, target in enumerate(targets_of(rows[0][0])):
        safe = _safe_run(connection, group, [row.tag for row, _ in rows], target) if target.protect else None
        items = [
            {
                **{"tag": targets_of(row)[position].tag, "payload": row.id, "from": row.state},
                **{"first_run": row.first_run, "last_run": row.last_run},
                **{"file_name": row.file_name, "hash": row.content_hash},
                "default": targets_of(row)[position].default,
            }
            for row, _ in rows
        ]
        guard = asdict(Guard(safe, target.protect == "move"))
        more = {"after": target.after, "guard": guard, "refuse_gaps": target.refuse_gaps, "fallback": falls_back}
        stores.append((target.store, {"items": items, **more}))
    task = rows[0][0].task
    key = publications.intend(connection, group, task, stores, now)
    for row, said in rows:
        subject = Subject(row.campaign, row.workflow, row.task, row.group_name)
        columns = {"reason": None, "remind_at": None}
        data = {**said, "publication": key}
        move(connection, tables.payload, [Move({"id": row.id}, row.state, PUBLISHING, subject, columns, data)])
    if falls_back:  # the task goes on towards the group's own
        return key
    reason = {"code": ON_ITS_WAY, "key": key, "stores": [store for store, _ in stores], "said": ""}
    set_task_states(connection, group.id, "processing", reason, now, task=task)
    return key


def refuse_on_its_way(*rows: Payload) -> None:
    """:raises PayloadStoreDown: outside stores are getting one just now: neither it nor what follows it may change."""
    for row in rows:
        if row.state == PUBLISHING:
            said = f"revision {row.revision} of {row.tag} of {row.group_name} is on its way to its stores"
            raise PayloadStoreDown(said, "it is taken further by housekeeping; `calib explain` says what it waits for")


def refuse_held(row: Payload) -> None:
    """:raises PayloadError: it goes no further for another reason than that its runs came late."""
    if row.reason is not None:
        raise PayloadError(
            f"revision {row.revision} of {row.tag} cannot be published: {render(row.reason)}",
            f"see `calib payload show {row.tag} --revision {row.revision} --group {row.group_name}`",
        )


def _safe_run(connection: Connection, group: Group, tags: Sequence[str], target: Target) -> int | None:
    """Behind the last run that a task has begun with which reads one of these tags, here or there."""
    lock, task, of_group = tables.lock, tables.group_task, tables.run_group
    tag, store = (lock.c.parameters[name].as_string() for name in ("tag", "store"))
    here = store.is_(None) & tag.in_(tags)
    there = (store == target.store) & (tag == target.tag)
    query = (
        select(func.max(of_group.c.last_run))
        .join(lock, lock.c.group_id == of_group.c.id)
        .join(task, (task.c.group_id == lock.c.group_id) & (task.c.task == lock.c.task))
        .where(or_(here, there), task.c.state.in_(("processing", "done")), of_group.c.campaign == group.campaign)
    )
    last = connection.execute(query).scalar()
    return None if last is None else int(last) + 1
