"""Figures of campaigns: how far each is, and what holds it back; appended to the events as those of the system are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, case, func, or_, select

from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.campaign_progress import expected_ends
from airflow_calib_provider.ledger.rows import Campaign, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Subject, append_events

STATES = ("failed", "processing", "waiting", "new")
"""States of tasks; a group counts in the first of these in which one of its tasks is, else it is done."""

JOBS = ("jobs_waiting", "jobs_submitted", "jobs_running", "jobs_held")

WAITING = ("collecting", "grouping", "paused")
"""States in which a campaign goes on when somebody or something is ready, whatever is left to do of it now."""

Figures = dict[str, dict[str, object]]
"""Campaign → figures, by the names of the measurement's fields."""

campaign, group, task = tables.campaign, tables.run_group, tables.group_task


def look(
    connection: Connection, jobs: Mapping[tuple[str, str], Mapping[str, float]], also: Iterable[str], now: datetime
) -> Figures:
    """The figures of every campaign in which something goes on, or may.

    :param jobs: campaign and workflow → figures, of which the states of jobs are taken.
    :param also: campaigns that were among these the last time: of one that is over its last figures are told once.
    """
    counts, left = _groups(connection)
    wanted = or_(campaign.c.state.in_(WAITING), campaign.c.name.in_({*left, *also}))
    query = select_of(Campaign, campaign).where(campaign.c.kind != campaigns.DAGS, wanted)
    rows = read_rows(connection, query, Campaign)
    totals = _totals(connection, [row.name for row in rows])
    ends = expected_ends(connection, {row.name: left.get(row.name, 0) for row in rows if _has_an_end(row)}, now)
    return {
        row.name: {
            **_of_row(row),
            **_of_groups(totals.get(row.name, 0), counts.get(row.name, {}), left.get(row.name, 0)),
            **_of_jobs(row.name, jobs),
            **({"expected_end": int(at.timestamp())} if (at := ends.get(row.name)) is not None else {}),
        }
        for row in rows
    }


def _compared(values: Mapping[str, object]) -> dict[str, object]:
    """What makes figures worth an event: the expected end is another one each time."""
    return {key: value for key, value in values.items() if key != "expected_end"}


def remembered(figures: Figures, before: Figures) -> Figures:
    """What is compared the next time; what is over and was told is forgotten."""
    found = {name: _compared(values) for name, values in figures.items()}
    return {
        name: values
        for name, values in found.items()
        if values["state"] in WAITING or values["tasks_left"] or values != before.get(name)
    }


def news(figures: Figures, before: Figures, *, due: bool) -> Figures:
    """What is to be told: what has changed, and now and then when each is expected to end."""
    return {
        name: values
        for name, values in figures.items()
        if _compared(values) != before.get(name) or (due and "expected_end" in values)
    }


def append(connection: Connection, figures: Figures) -> None:
    """Append figures as events."""
    append_events(
        connection,
        (
            {"entity": "campaign_figures", "subject": Subject(name), "data": values}
            for name, values in sorted(figures.items())
        ),
    )


def _of_row(row: Campaign) -> dict[str, object]:
    throttle = {"max_groups": row.max_groups or 0, "max_jobs": row.max_jobs or 0}
    return {"state": row.state, "priority": row.priority, **throttle}


def _of_groups(total: int, counts: Mapping[str, int], left: int) -> dict[str, object]:
    open_ = {f"groups_{state}": counts.get(state, 0) for state in STATES}
    return {"groups": total, **open_, "groups_done": total - sum(counts.values()), "tasks_left": left}


def _of_jobs(name: str, figures: Mapping[tuple[str, str], Mapping[str, float]]) -> dict[str, object]:
    here = [values for (of, _), values in figures.items() if of == name]
    return {key: sum(values.get(key, 0) for values in here) for key in JOBS}


def _has_an_end(row: Campaign) -> bool:
    return row.kind == "finite" and row.state != "cancelled"


def _groups(connection: Connection) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Of each campaign the groups that are not done, by state, and how many tasks have not ended."""
    first = case(*((func.sum(case((task.c.state == name, 1), else_=0)) > 0, name) for name in STATES))
    open_tasks = func.sum(case((task.c.state != "failed", 1), else_=0))
    each = (
        select(task.c.group_id, first.label("first"), open_tasks.label("left"))
        .where(task.c.state.in_(STATES))
        .group_by(task.c.group_id)
        .subquery()
    )
    query = select(group.c.campaign, each.c.first, func.count().label("n"), func.sum(each.c.left).label("left"))
    query = query.join(each, each.c.group_id == group.c.id).group_by(group.c.campaign, each.c.first)
    counts: dict[str, dict[str, int]] = {}
    left: dict[str, int] = {}
    for row in connection.execute(query):
        counts.setdefault(row.campaign, {})[row.first] = row.n
        left[row.campaign] = left.get(row.campaign, 0) + int(row.left)
    return counts, {name: n for name, n in left.items() if n}


def _totals(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    query = select(group.c.campaign, func.count().label("n")).where(group.c.campaign.in_(names))
    return {row.campaign: row.n for row in connection.execute(query.group_by(group.c.campaign))}
