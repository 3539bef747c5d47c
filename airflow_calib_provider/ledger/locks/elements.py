"""From how single locks stand to what a task waits for: locks of which one is enough, and deadlines (rules 60, 61)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, or_, select, update

from airflow_calib_provider.domain.locks.deadlines import FAIL, LAST_GOOD, Limits, with_deadline
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import IDS, one_of
from airflow_calib_provider.ledger.locks.apart import in_trouble, one_by_one, said_of, standing_of
from airflow_calib_provider.ledger.locks.base import LedgerLock, LockRow, Look, Standing, lock_rows
from airflow_calib_provider.spec.kinds import lock_kind

lock = tables.lock

Key = tuple[int, str]
_Place = tuple[int, str, int]

_FEW = 20
"""How many of the missing are recorded of a lock that a task goes on without."""


def rows_of_themselves(connection: Connection, group_ids: Iterable[int], answering: Sequence[str]) -> list[LockRow]:
    """The locks that do not simply stand as the statement for all says."""
    return lock_rows(connection, group_ids, _of_themselves(answering))


def is_any_of_itself(answering: Sequence[str]) -> ColumnElement[bool]:
    """Whether there are such locks, in a statement with ``ids``: those who have none are spared another one."""
    return exists().where(one_of(lock.c.group_id, IDS), _of_themselves(answering))


def _of_themselves(answering: Sequence[str]) -> ColumnElement[bool]:
    """They are looked up by their kinds, are one of several of which one is enough, or have a deadline."""
    return or_(lock.c.kind.in_(answering), lock.c.choice.is_not(None), lock.c.limits.is_not(None))


def answered(connection: Connection, rows: Iterable[LockRow], kinds: Mapping[str, LedgerLock]) -> Iterator[Standing]:
    """How the locks stand that their kinds look up, all of a kind at once."""
    of_kind: dict[str, list[LockRow]] = defaultdict(list)
    for row in rows:
        if row.kind in kinds and kinds[row.kind].answers:
            of_kind[row.kind].append(row)
    for name, locks in of_kind.items():
        yield from standing_of(partial(kinds[name].look_up, connection), locks)


@lru_cache(1024)
def _limits(text: str) -> Limits:
    return Limits.of_json(json.loads(text))


class _Element(NamedTuple):
    """What must be open: one lock, or one of several.

    :ivar rows: how each of them is written in the ledger.
    """

    key: Key
    position: int
    rows: list[LockRow]


@dataclass(frozen=True)
class _Overdue:
    """A lock whose deadline has passed while it is shut."""

    element: _Element
    look: Look
    limits: Limits
    due: datetime

    def lock(self) -> LockRow:
        """The first of them."""
        return self.element.rows[0]


class Elements:
    """What tasks wait for.

    :param rows: of the locks that do not simply stand for themselves.
    """

    def __init__(self, connection: Connection, rows: Iterable[LockRow], kinds: Mapping[str, LedgerLock]) -> None:
        self._connection = connection
        self._kinds = kinds
        self._rows: dict[Key, dict[int, LockRow]] = defaultdict(dict)
        for row in rows:
            self._rows[row.group_id, row.task][row.position] = row

    def combined(self, looks: Mapping[Key, Mapping[int, Look]]) -> dict[Key, list[Look]]:
        """How each thing stands that a task waits for, in the order of the spec.

        :param looks: task → position → how the lock stands.
        """
        found: dict[Key, dict[int, Look]] = {}
        limited: list[tuple[_Element, Look]] = []
        for key, of_task in looks.items():
            rows = self._rows.get(key)
            if not rows:
                found[key] = dict(of_task)
                continue
            here = found[key] = {}
            for element in _elements(key, sorted(of_task), rows):
                position, own = element.position, element.rows
                look = of_task[position] if len(own) < 2 else _one_of([of_task[row.position] for row in own])
                here[position] = look
                if look.state == "waiting" and own and any(row.limits for row in own):
                    limited.append((element, look))
        if limited:
            for element, look in self._by_deadline(limited):
                found[element.key][element.position] = look
        return {key: [of_task[position] for position in sorted(of_task)] for key, of_task in found.items()}

    def _by_deadline(self, limited: Sequence[tuple[_Element, Look]]) -> Iterator[tuple[_Element, Look]]:
        """Shut locks as their deadlines let them be."""
        now = datetime.now(UTC)
        overdue: list[_Overdue] = []
        for element, look in limited:
            row = element.rows[0]
            try:
                limits = _limits(row.limits)
            except Exception as error:  # noqa: BLE001 - another version of this package has written them
                yield element, in_trouble(row.kind, said_of(error))
                continue
            due = limits.due(row.group.end, row.group.closed_at, row.deadline)
            if due is None:
                starts = () if row.group.closed_at is None else (row.position,)
                yield element, replace(look, starts=starts)
            elif due > now:
                # What waits has a state and a reason only; a copy would take several times as long.
                yield element, Look(look.state, with_deadline(look.reason, limits, due, now))
            else:
                overdue.append(_Overdue(element, look, limits, due))
        lacking, faults = self._without_last_good([one for one in overdue if one.limits.then == LAST_GOOD])
        for one in overdue:
            if one.lock()[:3] in faults:
                yield one.element, in_trouble(one.lock().kind, faults[one.lock()[:3]])
                continue
            tag = {"tag": one.lock().parameters.get("tag")} if one.element in lacking else {}
            if one.limits.outcome(older=one.element not in lacking) == FAIL:
                was = one.limits.words(one.due)
                yield (
                    one.element,
                    Look("never", {"code": "deadline_passed", "was": was, "reason": one.look.reason, **tag}),
                )
            else:
                yield one.element, Look("open", gone_on=(_record(one),))

    def _without_last_good(self, overdue: Sequence[_Overdue]) -> tuple[list[_Element], Mapping[_Place, str]]:
        """Those for which there is nothing older, and of which that cannot be told, with why."""
        found: list[_Element] = []
        in_doubt: dict[_Place, str] = {}
        for name in {one.lock().kind for one in overdue}:
            of_kind = {one.lock()[:3]: one for one in overdue if one.lock().kind == name}
            rows = [one.lock() for one in of_kind.values()]
            lacks, faults = one_by_one(partial(self._kinds[name].lacks_last_good, self._connection), rows)
            found += [of_kind[place].element for place in lacks if place in of_kind]
            in_doubt |= {fault.lock[:3]: fault.said for fault in faults}
        return found, in_doubt


def _elements(key: Key, positions: Sequence[int], of_task: Mapping[int, LockRow]) -> Iterator[_Element]:
    choices: dict[int, _Element] = {}
    for position in positions:
        row = of_task.get(position)
        if row is None:
            yield _Element(key, position, [])
        elif row.choice is None:
            yield _Element(key, position, [row])
        elif row.choice in choices:
            choices[row.choice].rows.append(row)
        else:
            choices[row.choice] = _Element(key, row.choice, [row])
    yield from choices.values()


def _record(one: _Overdue) -> Mapping[str, Any]:
    """What is recorded of a lock that a task goes on without."""
    row, reason = one.lock(), one.look.reason or {}
    missing = reason.get("missing")
    said: dict[str, Any] = {"lock": row.kind, "what": _what(row.kind, reason)}
    if len(one.element.rows) > 1:
        said = {"lock": "any", "what": ", ".join(sorted({item.kind for item in one.element.rows}))}
    said |= {"then": one.limits.then, "at": one.due.isoformat(), "was": one.limits.words(one.due)}
    if len(one.element.rows) == 1 and "tag" in row.parameters:
        said["tag"] = row.parameters["tag"]
    return {**said, **({"missing": list(missing)[:_FEW]} if isinstance(missing, list) else {})}


def _what(kind: str, reason: Reason) -> str:
    try:
        return lock_kind(kind).what(reason)
    except (KindError, KeyError):
        return ""


def _one_of(looks: Sequence[Look]) -> Look:
    """How several stand of which one is enough."""
    if any(look.state == "open" for look in looks):
        return Look("open")
    waiting = [look.reason for look in looks if look.state == "waiting" and look.reason]
    if not waiting:
        return looks[0]
    return Look("waiting", waiting[0] if len(waiting) == 1 else {"code": "any_of", "reasons": waiting})


def start_clocks(connection: Connection, looks: Mapping[Key, Look], now: datetime) -> None:
    """Let the deadlines count that do so from when the wait began."""
    starting = {(key, position) for key, look in looks.items() for position in look.starts}
    if not starting:
        return
    here = (tables.one_of(lock.c.group_id, {key[0] for key, _ in starting}), lock.c.limits.is_not(None))
    columns = (lock.c.group_id, lock.c.task, lock.c.position, lock.c.limits)
    for row in connection.execute(select(*columns).where(*here, lock.c.deadline.is_(None))).all():
        if ((row.group_id, row.task), row.position) in starting:
            own = (lock.c.group_id == row.group_id, lock.c.task == row.task, lock.c.position == row.position)
            due = now + Limits.of_json(row.limits).at_most
            connection.execute(update(lock).where(*own).values(deadline=due))
