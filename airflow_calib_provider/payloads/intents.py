"""What a payload is published to besides the ledger, and the intent to do so, or to take it back (rule 71).

An intent is there before any store is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, or_, select, update

from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.errors import OutsideStoreDown, PayloadError
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.payload_states import FALLBACK, FALLBACK_OF, PUBLISHED, PUBLISHING, UNPUBLISHED
from airflow_calib_provider.ledger.rows import Group, Payload
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.outside.placing import Guard

STORES = "stores"
"""In the provenance: the outside stores that a payload is published to."""

ON_ITS_WAY = "publishing"
"""The code of the reason of a task whose set is on its way."""

REST = "rest"
"""In what is wanted of a store: what is published with it here, and goes to no store."""

DECIDED = "decided"
"""Key of what is wanted of a store: payload → who or what has decided that it is published."""

WITHDRAWAL = "withdrawal"
"""In what is wanted of a store: that it is taken back, by whom, why, and of which payloads."""

WITHDRAWING = "withdrawing"
"""The code of the reason of a payload that is published, and is being taken back from its stores."""


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
    return targets_in(row.provenance)


def targets_in(provenance: Mapping[str, Any]) -> list[Target]:
    """As :func:`targets_of`, of what is to be published."""
    found: Any = provenance.get(STORES, ())
    return [Target(**{**one, "default": tuple(one["default"]) if one["default"] else None}) for one in found]


def goes_there(row: Payload, provenance: Mapping[str, Any]) -> bool:
    """Whether what does not hold yet goes to the stores that are named now; what holds stays as it is."""
    return row.state not in UNPUBLISHED or targets_of(row) == targets_in(provenance)


def intend(
    connection: Connection, group: Group, rows: Sequence[tuple[Payload, Mapping[str, Any]]], now: datetime
) -> str:
    """Let payloads be on their way to their stores, as one set.

    :param rows: all of one task, each with what its event says; what no store gets is published with the others.
    :returns: the key of the set.
    """
    falls_back = any(FALLBACK_OF in row.provenance for row, _ in rows)
    rest = [[row.id, row.state] for row, _ in rows if not targets_of(row)]
    decided = {str(row.id): _decided(row, said) for row, said in rows}
    more = {"fallback": falls_back, DECIDED: decided, **({REST: rest} if rest else {})}
    stores = [(store, {**wanted, **more}) for store, wanted in _wanted(connection, group, [row for row, _ in rows])]
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


def _decided(row: Payload, said: Mapping[str, Any]) -> dict[str, Any]:
    """Who or what has decided that it is published, which is told again once it is."""
    back: Any = row.provenance.get("rollback")
    more = {"rollback": back["of"]} if back else {}
    return {**{name: said[name] for name in ("by", "comment", FALLBACK) if said.get(name)}, **more}


def intend_withdrawal(
    connection: Connection, group: Group, rows: Sequence[Payload], now: datetime, *, person: str, reason: str
) -> str:
    """Let payloads be on their way back from their stores; until they are, they hold.

    :param rows: all that are published of a set.
    :returns: the key of that.
    """
    ids = [row.id for row in rows]
    more = {"person": person, "reason": reason, "payloads": ids}
    stores = [
        (store, {**wanted, "refuse_gaps": False, WITHDRAWAL: more})
        for store, wanted in _wanted(connection, group, rows)
    ]
    key = publications.intend(connection, group, rows[0].task, stores, now)
    told = {"code": WITHDRAWING, "key": key, "stores": [store for store, _ in stores], "person": person, "said": ""}
    note_reason(connection, ids, told)
    return key


def note_reason(connection: Connection, payload_ids: Sequence[int], reason: Reason) -> None:
    """Write down why what is published is still there; that of its stores is told by their events."""
    table = tables.payload
    here = (tables.one_of(table.c.id, payload_ids), table.c.state == PUBLISHED)
    connection.execute(update(table).where(*here).values(reason=reason))


def withdrawal_of(row: Payload) -> str | None:
    """The key of the withdrawal that is on its way; ``None``: there is none."""
    reason = row.reason or {}
    return str(reason["key"]) if row.state == PUBLISHED and reason.get("code") == WITHDRAWING else None


def _wanted(connection: Connection, group: Group, rows: Sequence[Payload]) -> list[tuple[str, dict[str, Any]]]:
    """Each store, in the order of the spec, and what of a set belongs there."""
    by_store: dict[str, list[tuple[Payload, Target]]] = {}
    for row in rows:
        for target in targets_of(row):
            by_store.setdefault(target.store, []).append((row, target))
    found = []
    for store, placed in by_store.items():
        target = placed[0][1]
        safe = _safe_run(connection, group, placed) if target.protect else None
        items = [
            {
                **{"tag": there.tag, "payload": row.id, "from": row.state},
                **{"first_run": row.first_run, "last_run": row.last_run},
                **{"file_name": row.file_name, "hash": row.content_hash, "default": there.default},
            }
            for row, there in placed
        ]
        guard = asdict(Guard(safe, target.protect == "move"))
        more = {"after": target.after, "guard": guard, "refuse_gaps": target.refuse_gaps}
        found.append((store, {"items": items, **more}))
    return found


def refuse_on_its_way(*rows: Payload) -> None:
    """:raises OutsideStoreDown: outside stores are getting one just now, or giving it back: it may not change."""
    for row in rows:
        if withdrawal_of(row) is not None:
            said = f"revision {row.revision} of {row.tag} of {row.group_name} is being taken back from its stores"
            raise OutsideStoreDown(said, f"it is taken further by housekeeping; see `calib payload show {row.tag}`")
        if row.state == PUBLISHING:
            said = f"revision {row.revision} of {row.tag} of {row.group_name} is on its way to its stores"
            raise OutsideStoreDown(said, "it is taken further by housekeeping; `calib explain` says what it waits for")


def refuse_held(row: Payload) -> None:
    """:raises PayloadError: it goes no further for another reason than that its runs came late."""
    if row.reason is not None:
        raise PayloadError(
            f"revision {row.revision} of {row.tag} cannot be published: {render(row.reason)}",
            f"see `calib payload show {row.tag} --revision {row.revision} --group {row.group_name}`",
        )


def _safe_run(connection: Connection, group: Group, placed: Sequence[tuple[Payload, Target]]) -> int | None:
    """Behind the last run that a task has begun with which reads one of these tags, here or there."""
    lock, task, of_group = tables.lock, tables.group_task, tables.run_group
    tag, store = (lock.c.parameters[name].as_string() for name in ("tag", "store"))
    here = store.is_(None) & tag.in_([row.tag for row, _ in placed])
    there = (store == placed[0][1].store) & tag.in_([target.tag for _, target in placed])
    query = (
        select(func.max(of_group.c.last_run))
        .join(lock, lock.c.group_id == of_group.c.id)
        .join(task, (task.c.group_id == lock.c.group_id) & (task.c.task == lock.c.task))
        .where(or_(here, there), task.c.state.in_(("processing", "done")), of_group.c.campaign == group.campaign)
    )
    last = connection.execute(query).scalar()
    return None if last is None else int(last) + 1
