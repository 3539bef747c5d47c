"""How far a campaign is: by task, all in all, and when it would end at its present pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, case, func, literal, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import campaigns, openings, planner, steering, tables, throttle
from airflow_calib_provider.ledger.rows import Campaign

group, task = tables.run_group, tables.group_task

ENDED = ("done", "skipped", "failed")
"""States in which a task does not go on by itself."""

SHORTEST = timedelta(minutes=10)
"""The pace is that of the last quarter of the time since the first end, and of this time at least."""


@dataclass(frozen=True)
class TaskProgress:
    """How many groups of a task are in which state."""

    workflow: str
    grouping: str
    task: str
    states: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of its groups."""
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """Those in which nothing goes on by itself."""
        return sum(self.states.get(state, 0) for state in ENDED)


@dataclass(frozen=True)
class GroupingToMake:
    """A grouping of a finite campaign whose groups are still to be made, as it waits for values of its runs (rule 47).

    :ivar run: the first one of the campaign, of which `calib explain` says which run holds it.
    """

    workflow: str
    grouping: str
    run: int


@dataclass(frozen=True)
class CampaignProgress:
    """How far a campaign is.

    :ivar n_runs: those that it lists; 0 of a streamed one.
    :ivar open_groups: those in which something runs or can run now.
    :ivar submitted_jobs: those that are with backends.
    :ivar changed: workflows whose own version does not fit the DAGs any more, with what has changed.
    :ivar expected_end: at the pace of late; ``None``: nothing is left, or nothing has ended lately.
    :ivar to_make: groupings whose tasks are not counted yet.
    """

    campaign: Campaign
    n_runs: int
    n_groups: int
    tasks: Sequence[TaskProgress]
    open_groups: int
    submitted_jobs: int
    changed: Mapping[str, Reason]
    expected_end: datetime | None
    to_make: Sequence[GroupingToMake] = ()

    @property
    def total(self) -> int:
        """All tasks of all groups."""
        return sum(item.total for item in self.tasks)

    @property
    def ended(self) -> int:
        """Those that have ended."""
        return sum(item.ended for item in self.tasks)


def progress(connection: Connection, name: str, now: datetime) -> CampaignProgress:
    """How far a campaign is, by a few statements.

    :raises NotFound: there is no such campaign.
    """
    row = campaigns.get(connection, name)
    planner.allow_memory(connection)
    tasks, first_end = _tasks(connection, name)
    firsts = {} if first_end is None else {name: first_end}
    n_groups = select(func.count()).select_from(group).where(group.c.campaign == name)
    left = sum(item.total - item.ended for item in tasks)
    return CampaignProgress(
        campaign=row,
        n_runs=steering.count_runs(connection, name),
        n_groups=int(connection.execute(n_groups).scalar_one()),
        tasks=tasks,
        open_groups=openings.open_counts(connection, now).of_campaign[name],
        submitted_jobs=throttle.live_jobs(connection, name),
        changed=_changed(connection, name),
        expected_end=(
            expected_ends(connection, {name: left}, now, firsts).get(name) if row.state != "cancelled" else None
        ),
        to_make=_to_make(connection, row),
    )


def _tasks(connection: Connection, name: str) -> tuple[list[TaskProgress], datetime | None]:
    """The tasks by state, and when the first one ended."""
    # What differs most from row to row first: they are sorted.
    columns = (task.c.task, task.c.state, group.c.grouping, group.c.workflow)
    place, number = func.min(task.c.position).label("place"), func.count().label("n")
    query = select(*columns, place, number, func.min(task.c.since).label("first")).join(
        task, task.c.group_id == group.c.id
    )
    rows = connection.execute(query.where(group.c.campaign == name).group_by(*columns)).all()
    states: dict[tuple[str, int, str, str], dict[str, int]] = {}
    for row in rows:
        of_task = states.setdefault((row.workflow, row.place, row.grouping, row.task), {})
        of_task[row.state] = of_task.get(row.state, 0) + row.n
    found = [TaskProgress(key[0], key[2], key[3], of_task) for key, of_task in sorted(states.items())]
    return found, min((row.first for row in rows if row.state in ENDED), default=None)


def _changed(connection: Connection, name: str) -> dict[str, Reason]:
    table = tables.grouping
    query = select(table.c.workflow, table.c.spec_changed)
    rows = connection.execute(query.where(table.c.campaign == name, table.c.spec_changed.is_not(None)))
    return {row.workflow: row.spec_changed for row in rows}


def _to_make(connection: Connection, row: Campaign) -> list[GroupingToMake]:
    if row.kind != "finite" or row.state not in ("open", "paused"):
        return []  # before, none is made; a campaign that has ended makes none
    table, listed = tables.grouping, tables.campaign_run
    first = select(func.min(listed.c.run)).where(listed.c.campaign == row.name).scalar_subquery()
    here = (table.c.campaign == row.name, table.c.assigned_below == 0, table.c.source_serial.is_(None))
    query = select(table.c.workflow, table.c.label, first).where(*here).order_by(table.c.workflow, table.c.label)
    return [GroupingToMake(*one) for one in connection.execute(query)]


def expected_ends(
    connection: Connection,
    left: Mapping[str, int],
    now: datetime,
    firsts: Mapping[str, datetime] | None = None,
    only: ColumnElement[bool] | None = None,
) -> dict[str, datetime]:
    """When campaigns would end at their pace of late, by two statements for all; without those that have none.

    :param left: campaign → how many of its tasks have not ended.
    :param firsts: campaign → when the first of its tasks ended, if that is known: it is one statement then.
    :param only: which groups are counted; all of them by default.
    """
    wanted = [name for name, n in left.items() if n]
    if not wanted:
        return {}
    of_ended = (group.c.campaign.in_(wanted), task.c.state.in_(ENDED))
    ended = select(group.c.campaign, func.count().label("n")).join(group, group.c.id == task.c.group_id)
    ended = ended.where(*of_ended, *([] if only is None else [only])).group_by(group.c.campaign)
    if firsts is None:
        first = ended.with_only_columns(group.c.campaign, func.min(task.c.since).label("first"))
        firsts = {row.campaign: row.first for row in connection.execute(first)}
    windows = {name: max(SHORTEST, (now - firsts[name]) / 4) for name in wanted if name in firsts}
    if not windows:
        return {}
    since = case(
        {name: literal(now - window, task.c.since.type) for name, window in windows.items()}, value=group.c.campaign
    )
    lately = {row.campaign: row.n for row in connection.execute(ended.where(task.c.since >= since))}
    return {name: now + windows[name] * (left[name] / n) for name, n in lately.items()}
