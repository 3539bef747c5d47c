"""Campaigns, and how far each is, as far as a person may read its DAGs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, false, func, or_, select

from airflow_calib_provider.ledger import campaigns, planner, tables
from airflow_calib_provider.ledger.campaign_progress import ENDED, TaskProgress, expected_ends
from airflow_calib_provider.page.rights import Rights

campaign, group, group_task = tables.campaign, tables.run_group, tables.group_task

SIZE = 25
"""Campaigns on a page, the newest first."""


@dataclass
class CampaignView:
    """A campaign.

    :ivar tasks: how many groups of each task are in which state.
    :ivar expected_end: at the pace of late; ``None``: nothing is left, or nothing has ended lately.
    """

    row: Any
    tasks: list[TaskProgress] = field(default_factory=list)
    expected_end: datetime | None = None

    @property
    def total(self) -> int:
        """All tasks of all groups."""
        return sum(item.total for item in self.tasks)

    @property
    def ended(self) -> int:
        """Those that have ended."""
        return sum(item.ended for item in self.tasks)

    @property
    def failed(self) -> int:
        """Those that have failed."""
        return sum(item.states.get("failed", 0) for item in self.tasks)


def names(connection: Connection, rights: Rights) -> list[str]:
    """The campaigns of runs that a person may see, the newest first."""
    of = [name for name in rights.groupings if name != campaigns.DAGS]
    query = select(campaign.c.name).where(campaign.c.name.in_(sorted(of))).order_by(campaign.c.created_at.desc())
    return list(connection.execute(query).scalars())


def campaign_views(
    connection: Connection, rights: Rights, now: datetime, offset: int = 0
) -> tuple[list[CampaignView], bool]:
    """Campaigns, the newest first, by four statements.

    :param offset: how many are passed over.
    :returns: and whether there are more.
    """
    planner.allow_memory(connection)
    query = select(campaign).where(_seen(rights)).order_by(campaign.c.created_at.desc(), campaign.c.name)
    rows: Sequence[Any] = connection.execute(query.offset(offset).limit(SIZE + 1)).all()
    found = {row.name: CampaignView(row) for row in rows[:SIZE]}
    firsts = _add_tasks(connection, rights, found)
    left = {name: one.total - one.ended for name, one in found.items() if one.row.state != "cancelled"}
    for name, end in expected_ends(connection, left, now, firsts, rights.of_group()).items():
        found[name].expected_end = end
    return list(found.values()), len(rows) > SIZE


def _seen(rights: Rights) -> ColumnElement[bool]:
    """Campaigns with something that they may read; that of hand-written DAGs if one of theirs is in it."""
    of_runs = campaign.c.name.in_(sorted(rights.groupings)) if rights.groupings else false()
    by_hand = exists().where(group.c.campaign == campaign.c.name, rights.of_group())
    return or_(of_runs, (campaign.c.name == campaigns.DAGS) & by_hand)


def _add_tasks(connection: Connection, rights: Rights, found: dict[str, CampaignView]) -> dict[str, datetime]:
    """Count the tasks of these campaigns; when the first one of each ended."""
    key = (group.c.campaign, group.c.workflow, group.c.grouping, group_task.c.task)
    columns = (*key, group_task.c.state, func.min(group_task.c.position).label("place"), func.count().label("n"))
    query = select(*columns, func.min(group_task.c.since).label("first"))
    query = query.join(group_task, group_task.c.group_id == group.c.id)
    query = query.where(group.c.campaign.in_(sorted(found)), rights.of_group())
    states: dict[tuple[str, str, int, str, str], dict[str, int]] = {}
    firsts: dict[str, datetime] = {}
    for row in connection.execute(query.group_by(*key, group_task.c.state)).all():
        place = (row.campaign, row.workflow, row.place, row.grouping, row.task)
        states.setdefault(place, {})[row.state] = row.n
        if row.state in ENDED:
            firsts[row.campaign] = min(row.first, firsts.get(row.campaign, row.first))
    merged: dict[tuple[str, str, str, str], dict[str, int]] = {}
    for (name, workflow, _, label, task), counts in sorted(states.items()):
        of_task = merged.setdefault((name, workflow, label, task), {})
        for state, n in counts.items():
            of_task[state] = of_task.get(state, 0) + n
    for (name, workflow, label, task), counts in merged.items():
        found[name].tasks.append(TaskProgress(workflow, label, task, counts))
    return firsts
