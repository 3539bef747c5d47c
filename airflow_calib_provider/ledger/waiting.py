"""What groups and tasks wait for: one statement for all that wait (rules 21–23).

A key is ``(group id, task)``; the task :data:`FORMING` stands for the group itself, until it is closed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Integer, Select, String, and_, case, cast, exists, func, literal, null, or_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import UNBEGUN, TaskChange, change_tasks, touch_looked_at
from airflow_calib_provider.ledger.transitions import now

FORMING = ""
LOOKED_AT_KEPT = timedelta(seconds=60)
"""How old the time of the last look may become in the ledger: a write for every look would be too many."""

Key = tuple[int, str]

lock, membership, group, skip = tables.lock, tables.membership, tables.run_group, tables.skip
generation, payload, campaign = tables.generation, tables.payload, tables.campaign

SATISFIED = "satisfied"
SKIPPED = "skipped"
NOT_SELECTED = "not_selected"


@dataclass(frozen=True)
class Look:
    """How a wait stands.

    :ivar state: ``open`` (go on), ``waiting``, or ``never`` (it cannot open any more).
    """

    state: str
    reason: Reason | None = None


def look(connection: Connection, keys: Iterable[Key]) -> dict[Key, Look]:
    """How each of these waits stands. A task without locks is open.

    :param keys: group ids with task names; unknown ones count as open.
    """
    wanted = set(keys)
    if not wanted:
        return {}
    statement = _standing([group_id for group_id, _ in wanted])
    details: dict[Key, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    forming: dict[Key, Any] = {}
    for row in connection.execute(statement).all():
        key = (row.group_id, row.task)
        if key not in wanted:
            continue
        if row.position < 0:
            forming[key] = row
        else:
            details[key][row.position].append(row)
    result: dict[Key, Look] = {key: Look("open") for key in wanted}
    for key, row in forming.items():
        result[key] = _look_at_group(row)
    for key, locks in details.items():
        result[key] = _combine([_look_at_lock(rows) for _, rows in sorted(locks.items())])
    return result


def unopened_looks(connection: Connection, groups: Sequence[int]) -> dict[Key, Look]:
    """The looks at all locked tasks of these groups."""
    if not groups:
        return {}
    here = tables.one_of(lock.c.group_id, groups)
    rows = connection.execute(select(lock.c.group_id, lock.c.task).where(here).distinct()).all()
    return look(connection, [(row.group_id, row.task) for row in rows])


def _standing(group_ids: list[int]) -> Select[Any]:
    """Rows (group_id, task, position, kind, what, status, run, count): one per lock and run that is not satisfied, one
    per lock and other status with a count, and one per forming group with position -1."""
    standing = _task_locks(group_ids).union_all(_payload_locks(group_ids)).cte("standing")
    shared = (standing.c.group_id, standing.c.task, standing.c.position, standing.c.kind, standing.c.what)
    quiet = standing.c.status.in_([SATISFIED, SKIPPED, NOT_SELECTED])
    counted = (
        select(*shared, standing.c.status, cast(null(), Integer).label("run"), func.count().label("n"))
        .where(quiet)
        .group_by(*shared, standing.c.status)
    )
    missing = select(*shared, standing.c.status, standing.c.run, literal(1).label("n")).where(~quiet)
    members = (
        select(func.count())
        .where(membership.c.group_id == group.c.id, membership.c.state == "grouped")
        .scalar_subquery()
    )
    forming = select(
        group.c.id.label("group_id"),
        literal(FORMING).label("task"),
        literal(-1).label("position"),
        group.c.state.label("kind"),
        cast(group.c.policy, String).label("what"),
        cast(group.c.amounts, String).label("status"),
        cast(null(), Integer).label("run"),
        members.label("n"),
    ).where(tables.one_of(group.c.id, group_ids), group.c.state != "closed")
    union = counted.union_all(missing, forming).subquery()
    return select(union).order_by(union.c.group_id, union.c.task, union.c.position, union.c.run)


def _task_locks(group_ids: list[int]) -> Select[Any]:
    other = membership.alias("other")
    latest = (
        select(tables.group_task.c.state)
        .where(tables.group_task.c.group_id == other.c.group_id, tables.group_task.c.task == lock.c.needs_task)
        .scalar_subquery()
    )
    done = or_(
        exists().where(
            generation.c.group_id == other.c.group_id,
            generation.c.task == lock.c.needs_task,
            generation.c.state == "done",
        ),
        exists().where(payload.c.group_id == other.c.group_id, payload.c.task == lock.c.needs_task),
    )
    status = case(
        (_skipped(lock.c.needs_workflow, lock.c.needs_task), SKIPPED),
        (_skipped(group.c.workflow, lock.c.task), SKIPPED),
        (other.c.run.is_(None), "not_assigned"),
        (other.c.state == "dropped", SKIPPED),
        (other.c.state != "grouped", other.c.state),
        (done, SATISFIED),
        else_=func.coalesce(latest, "new"),
    )
    return (
        select(
            lock.c.group_id,
            lock.c.task,
            lock.c.position,
            lock.c.kind,
            (lock.c.needs_workflow + "." + lock.c.needs_task).label("what"),
            status.label("status"),
            membership.c.run,
        )
        .select_from(lock)
        .join(group, group.c.id == lock.c.group_id)
        .join(membership, and_(membership.c.group_id == group.c.id, membership.c.state == "grouped"))
        .outerjoin(
            other,
            and_(
                other.c.campaign == group.c.campaign,
                other.c.workflow == lock.c.needs_workflow,
                other.c.grouping == lock.c.needs_grouping,
                other.c.run == membership.c.run,
            ),
        )
        .where(lock.c.kind == "task", tables.one_of(lock.c.group_id, group_ids))
    )


def _payload_locks(group_ids: list[int]) -> Select[Any]:
    covered = exists().where(
        payload.c.tag == lock.c.tag,
        payload.c.state == "published",
        or_(payload.c.campaign == group.c.campaign, payload.c.campaign == campaign.c.base_campaign),
        payload.c.first_run <= membership.c.run,
        payload.c.last_run >= membership.c.run,
    )
    status = case(
        (_skipped(group.c.workflow, lock.c.task), SKIPPED),
        (covered, SATISFIED),
        else_="not_published",
    )
    return (
        select(
            lock.c.group_id,
            lock.c.task,
            lock.c.position,
            lock.c.kind,
            lock.c.tag.label("what"),
            status.label("status"),
            membership.c.run,
        )
        .select_from(lock)
        .join(group, group.c.id == lock.c.group_id)
        .join(campaign, campaign.c.name == group.c.campaign)
        .join(membership, and_(membership.c.group_id == group.c.id, membership.c.state == "grouped"))
        .where(lock.c.kind == "payload", tables.one_of(lock.c.group_id, group_ids))
    )


def _skipped(workflow: Any, task: Any) -> Any:
    return exists().where(
        skip.c.campaign == group.c.campaign,
        skip.c.workflow == workflow,
        skip.c.run == membership.c.run,
        skip.c.task.in_(["", task]),
    )


def _look_at_group(row: Any) -> Look:
    if row.kind == "dropped":
        return Look("never", {"code": "dropped"})
    policy, amounts = _group_columns(row)
    return Look(
        "waiting",
        {
            "code": "forming",
            "kind": policy["kind"],
            "n_runs": row.n,
            "amounts": amounts,
            "minimum": policy.get("minimum", {}),
        },
    )


def _group_columns(row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    policy = json.loads(row.what) if isinstance(row.what, str) else row.what
    amounts = json.loads(row.status) if isinstance(row.status, str) else row.status
    return json.loads(policy["json"]), amounts


STATUS_TEXTS = {
    "not_assigned": "not yet assigned to a group there",
    "not_published": "no payload yet",
    "new": "not started",
    "waiting": "waiting",
    "processing": "running",
    "failed": "failed",
    "late": "late there: in no group",
    "refused": "refused there",
}


def _look_at_lock(rows: Sequence[Any]) -> Look:
    kind, what = rows[0].kind, rows[0].what
    counts: dict[str, int] = defaultdict(int)
    missing = []
    for row in rows:
        counts[row.status] += row.n
        if row.run is not None:
            missing.append([row.run, STATUS_TEXTS.get(row.status, row.status)])
    total = sum(counts.values())
    if kind == "task" and counts[NOT_SELECTED] == total:
        return Look("never", {"code": "needs_selected_none", "needs": what, "total": total})
    wanted = total - counts[SKIPPED] - counts[NOT_SELECTED]
    if not wanted:
        return Look("never", {"code": "all_skipped", "needs": what, "total": total})
    if not missing:
        return Look("open")
    params = {"done": counts[SATISFIED], "total": wanted, "missing": missing}
    if kind == "task":
        return Look("waiting", {"code": "needs", "needs": what, **params})
    return Look("waiting", {"code": "payload", "tag": what, **params})


def _combine(looks: Sequence[Look]) -> Look:
    for state in ("never", "waiting"):
        reasons = [item.reason for item in looks if item.state == state and item.reason]
        if reasons:
            return Look(state, reasons[0] if len(reasons) == 1 else {"code": "several", "reasons": reasons})
    return Look("open")


def look_and_record(ledger: Ledger, keys: Sequence[Key]) -> dict[Key, Look]:
    """Look at all of these waits, and store what changed: the state and the reason of each task that waits.

    A forming group's reason is stored with the tasks that begin it. That somebody looked is stored once a minute.
    """
    at = now()
    with ledger.read() as connection:
        looks = look(connection, keys)
        stored = _stored(connection, keys)
    changes, seen = [], set()
    for key, rows in stored.items():
        here = looks[key]
        target = {"waiting": "waiting", "never": "failed", "open": "new"}[here.state]
        for row in rows:
            if row.state in UNBEGUN and (row.state, row.reason) != (target, here.reason):
                changes.append(TaskChange(row.group_id, row.task, target, here.reason))
            elif row.state == "waiting" and (row.looked_at is None or at - row.looked_at > LOOKED_AT_KEPT):
                seen.add(row.group_id)
    if changes or seen:
        with ledger.write() as connection:
            change_tasks(connection, changes, at, only=UNBEGUN)
            touch_looked_at(connection, seen, at)
    return looks


def _stored(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Any]]:
    table = tables.group_task
    rows = connection.execute(select(table).where(tables.one_of(table.c.group_id, {key[0] for key in keys}))).all()
    result: dict[Key, list[Any]] = {key: [] for key in keys}
    for row in rows:
        if (row.group_id, row.task) in result:
            result[row.group_id, row.task].append(row)
        if (row.group_id, FORMING) in result and row.is_root:
            result[row.group_id, FORMING].append(row)
    return result
