"""What groups and tasks wait for: one statement for all that wait (rules 21–23).

A key is ``(group id, task)``; the task :data:`FORMING` stands for the group itself, until it is closed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    and_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)

from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import UNBEGUN, TaskChange, change_tasks, touch_looked_at
from airflow_calib_provider.ledger.locks.base import QUIET, LedgerLock, LockRow, Look, Standing, ledger_lock, of_no_kind

FORMING = ""
BESIDE = -2
"""In place of a lock's position: a row of another query."""

STOPPED = -3
"""In place of a lock's position: the campaign of the group is cancelled, or its spec fits the DAG no more."""

LOOKED_AT_KEPT = timedelta(seconds=60)
"""How old the time of the last look may become in the ledger: a write for every look would be too many."""

Key = tuple[int, str]

lock, membership, group = tables.lock, tables.membership, tables.run_group


def look(connection: Connection, keys: Iterable[Key]) -> dict[Key, Look]:
    """How each of these waits stands. A task without locks is open.

    :param keys: group ids with task names; unknown ones count as open.
    """
    return look_beside(connection, keys)[0]


def look_beside(
    connection: Connection, keys: Iterable[Key], beside: Select[Any] | None = None, *, brief: bool = False
) -> tuple[dict[Key, Look], list[Any]]:
    """As :func:`look`, with rows of another query in the same statement.

    :param beside: has the columns of :func:`beside_columns`.
    :param brief: only the states are wanted: reasons do not name the runs that are missing.
    :returns: the looks, and the rows of the other query.
    """
    wanted = set(keys)
    if not wanted:
        return {}, []
    ids = [group_id for group_id, _ in wanted]
    kinds = _kinds(connection, ids)
    apart = []
    details: dict[Key, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    forming: dict[Key, Any] = {}
    stopped: dict[int, Look] = {}
    others = {name: kind for name, kind in kinds.items() if name not in LOCKS.own}
    rows: list[Any] = [
        *connection.execute(_standing(ids, kinds, beside, brief)).all(),
        *_of_others(connection, ids, others),
    ]
    for row in rows:
        key = (row.group_id, row.task)
        if row.position == BESIDE:
            apart.append(row)
        elif row.position == STOPPED:
            stopped[row.group_id] = _stopped(row)
        elif key not in wanted:
            continue
        elif row.position < 0:
            forming[key] = row
        else:
            details[key][row.position].append(row)
    result: dict[Key, Look] = {key: Look("open") for key in wanted}
    result.update({key: _look_at_group(row) for key, row in forming.items()})
    for key, locks in details.items():
        result[key] = _combine([_look_at_lock(rows, kinds) for _, rows in sorted(locks.items())])
    result.update({key: stopped[key[0]] for key in result if key[0] in stopped})
    return result, apart


def _stopped(row: Any) -> Look:
    if row.kind == "cancelled":
        return Look("never", {"code": "campaign_cancelled", "campaign": row.what})
    reason = json.loads(row.status) if isinstance(row.status, str) else row.status
    return Look("waiting", reason)


def _of_stopped(group_ids: list[int]) -> Select[Any]:
    """The groups whose campaign is cancelled, or in which their workflow's own spec fits the DAG no more."""
    campaign, grouping = tables.campaign, tables.grouping
    here = and_(
        grouping.c.campaign == group.c.campaign,
        grouping.c.workflow == group.c.workflow,
        grouping.c.label == group.c.grouping,
    )
    return (
        select(
            group.c.id.label("group_id"),
            literal(FORMING).label("task"),
            literal(STOPPED).label("position"),
            campaign.c.state.label("kind"),
            campaign.c.name.label("what"),
            func.coalesce(cast(grouping.c.spec_changed, String), "").label("status"),
            cast(null(), Integer).label("run"),
            literal(1).label("n"),
        )
        .join(campaign, campaign.c.name == group.c.campaign)
        .outerjoin(grouping, here)
        .where(
            tables.one_of(group.c.id, group_ids),
            or_(campaign.c.state == "cancelled", grouping.c.spec_changed.is_not(None)),
        )
    )


def beside_columns(group_id: Any, task: Any, said: Any) -> tuple[ColumnElement[Any], ...]:
    """The columns of a query for :func:`look_beside`: a task, and what is said of it, as ``kind`` of the row."""
    empty = literal("")
    numbers = (cast(null(), Integer).label("run"), literal(1).label("n"))
    named = (task.label("task"), literal(BESIDE).label("position"), said.label("kind"))
    return (group_id.label("group_id"), *named, empty.label("what"), empty.label("status"), *numbers)


def unopened_looks(connection: Connection, groups: Sequence[int]) -> dict[Key, Look]:
    """The looks at all locked tasks of these groups, whose reasons do not name runs."""
    if not groups:
        return {}
    here = tables.one_of(lock.c.group_id, groups)
    rows = connection.execute(select(lock.c.group_id, lock.c.task).where(here).distinct()).all()
    return look_beside(connection, [(row.group_id, row.task) for row in rows], brief=True)[0]


def _standing(
    group_ids: list[int], kinds: Mapping[str, LedgerLock], beside: Select[Any] | None, brief: bool
) -> Select[Any]:
    """Rows as :class:`~airflow_calib_provider.ledger.locks.base.Standing`.

    One per lock and run that is not satisfied, one per lock and other status with a count (or, in brief, any status),
    and one per forming group with position -1.
    """
    parts = [kind.statement(group_ids) for name, kind in kinds.items() if name in LOCKS.own]
    known = [part for part in parts if part is not None]
    standing = union_all(*known, of_no_kind(group_ids, list(kinds))).cte("standing")
    shared = (standing.c.group_id, standing.c.task, standing.c.position, standing.c.kind, standing.c.what)
    quiet = standing.c.status.in_(QUIET)
    counted = (
        select(*shared, standing.c.status, cast(null(), Integer).label("run"), func.count().label("n"))
        .where(*([] if brief else [quiet]))
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
    optional = [part for part in (None if brief else missing, beside) if part is not None]
    union = counted.union_all(forming, _of_stopped(group_ids), *optional).subquery()
    return select(union).order_by(union.c.group_id, union.c.task, union.c.position, union.c.run)


def _kinds(connection: Connection, group_ids: list[int]) -> dict[str, LedgerLock]:
    """The kinds of locks that these groups may have: all of this package, those of others that they do have."""
    names = list(LOCKS.own)
    if len(LOCKS.names()) > len(names):
        others = lock.c.kind.not_in(names)
        query = select(lock.c.kind).where(tables.one_of(lock.c.group_id, group_ids), others).distinct()
        names += connection.execute(query).scalars()
    found = {}
    for name in names:
        try:
            found[name] = ledger_lock(name)
        except KindError:
            continue  # its locks stay shut, and say so
    return found


def _of_others(connection: Connection, group_ids: list[int], kinds: Mapping[str, LedgerLock]) -> Iterator[Standing]:
    """How the locks of other packages stand: one look for each kind, whose trouble is its own."""
    for name, kind in kinds.items():
        here = (lock.c.kind == name, tables.one_of(lock.c.group_id, group_ids))
        query = select(lock.c.group_id, lock.c.task, lock.c.position, lock.c.parameters).where(*here)
        locks = [LockRow(*row) for row in connection.execute(query)]
        if not locks:
            continue
        try:
            with connection.begin_nested():
                statement = kind.statement(group_ids)
                if statement is not None:
                    found = [Standing(*row) for row in connection.execute(statement)]
                else:
                    found = list(kind.look_up(connection, locks))
        except Exception as error:  # noqa: BLE001 - whatever it is: its locks stay shut, and say so
            said = f"cannot be looked at: {type(error).__name__}: {error}"[:500]
            found = [Standing(row.group_id, row.task, row.position, name, "it", said, None) for row in locks]
        yield from found


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
    return policy, amounts


def _look_at_lock(rows: Sequence[Any], kinds: Mapping[str, LedgerLock]) -> Look:
    kind, what = rows[0].kind, rows[0].what
    if kind not in kinds:
        return Look("waiting", {"code": "lock_unknown", "lock": kind})
    return kinds[kind].look(what, rows)


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
    now = datetime.now(UTC)
    with ledger.read() as connection:
        looks = look(connection, keys)
        stored = _stored(connection, keys)
    changes, seen = [], set()
    for key, rows in stored.items():
        here = looks[key]
        target = {"waiting": "waiting", "never": _ended(here), "open": "new"}[here.state]
        for row in rows:
            if row.state in UNBEGUN and (row.state, row.reason) != (target, here.reason):
                changes.append(TaskChange(row.group_id, row.task, target, here.reason))
            elif row.state == "waiting" and (row.looked_at is None or now - row.looked_at > LOOKED_AT_KEPT):
                seen.add(row.group_id)
    if changes or seen:
        with ledger.write() as connection:
            change_tasks(connection, changes, now, only=UNBEGUN)
            touch_looked_at(connection, seen, now)
    return looks


def _ended(look: Look) -> str:
    """What becomes of a task that can never begin: of a cancelled campaign nothing has failed."""
    return "skipped" if look.reason and look.reason.get("code") == "campaign_cancelled" else "failed"


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
