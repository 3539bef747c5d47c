"""What a campaign lets its job sets submit: its pause, and how many of its jobs may be with backends (rule 56)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from airflow_calib_provider.ledger import tables, workers
from airflow_calib_provider.ledger.generations import BEGUN, with_group
from airflow_calib_provider.ledger.rows import Generation, read_rows

generation, job, group, campaign = tables.generation, tables.job, tables.run_group, tables.campaign


class Hold(NamedTuple):
    """What the campaign of a generation lets it do.

    :ivar state: the campaign's.
    :ivar max_jobs: how many of its jobs may be submitted; ``None``: any number.
    """

    state: str
    max_jobs: int | None


NO_HOLD = Hold("open", None)

HELD = ("paused", "cancelled")
"""States of a campaign in which no round is submitted."""


def with_holds(connection: Connection, ids: Iterable[int]) -> list[tuple[Generation, Hold]]:
    """These generations with their groups' campaigns, workflows and names, and what their campaigns let them do."""
    query = with_group().join(campaign, campaign.c.name == group.c.campaign)
    query = query.add_columns(campaign.c.state.label("campaign_state"), campaign.c.max_jobs)
    rows = connection.execute(query.where(tables.one_of(generation.c.id, ids)).order_by(generation.c.id)).all()
    return [(Generation(*row[:-2]), Hold(*row[-2:])) for row in rows]


def of_cancelled(connection: Connection) -> list[Generation]:
    """The generations that run although their campaigns are cancelled."""
    query = with_group().join(campaign, campaign.c.name == group.c.campaign)
    query = query.where(generation.c.state == "running", campaign.c.state == "cancelled")
    return read_rows(connection, query.order_by(generation.c.id), Generation)


def may_plan(connection: Connection, row: Generation, now: datetime) -> bool:
    """Whether a round of a generation may be planned now; asked in the transaction that plans it."""
    query = select(generation.c.state, campaign.c.state.label("campaign_state"), campaign.c.max_jobs)
    query = query.select_from(generation).join(group, group.c.id == generation.c.group_id)
    query = query.join(campaign, campaign.c.name == group.c.campaign)
    found = connection.execute(query.where(generation.c.id == row.id)).one()
    if found.state != "running" or found.campaign_state in HELD:
        return False
    hold = Hold(found.campaign_state, found.max_jobs)
    if hold.max_jobs is not None and row.step > 0 and workers.settings_of(connection, [row.id]):
        return True  # its workers have their places
    return hold.max_jobs is None or row.id in admitted(connection, row.campaign, hold, now)


def live_jobs(connection: Connection, name: str) -> int:
    """How many jobs of a campaign are with backends."""
    query = select(func.count()).select_from(job).join(generation, generation.c.id == job.c.generation_id)
    query = query.join(group, group.c.id == generation.c.group_id)
    here = (generation.c.state == "running", group.c.campaign == name, job.c.state.in_(BEGUN), workers.takes_place())
    return int(connection.execute(query.where(*here)).scalar_one())


def admitted(connection: Connection, name: str, hold: Hold, now: datetime) -> set[int]:
    """The generations of a throttled campaign whose jobs that are due may be submitted now.

    The oldest comes first, and what does not fit holds back those behind it, so that a large round has its turn; one
    that is larger than the throttle goes alone. One that is in trouble holds nobody back.
    """
    assert hold.max_jobs is not None
    live = live_jobs(connection, name)
    query = select(generation.c.id, generation.c.trouble, func.count().label("n"))
    query = query.join(group, group.c.id == generation.c.group_id).join(job, job.c.generation_id == generation.c.id)
    due = (job.c.state == "waiting", job.c.retry_at.is_(None) | (job.c.retry_at <= now))
    here = (generation.c.state == "running", group.c.campaign == name, workers.takes_place())
    waiting = query.where(*here, *due).group_by(generation.c.id, generation.c.trouble).order_by(generation.c.id)
    found = set()
    for row in connection.execute(waiting):
        if live == 0 or live + row.n <= hold.max_jobs:
            found.add(row.id)
            live += row.n
        elif row.trouble is None:
            break
    return found


def held_back(connection: Connection, group_id: int, hold: Hold, now: datetime) -> dict[str, dict[str, int | None]]:
    """The tasks of a group whose jobs the throttle of their campaign holds back, with what is submitted now."""
    query = select(generation.c.id, generation.c.task, group.c.campaign, func.count().label("n"))
    query = query.join(group, group.c.id == generation.c.group_id).join(job, job.c.generation_id == generation.c.id)
    due = (job.c.state == "waiting", job.c.retry_at.is_(None) | (job.c.retry_at <= now))
    here = (generation.c.state == "running", generation.c.group_id == group_id, workers.takes_place())
    rows = connection.execute(query.where(*here, *due).group_by(generation.c.id, generation.c.task, group.c.campaign))
    waiting = rows.all()
    if not waiting:
        return {}
    name = waiting[0].campaign
    passed, live = admitted(connection, name, hold, now), live_jobs(connection, name)
    return {
        row.task: {"jobs": row.n, "submitted": live, "max_jobs": hold.max_jobs}
        for row in waiting
        if row.id not in passed
    }
