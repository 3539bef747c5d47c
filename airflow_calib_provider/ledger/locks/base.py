"""The words that all kinds of locks share, and what each of them does in the ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    null,
    select,
)

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import load
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import IDS, Ids, one_of
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.spec.kinds import lock_kind

lock, membership, group, skip = tables.lock, tables.membership, tables.run_group, tables.skip

SATISFIED = "satisfied"
SKIPPED = "skipped"
NOT_SELECTED = "not_selected"
EXCLUDED = "excluded"
"""The group goes on without the run, as it has failed (rule 49)."""
UNKNOWN = "unknown"
NO_PAYLOAD = "no payload yet"
QUIET = (SATISFIED, SKIPPED, NOT_SELECTED, EXCLUDED)
"""Statuses of runs that hold nothing."""


def parameter(name: str) -> ColumnElement[str]:
    """A parameter of a lock's row, in statements; null where it has none of this name.

    ``workflow``, ``grouping`` and ``task`` name what other task's runs are needed, whatever the kind: what is skipped
    there is skipped here. ``tag`` names a payload's tag.
    """
    found: ColumnElement[str] = lock.c.parameters[name].as_string()
    return found


@dataclass(frozen=True)
class Look:
    """How a wait stands.

    :ivar state: ``open`` (go on), ``waiting``, or ``never`` (it cannot open any more).
    :ivar gone_on: the locks that are shut, and that it goes on without, as their deadlines have passed: what is
        recorded of each (rule 61).
    :ivar starts: positions of locks whose deadlines count from now on, as they are waited for from now on.
    :ivar without: runs without which it is open, each with why.
    """

    state: str
    reason: Reason | None = None
    gone_on: tuple[Mapping[str, Any], ...] = ()
    starts: tuple[int, ...] = ()
    without: Mapping[int, Reason] = field(default_factory=dict)


class Standing(NamedTuple):
    """How a lock stands for one run of the group, for so many, or (without a run) as a whole.

    :ivar what: what is waited for, for people.
    :ivar status: one of :data:`QUIET`, or why it is shut.
    """

    group_id: int
    task: str
    position: int
    kind: str
    what: str
    status: str
    run: int | None
    n: int = 1


class LockedGroup(NamedTuple):
    """What kinds that answer by themselves know of a group.

    :ivar closed_at: ``None``: it takes runs.
    """

    id: int
    campaign: str
    workflow: str
    name: str
    first_run: int
    last_run: int
    start: datetime | None
    end: datetime | None
    closed_at: datetime | None


class LockRow(NamedTuple):
    """A lock's row, for kinds that answer by themselves.

    :ivar text: its parameters, as JSON.
    :ivar limits: its deadline, as JSON; empty: it has none. :ivar choice: as in the ledger.
    :ivar deadline: until when it is waited for, where that counts from when it began to be, or from an amendment.
    """

    group_id: int
    task: str
    position: int
    kind: str
    text: str
    limits: str
    choice: int | None
    deadline: datetime | None
    group: LockedGroup

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What its kind needs to know."""
        found: Mapping[str, Any] = read_json(self.text)
        return found


@lru_cache(4096)
def read_json(text: str) -> Any:
    """What stands in a JSON column: that which many rows have, or which is read again and again, is read once."""
    return json.loads(text)


def lock_rows(connection: Connection, group_ids: Iterable[int], *where: ColumnElement[bool]) -> list[LockRow]:
    """The locks of these groups, with their groups, by two statements.

    :param where: which of them; all conditions must hold.
    """
    ids = sorted(group_ids)
    rows = connection.execute(_LOCKS.where(*where), {"ids": ids}).all()
    of_locks = sorted({row[0] for row in rows})
    found = connection.execute(_GROUPS, {"ids": of_locks}).all() if rows else ()
    groups = {row[0]: LockedGroup._make(row) for row in found}
    return [LockRow._make((*row, groups[row[0]])) for row in rows]


_LOCKS = select(
    lock.c.group_id,
    lock.c.task,
    lock.c.position,
    lock.c.kind,
    cast(lock.c.parameters, String),
    func.coalesce(cast(lock.c.limits, String), ""),
    lock.c.choice,
    lock.c.deadline,
).where(one_of(lock.c.group_id, IDS))

_GROUPS = select(
    group.c.id,
    group.c.campaign,
    group.c.workflow,
    group.c.name,
    func.coalesce(group.c.lowest_run, group.c.first_run),
    group.c.last_run,
    group.c.start,
    group.c.end,
    group.c.closed_at,
).where(one_of(group.c.id, IDS))


class LedgerLock:
    """A kind of lock in the ledger.

    :ivar kind: its name.
    :ivar texts: its statuses, for people.
    :ivar answers: whether all of its locks, or those that :meth:`statement` leaves out, are looked up.
    """

    kind: str
    answers: bool = False
    texts: ClassVar[Mapping[str, str]] = {}

    def statement(self, group_ids: Ids) -> Select[Any] | None:
        """How all of these groups stand: rows as :meth:`per_run` and :meth:`as_a_whole` make them.

        Those of this package are parts of one statement for all that wait. ``None``: it answers in :meth:`look_up`.
        """
        return None

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        """How these stand, all of a kind at once: one statement for all of them, never one for each."""
        raise NotImplementedError

    def failures(self, group_ids: Ids) -> Select[Any]:
        """How the tasks stand of those groups that hold a run which has failed in what is needed.

        Group and task that need, run, and what; and of the group there each task, with its state, since when and why,
        and what it comes after. Of a lock on tasks only.
        """
        raise NotImplementedError

    def look(self, what: str, rows: Sequence[Standing]) -> Look:
        """How one lock stands.

        :param rows: its own; status, run and number stand at the end of each.
        """
        told = tuple([row[5:8] for row in rows])
        return _looked(self, what, told) if len(told) <= _FEW else self._look(what, told)

    def _look(self, what: str, told: Iterable[tuple[str, int | None, int]]) -> Look:
        """How it stands, by statuses with runs and numbers."""
        counts: dict[str, int] = defaultdict(int)
        for status, _, n in told:
            counts[status] += n
        total = sum(counts.values())
        never = self.never(what, counts, total)
        if never is not None:
            return Look("never", never)
        shut = [(run, status) for status, run, _ in told if status not in QUIET]
        if not shut:
            return Look("open")
        wanted = total - counts[SKIPPED] - counts[NOT_SELECTED] - counts[EXCLUDED]
        missing = [[run, self.texts.get(status, status)] for run, status in shut]
        return Look("waiting", self.reason(what, {"done": counts[SATISFIED], "total": wanted, "missing": missing}))

    def lacks_last_good(self, connection: Connection, locks: Sequence[LockRow]) -> set[tuple[int, str, int]]:
        """For which of these locks there is nothing older to be taken when their deadline has passed.

        :returns: group, task and position of each; others of the groups may be among them.
        """
        raise NotImplementedError

    def outside_payloads(
        self, connection: Connection, parameters: Mapping[str, Any], runs: Iterable[int], *, last_good: bool
    ) -> tuple[list[PlacedPayload], list[int]] | None:
        """The payloads of an outside store for these runs, each once, and the runs that none covers.

        :param last_good: of a run that none covers, the last one that begins before it counts.
        :returns: ``None``: what is waited for is not in an outside store.
        """
        return None

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """Why it can never open; ``None`` if it can.

        :param counts: status → number of runs.
        """
        if total == counts.get(SKIPPED, 0) + counts.get(NOT_SELECTED, 0) + counts.get(EXCLUDED, 0):
            return {"code": "all_skipped", "needs": what, "total": total}
        return None

    def reason(self, what: str, standing: Mapping[str, object]) -> Reason:
        """Why it is shut.

        :param standing: ``done`` of ``total``, and ``missing``: runs with what is said of each.
        """
        return {"code": "lock", "lock": self.kind, "what": what, **standing}

    # Building a statement

    def per_run(
        self,
        group_ids: Ids,
        what: ColumnElement[str],
        *statuses: tuple[ColumnElement[bool], object],
        other: object,
    ) -> Select[Any]:
        """A row for each run of the groups with such a lock. The caller joins what its conditions need.

        :param statuses: conditions with the status of a run that meets it; the first that holds.
        :param other: the status of any other run.
        """
        mine = (skipped(group.c.workflow, lock.c.task), SKIPPED)
        return self._rows(group_ids, what, case(mine, *statuses, else_=other), membership.c.run).join(
            membership, and_(membership.c.group_id == group.c.id, membership.c.state == "grouped")
        )

    def as_a_whole(
        self, group_ids: Ids, what: ColumnElement[str], is_open: ColumnElement[bool], other: str
    ) -> Select[Any]:
        """One row for each such lock, whose answer is the same for all runs.

        :param other: the status where it is shut.
        """
        return self._rows(group_ids, what, case((is_open, SATISFIED), else_=other), cast(null(), Integer))

    def _rows(self, group_ids: Ids, what: Any, status: Any, run: Any) -> Select[Any]:
        return (
            select(*_KEY, what.label("what"), status.label("status"), run.label("run"))
            .select_from(lock)
            .join(group, group.c.id == lock.c.group_id)
            .where(lock.c.kind == self.kind, tables.one_of(lock.c.group_id, group_ids))
        )


_FEW = 4
"""Rows of a lock whose look is kept: what nothing has happened to is not thought about again."""


@lru_cache(8192)
def _looked(kind: LedgerLock, what: str, told: tuple[tuple[str, int | None, int], ...]) -> Look:
    return kind._look(what, told)


_KEY: tuple[Column[Any], ...] = (lock.c.group_id, lock.c.task, lock.c.position, lock.c.kind)


def skipped(
    workflow: object, task: object, campaign: object = group.c.campaign, run: object = membership.c.run
) -> ColumnElement[bool]:
    """Whether a person skipped the run, for a task or a whole workflow; part of a statement with group and run."""
    return exists().where(
        skip.c.campaign == campaign,
        skip.c.workflow == workflow,
        skip.c.run == run,
        skip.c.task.in_(["", task]),
    )


def of_no_kind(group_ids: Ids, known: Sequence[str]) -> Select[Any]:
    """Rows of locks that nobody here knows: the package that brought them is gone. They stay shut."""
    return select(
        *_KEY, lock.c.kind.label("what"), literal(UNKNOWN).label("status"), cast(null(), Integer).label("run")
    ).where(lock.c.kind.not_in(known), tables.one_of(lock.c.group_id, group_ids))


def ledger_lock(name: str) -> LedgerLock:
    """A kind of lock by its name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    try:
        found = load(lock_kind(name).loader)
    except ImportError as error:
        raise KindError(f"the lock {name!r} cannot be loaded: {error}", "is its extra installed?") from error
    if not isinstance(found, LedgerLock):
        raise KindError(f"the lock {name!r} is a {type(found).__name__}", "its author is to make it a LedgerLock")
    return found
