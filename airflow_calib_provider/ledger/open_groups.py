"""The group of a grouping that takes runs, and what was before it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, after_group
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables


def forming_group(
    connection: Connection, campaign: str, workflow: str, grouping: str, *, late: bool = False
) -> GroupDraft | None:
    """The group that still takes runs, as :func:`~airflow_calib_provider.domain.grouping.assign` wants it.

    :param late: that of late runs, which an injection that died has left half written.
    """
    table = tables.run_group
    row = connection.execute(
        select(table).where(
            table.c.campaign == campaign,
            table.c.workflow == workflow,
            table.c.grouping == grouping,
            table.c.state == "forming",
            table.c.late.is_(late),
        )
    ).first()
    if row is None:
        return None
    member = tables.membership
    # Dropped ones: it is about to be dropped, by an injection that has not come to the end of it.
    of_it = (member.c.group_id == row.id, member.c.state.in_(["grouped", "dropped"]))
    n_runs = connection.execute(select(func.count()).where(*of_it)).scalar_one()
    return GroupDraft(
        policy=Grouping.of_json(row.policy),
        id=row.id,
        first_run=row.first_run,
        last_run=row.last_run,
        n_runs=n_runs,
        start=row.start,
        end=row.end,
        amounts=dict(row.amounts),
        fills=list(row.fills),
        late=late,
        open_reason=row.open_reason,
        marks=dict(row.marks or {}),
    )


def forming_policy(connection: Connection, campaign: str, workflow: str, grouping: str) -> Grouping | None:
    """The policy of the group that takes runs; ``None``: there is no such group."""
    table = tables.run_group
    here = (table.c.campaign == campaign, table.c.workflow == workflow, table.c.grouping == grouping)
    query = select(table.c.policy).where(*here, table.c.state == "forming", table.c.late.is_(False))
    found = connection.execute(query).scalar()
    return None if found is None else Grouping.of_json(found)


def last_ended(connection: Connection, campaign: str, workflow: str, grouping: str) -> Reason | None:
    """How the last group ended that is not forming, for the reason of one that opens after it."""
    table = tables.run_group
    here = (table.c.campaign == campaign, table.c.workflow == workflow, table.c.grouping == grouping)
    query = select(table.c.first_run, table.c.close_reason).where(*here, table.c.late.is_(False))
    query = query.where(table.c.state != "forming").order_by(table.c.first_run.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else after_group(row.first_run, row.close_reason)


def members_since(connection: Connection, campaign: str, workflow: str, grouping: str, first: int) -> list[Any]:
    """What is decided about the runs of a grouping from one on: run, state and record, in order."""
    member = tables.membership
    here = (member.c.campaign == campaign, member.c.workflow == workflow, member.c.grouping == grouping)
    query = select(member.c.run, member.c.state, member.c.record).where(*here, member.c.run >= first)
    return list(connection.execute(query.order_by(member.c.run)).all())
