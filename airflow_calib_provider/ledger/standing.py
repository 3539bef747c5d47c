"""The statement that says how all locks of this package stand that all waits have, whatever their number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, Select, String, and_, case, cast, exists, func, literal, null, or_, select, union_all

from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import IDS, one_of
from airflow_calib_provider.ledger.locks.base import QUIET, LedgerLock, ledger_lock, of_no_kind, skipped
from airflow_calib_provider.ledger.locks.elements import is_any_of_itself

FORMING = ""
BESIDE = -2
"""In place of a lock's position: a row of another query."""

STOPPED = -3
"""In place of a lock's position: the campaign of the group is cancelled, or its spec fits the DAG no more."""

EXCLUDING = -4
"""In place of a lock's position: the group is closed, and may go on without runs that have failed."""

OF_ITSELF = -5
"""In place of a lock's position: there are locks of which more must be read."""

LEFT_OUT = -6
"""In place of a lock's position: a run that the task went on without, of a group that has no other runs by now."""

ENDLESS = 1
"""In place of a run, of a forming group: nobody knows when one of its runs has ended."""

lock, membership, group = tables.lock, tables.membership, tables.run_group
left_out = tables.excluded_run


@lru_cache(16)
def standing_of_all(kinds: tuple[str, ...], brief: bool) -> Select[Any]:
    """Built once: that takes as long as asking with it.

    :param kinds: their names.
    """
    return statement_beside({name: ledger_lock(name) for name in kinds}, None, brief)


def statement_beside(kinds: Mapping[str, LedgerLock], beside: Select[Any] | None, brief: bool) -> Select[Any]:
    """Rows as :class:`~airflow_calib_provider.ledger.locks.base.Standing`, of the groups that are given as ``ids``.

    One per lock and run that is not satisfied, one per lock and other status with a count (or, in brief, any status),
    and one per forming group with position -1.
    """
    parts = [kind.statement(IDS) for name, kind in kinds.items() if name in LOCKS.own]
    known = [part for part in parts if part is not None]
    standing = union_all(*known, of_no_kind(IDS, list(kinds))).cte("standing")
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
        case(
            (group.c.state == "dropped", cast(group.c.close_reason, String)), else_=cast(group.c.amounts, String)
        ).label("status"),
        case((group.c.end.is_(None), ENDLESS)).label("run"),
        members.label("n"),
    ).where(one_of(group.c.id, IDS), group.c.state != "closed")
    optional = [part for part in (None if brief else missing, beside) if part is not None]
    beyond = (_of_stopped(), _of_excluding(members), _of_left_out(), _of_themselves(kinds))
    union = counted.union_all(forming, *beyond, *optional).subquery()
    return select(union).order_by(union.c.group_id, union.c.task, union.c.position, union.c.run)


def _of_stopped() -> Select[Any]:
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
            one_of(group.c.id, IDS),
            or_(campaign.c.state == "cancelled", grouping.c.spec_changed.is_not(None)),
        )
    )


def _of_excluding(members: Any) -> Select[Any]:
    """The closed groups that may go on without failed runs."""
    return select(
        group.c.id.label("group_id"),
        literal(FORMING).label("task"),
        literal(EXCLUDING).label("position"),
        group.c.state.label("kind"),
        cast(group.c.policy, String).label("what"),
        literal("").label("status"),
        cast(null(), Integer).label("run"),
        members.label("n"),
    ).where(
        one_of(group.c.id, IDS),
        group.c.state == "closed",
        group.c.policy[("failed_runs", "exclude")].as_float().is_not(None),
    )


def _of_left_out() -> Select[Any]:
    """The runs that tasks of closed groups went on without, where there are no others any more.

    A person has removed these, or skipped them.
    """
    member, before = membership.alias("member"), left_out.alias("before")
    of_task = (before.c.group_id == left_out.c.group_id, before.c.task == left_out.c.task)
    other = exists().where(
        member.c.group_id == left_out.c.group_id,
        member.c.state == "grouped",
        ~exists().where(*of_task, before.c.run == member.c.run),
        ~skipped(group.c.workflow, left_out.c.task, run=member.c.run),
    )
    return (
        select(
            left_out.c.group_id,
            left_out.c.task,
            literal(LEFT_OUT).label("position"),
            *(literal("").label(name) for name in ("kind", "what", "status")),
            left_out.c.run,
            literal(1).label("n"),
        )
        .join(group, group.c.id == left_out.c.group_id)
        .where(
            one_of(left_out.c.group_id, IDS),
            group.c.state == "closed",
            ~skipped(group.c.workflow, left_out.c.task, run=left_out.c.run),
            ~other,
        )
    )


def _of_themselves(kinds: Mapping[str, LedgerLock]) -> Select[Any]:
    """A row if there are locks of which more must be read."""
    texts = (literal("").label(name) for name in ("kind", "what", "status"))
    numbers = (cast(null(), Integer).label("run"), literal(1).label("n"))
    where = (literal(0).label("group_id"), literal(FORMING).label("task"), literal(OF_ITSELF).label("position"))
    columns: list[Any] = [*where, *texts, *numbers]
    return select(*columns).where(is_any_of_itself(answering(kinds)))


def answering(kinds: Mapping[str, LedgerLock]) -> list[str]:
    """The kinds, of this package, that look their locks up."""
    return [name for name, kind in kinds.items() if name in LOCKS.own and kind.answers]
