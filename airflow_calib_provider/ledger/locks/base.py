"""The words that all kinds of locks share, and what each of them does in the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    case,
    cast,
    exists,
    literal,
    null,
    select,
)

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import load
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.spec.kinds import lock_kind

lock, membership, group, skip = tables.lock, tables.membership, tables.run_group, tables.skip

SATISFIED = "satisfied"
SKIPPED = "skipped"
NOT_SELECTED = "not_selected"
UNKNOWN = "unknown"
NO_PAYLOAD = "no payload yet"
QUIET = (SATISFIED, SKIPPED, NOT_SELECTED)
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
    """

    state: str
    reason: Reason | None = None


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


class LockRow(NamedTuple):
    """A lock's row, for kinds that answer by themselves."""

    group_id: int
    task: str
    position: int
    parameters: Mapping[str, object]


class LedgerLock:
    """A kind of lock in the ledger.

    :ivar kind: its name.
    :ivar texts: its statuses, for people.
    """

    kind: str
    texts: ClassVar[Mapping[str, str]] = {}

    def statement(self, group_ids: Sequence[int]) -> Select[Any] | None:
        """How all of these groups stand: rows as :meth:`per_run` and :meth:`as_a_whole` make them.

        Those of this package are parts of one statement for all that wait. ``None``: it answers in :meth:`look_up`.
        """
        return None

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        """How these stand, all of a kind at once: one statement for all of them, never one for each."""
        raise NotImplementedError

    def look(self, what: str, rows: Sequence[Standing]) -> Look:
        """How one lock stands."""
        counts: dict[str, int] = defaultdict(int)
        for row in rows:
            counts[row.status] += row.n
        total = sum(counts.values())
        never = self.never(what, counts, total)
        if never is not None:
            return Look("never", never)
        shut = [row for row in rows if row.status not in QUIET]
        if not shut:
            return Look("open")
        wanted = total - counts[SKIPPED] - counts[NOT_SELECTED]
        missing = [[row.run, self.texts.get(row.status, row.status)] for row in shut]
        return Look("waiting", self.reason(what, {"done": counts[SATISFIED], "total": wanted, "missing": missing}))

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """Why it can never open; ``None`` if it can.

        :param counts: status → number of runs.
        """
        if total == counts.get(SKIPPED, 0) + counts.get(NOT_SELECTED, 0):
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
        group_ids: Sequence[int],
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
        self, group_ids: Sequence[int], what: ColumnElement[str], is_open: ColumnElement[bool], other: str
    ) -> Select[Any]:
        """One row for each such lock, whose answer is the same for all runs.

        :param other: the status where it is shut.
        """
        return self._rows(group_ids, what, case((is_open, SATISFIED), else_=other), cast(null(), Integer))

    def _rows(self, group_ids: Sequence[int], what: Any, status: Any, run: Any) -> Select[Any]:
        return (
            select(*_KEY, what.label("what"), status.label("status"), run.label("run"))
            .select_from(lock)
            .join(group, group.c.id == lock.c.group_id)
            .where(lock.c.kind == self.kind, tables.one_of(lock.c.group_id, group_ids))
        )


_KEY: tuple[Column[Any], ...] = (lock.c.group_id, lock.c.task, lock.c.position, lock.c.kind)


def skipped(workflow: object, task: object, campaign: object = group.c.campaign) -> ColumnElement[bool]:
    """Whether a person skipped the run, for a task or a whole workflow; part of a statement with group and run."""
    return exists().where(
        skip.c.campaign == campaign,
        skip.c.workflow == workflow,
        skip.c.run == membership.c.run,
        skip.c.task.in_(["", task]),
    )


def of_no_kind(group_ids: Sequence[int], known: Sequence[str]) -> Select[Any]:
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
