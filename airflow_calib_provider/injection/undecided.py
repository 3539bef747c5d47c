"""What an assignment begins with: the runs about which nothing is decided, and what was decided before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, func, select

from airflow_calib_provider.domain.grouping import GroupDraft, RunFacts
from airflow_calib_provider.ledger import open_groups, tables
from airflow_calib_provider.ledger.rows import Run, read_rows, select_of

if TYPE_CHECKING:
    from airflow_calib_provider.injection.assigning import Pass

membership, run = tables.membership, tables.run

AT_ONCE = 1_000
"""Runs that are read by one statement."""


def history(connection: Connection, here: Pass, grouping: str, forming: GroupDraft | None) -> list[RunFacts]:
    """The runs from the first one of a group that an injection left half written, where a tail may have joined it.

    Which of its runs are the tail cannot be seen in the group any more.
    """
    if not here.finite or forming is None or forming.policy.tail != "previous":
        return []
    return [
        RunFacts.frozen(row.run, row.record, selected=row.state == "grouped")
        for row in open_groups.members_since(connection, here.campaign, here.workflow.name, grouping, forming.first_run)
    ]


def unassigned(connection: Connection, here: Pass, grouping: str, assigned_below: int) -> list[Run]:
    """Runs below the bound of which nothing is recorded yet.

    Of a finite campaign only those between its runs are told that they are none of them: it does not concern itself
    with years before.
    """
    held = (
        membership.c.campaign == here.campaign,
        membership.c.workflow == here.workflow.name,
        membership.c.grouping == grouping,
    )
    listed: tuple[ColumnElement[bool], ...] = (run.c.source == here.workflow.runs.source, run.c.number < here.bound)
    if here.members:
        listed = (*listed, run.c.number >= min(here.members))
    elif assigned_below:
        # Everything below is recorded but for runs that arrived late, if there are any: counting is quick.
        below = (listed[0], run.c.number < assigned_below)
        n_listed = connection.execute(select(func.count()).select_from(run).where(*below)).scalar_one()
        told = select(func.count()).select_from(membership).where(*held, membership.c.run < assigned_below)
        if n_listed == connection.execute(told).scalar_one():
            listed = (*listed, run.c.number >= assigned_below)
    query = select(run.c.number).outerjoin(membership, and_(*held, membership.c.run == run.c.number))
    query = query.where(*listed, membership.c.run.is_(None))
    numbers = list(connection.execute(query.order_by(run.c.number)).scalars())
    unread = [number for number in numbers if number not in here.runs]
    for begin in range(0, len(unread), AT_ONCE):
        some = tables.one_of(run.c.number, unread[begin : begin + AT_ONCE])
        found = read_rows(connection, select_of(Run, run).where(listed[0], some), Run)
        here.runs.update((row.number, row) for row in found)
    return [here.runs[number] for number in numbers]
