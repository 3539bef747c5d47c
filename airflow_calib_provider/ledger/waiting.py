"""What groups and tasks wait for: one statement for all that wait (rules 21–23).

A key is ``(group id, task)``; the task :data:`FORMING` stands for the group itself, until it is closed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    cast,
    literal,
    null,
    select,
)

from airflow_calib_provider.domain.grouping import rules_of
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.alarms import note_near
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.exclusions import Excluding, decisions, policy_of, standing_without
from airflow_calib_provider.ledger.groups import UNBEGUN, TaskChange, change_tasks, touch_looked_at
from airflow_calib_provider.ledger.ids import IDS, one_of
from airflow_calib_provider.ledger.locks.apart import look_of, said_of, shut, standing_of
from airflow_calib_provider.ledger.locks.base import (
    LedgerLock,
    LockRow,
    Look,
    Standing,
    ledger_lock,
    lock_rows,
    read_json,
)
from airflow_calib_provider.ledger.locks.elements import (
    Elements,
    answered,
    rows_of_themselves,
    start_clocks,
)
from airflow_calib_provider.ledger.standing import (
    BESIDE,
    ENDLESS,
    EXCLUDING,
    LEFT_OUT,
    OF_ITSELF,
    STOPPED,
    answering,
    standing_of_all,
    statement_beside,
)
from airflow_calib_provider.ledger.standing import (
    FORMING as FORMING,
)

LOOKED_AT_KEPT = timedelta(seconds=60)
"""How old the time of the last look may become in the ledger: a write for every look would be too many."""

Key = tuple[int, str]

lock, membership, group = tables.lock, tables.membership, tables.run_group


def look(connection: Connection, keys: Iterable[Key], now: datetime | None = None) -> dict[Key, Look]:
    """How each of these waits stands. A task without locks is open.

    :param keys: group ids with task names; unknown ones count as open.
    :param now: otherwise the present.
    """
    return look_beside(connection, keys, now=now)[0]


def look_beside(
    connection: Connection,
    keys: Iterable[Key],
    beside: Select[Any] | None = None,
    *,
    brief: bool = False,
    now: datetime | None = None,
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
    excluding: dict[int, Excluding] = {}
    left_out: dict[Key, list[int]] = defaultdict(list)
    statement = standing_of_all(tuple(kinds), brief) if beside is None else statement_beside(kinds, beside, brief)
    rows, themselves = _standing(connection, wanted, kinds, statement)
    for row in rows:  # thousands, in which to look a column up by its place takes a fifth of the time
        key, position = (row[0], row[1]), row[2]
        if position >= 0:
            if key in wanted:
                details[key][position].append(row)
        elif position == BESIDE:
            apart.append(row)
        elif position == STOPPED:
            stopped[row.group_id] = _stopped(row)
        elif position == EXCLUDING:
            excluding[row.group_id] = _excluding(row)
        elif position == LEFT_OUT:
            left_out[key].append(row.run)
        elif key in wanted and position != OF_ITSELF:
            forming[key] = row
    result: dict[Key, Look] = {key: Look("open") for key in wanted}
    result.update({key: _look_at_group(row) for key, row in forming.items()})
    elements = Elements(connection, themselves, kinds)
    result.update(_look_at_tasks(details, elements, kinds))
    result.update(_without_failed(connection, excluding, details, result, elements, kinds, brief, now))
    result.update(
        {
            key: Look("waiting", {"code": "all_left_out", "runs": runs})
            for key, runs in left_out.items()
            if key in result and result[key].state == "open"
        }
    )
    result.update({key: stopped[key[0]] for key in result if key[0] in stopped})
    return result, apart


def lock_looks(connection: Connection, group_id: int, tasks: Collection[str]) -> dict[tuple[str, int], Look]:
    """How each single lock of a group's tasks stands, whatever else is enough, and whatever its deadline.

    :returns: by task and position.
    """
    kinds = _kinds(connection, [group_id])
    rows, _ = _standing(
        connection, {(group_id, name) for name in tasks}, kinds, standing_of_all(tuple(kinds), brief=False)
    )
    details: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for row in rows:
        if row[1] in tasks and row[2] >= 0:
            details[row[1], row[2]].append(row)
    return {place: _look_at_lock(of_lock, kinds) for place, of_lock in details.items()}


def _standing(
    connection: Connection, wanted: Collection[Key], kinds: Mapping[str, LedgerLock], statement: Select[Any]
) -> tuple[list[Any], list[LockRow]]:
    """How all locks of the groups of these tasks stand; those of the tasks that do not simply stand for themselves."""
    ids = [group_id for group_id, _ in wanted]
    rows: list[Any] = list(connection.execute(statement, {"ids": sorted(set(ids))}).all())
    themselves = []
    if any(row[2] == OF_ITSELF for row in rows):
        found = rows_of_themselves(connection, set(ids), answering(kinds))
        themselves = [row for row in found if row[:2] in wanted]
    rows += answered(connection, themselves, kinds)
    rows += _of_others(connection, ids, {name: kind for name, kind in kinds.items() if name not in LOCKS.own})
    return rows, themselves


def _excluding(row: Any) -> Excluding:
    policy = policy_of(json.loads(row.what) if isinstance(row.what, str) else row.what)
    assert policy is not None
    return Excluding(policy, row.n)


def _look_at_tasks(
    details: Mapping[Key, Mapping[int, Sequence[Any]]], elements: Elements, kinds: Mapping[str, LedgerLock]
) -> dict[Key, Look]:
    looks = {
        key: {position: _look_at_lock(rows, kinds) for position, rows in locks.items()}
        for key, locks in details.items()
    }
    return {key: _combine(of_task) for key, of_task in elements.combined(looks).items()}


def _without_failed(
    connection: Connection,
    groups: Mapping[int, Excluding],
    details: Mapping[Key, Mapping[int, Sequence[Any]]],
    looks: Mapping[Key, Look],
    elements: Elements,
    kinds: Mapping[str, LedgerLock],
    brief: bool,
    now: datetime | None,
) -> dict[Key, Look]:
    """The looks at what waits for runs that have failed, where the group may go on without them (rule 49)."""
    shut = [key for key in details if key[0] in groups and looks[key].state != "open"]
    if not shut:
        return {}
    found = decisions(connection, {key[0]: groups[key[0]] for key in shut}, now or datetime.now(UTC))
    if brief:
        # Rows that only count do not tell which run they are about.
        again = [key for key in shut if key in found and found[key].excluded]
        return look(connection, again, now) if again else {}
    result: dict[Key, Look] = {}
    for new in (True, False):
        unseen = [key for key in shut if key in found and key not in result]
        left = {key: found[key].excluded if new else found[key].recorded for key in unseen}
        standing = {key: standing_without(details[key], some, found[key].waits) for key, some in left.items()}
        for key, seen in _look_at_tasks(standing, elements, kinds).items():
            if seen.state != "never":  # nobody is left out if nothing is left then
                result[key] = replace(seen, without=left[key]) if seen.state == "open" else seen
    return result


def _stopped(row: Any) -> Look:
    if row.kind == "cancelled":
        return Look("never", {"code": "campaign_cancelled", "campaign": row.what})
    reason = json.loads(row.status) if isinstance(row.status, str) else row.status
    return Look("waiting", reason)


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
        locks = lock_rows(connection, group_ids, lock.c.kind == name)
        if not locks:
            continue
        try:
            with connection.begin_nested():
                statement = kind.statement(group_ids)
                if statement is not None:
                    found = [Standing(*row) for row in connection.execute(statement)]
                else:
                    found = standing_of(partial(kind.look_up, connection), locks)
        except Exception as error:  # noqa: BLE001 - whatever it is: its locks stay shut, and say so
            found = [shut(row, said_of(error)) for row in locks]
        yield from found


def _look_at_group(row: Any) -> Look:
    policy, amounts = _group_columns(row)
    if row.kind == "dropped":
        return Look("never", amounts if amounts and amounts["code"] == "absorbed" else {"code": "dropped"})
    return Look(
        "waiting",
        {
            "code": "forming",
            "kind": policy["kind"],
            "n_runs": row.n,
            "amounts": amounts,
            "minimum": {**policy.get("minimum", {}), **policy.get("options", {}).get("amounts", {})},
            **({"options": options} if (options := _told(policy)) else {}),
            **({"endless": True} if row.run == ENDLESS and _waits_from_end(policy) else {}),
        },
    )


def _waits_from_end(policy: Mapping[str, Any]) -> bool:
    """Whether the group is to be closed so long after an end, which there has to be."""
    try:
        return bool(policy.get("max_wait")) and rules_of(policy["kind"]).waits_from_end
    except KindError:
        return False


def _told(policy: Mapping[str, Any]) -> dict[str, Any]:
    """What a kind's words need of its options: no lists, which may be long."""
    return {name: value for name, value in policy.get("options", {}).items() if not isinstance(value, list | dict)}


def _group_columns(row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    policy = json.loads(row.what) if isinstance(row.what, str) else row.what
    amounts = json.loads(row.status) if isinstance(row.status, str) else row.status
    return policy, amounts  # in place of which a dropped one has why


def _look_at_lock(rows: Sequence[Any], kinds: Mapping[str, LedgerLock]) -> Look:
    kind = rows[0][3]
    if kind not in kinds:
        return Look("waiting", {"code": "lock_unknown", "lock": kind})
    return look_of(kinds[kind], rows)


def _combine(looks: Sequence[Look]) -> Look:
    starts = tuple(position for item in looks for position in item.starts)
    for state in ("never", "waiting"):
        reasons = [item.reason for item in looks if item.state == state and item.reason]
        if reasons:
            reason = reasons[0] if len(reasons) == 1 else {"code": "several", "reasons": reasons}
            return Look(state, reason, starts=starts)
    return Look("open", gone_on=tuple(one for item in looks for one in item.gone_on))


def look_and_record(ledger: Ledger, keys: Sequence[Key]) -> dict[Key, Look]:
    """Look at all of these waits, and store what changed: the state and the reason of each task that waits.

    A forming group's reason is stored with the tasks that begin it. That somebody looked is stored once a minute.
    """
    now = datetime.now(UTC)
    with ledger.read() as connection:
        looks = look(connection, keys, now)
        stored = _stored(connection, keys)
    changes, seen = [], set()
    for key, rows in stored.items():
        here = looks[key]
        target = {"waiting": "waiting", "never": _ended(here), "open": "new"}[here.state]
        for row in rows:
            if row.state in UNBEGUN and _is_other(row, target, here.reason):
                changes.append(TaskChange(row.group_id, row.task, target, here.reason))
            elif row.state == "waiting" and (row.looked_at is None or now - row.looked_at > LOOKED_AT_KEPT):
                seen.add(row.group_id)
    if changes or seen or any(look.starts for look in looks.values()):
        with ledger.write() as connection:
            start_clocks(connection, looks, now)
            change_tasks(connection, changes, now, only=UNBEGUN)
            note_near(connection, changes, now)
            touch_looked_at(connection, seen, now)
    return looks


def _is_other(row: Any, target: str, reason: Reason | None) -> bool:
    """Whether what is stored of a task is not what is seen."""
    return row.state != target or (read_json(row.reason) if row.reason is not None else None) != reason


def _ended(look: Look) -> str:
    """What becomes of a task that can never begin: as a person, or its spec, wants it nothing has failed."""
    return "skipped" if look.reason and look.reason.get("code") in ("campaign_cancelled", "absorbed") else "failed"


def _stored(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Any]]:
    rows = connection.execute(_STORED, {"ids": sorted({key[0] for key in keys})}).all()
    result: dict[Key, list[Any]] = {key: [] for key in keys}
    for row in rows:
        if (row.group_id, row.task) in result:
            result[row.group_id, row.task].append(row)
        if (row.group_id, FORMING) in result and row.is_root:
            result[row.group_id, FORMING].append(row)
    return result


_STORED = select(
    tables.group_task.c.group_id,
    tables.group_task.c.task,
    tables.group_task.c.is_root,
    tables.group_task.c.state,
    cast(tables.group_task.c.reason, String).label("reason"),
    tables.group_task.c.looked_at,
).where(one_of(tables.group_task.c.group_id, IDS))
