"""Figures of the system: looked at now and then, appended to the events, and mirrored like everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Sample, read_rows
from airflow_calib_provider.ledger.transitions import Subject, append_events
from airflow_calib_provider.mirror import campaign_figures, state
from airflow_calib_provider.mirror.schema import ALL
from airflow_calib_provider.settings import number, spool_folder

AT_LEAST = timedelta(minutes=10)
"""Where nothing changes, figures are appended so seldom."""

COUNTS = (
    "jobs_waiting",
    "jobs_submitted",
    "jobs_running",
    "jobs_held",
    "groups_waiting",
    "groups_processing",
)
"""What is compared to see whether anything changed; ages and free space always do."""

group, group_task, generation, job = tables.run_group, tables.group_task, tables.generation, tables.job
membership, run, event = tables.membership, tables.run, tables.event

Figures = dict[tuple[str, str], dict[str, float]]
"""Campaign and workflow → figures."""


class StateCount(NamedTuple):
    """How much of a workflow is in a state."""

    campaign: str
    workflow: str
    state: str
    n: int


class Oldest(NamedTuple):
    """Since when a workflow's oldest run is completed that is not all treated."""

    campaign: str
    workflow: str
    since: datetime | None


def sample(ledger: Ledger, target: str) -> None:
    """Append the figures of now, if it is time and anything is new.

    :param target: the mirror's target that asks; the lag is its.
    """
    now = datetime.now(UTC)
    with ledger.read() as connection:
        before, last = state.last_sample(connection)
        if last is not None and (now - last).total_seconds() < number("SAMPLE_INTERVAL"):
            return
        figures = look(connection, now)
        known = before.get("campaigns", {})
        of_campaigns = campaign_figures.look(connection, figures, known, now)
        lag = lag_seconds(connection, target, now)
    free = spool_free_bytes()
    whole = figures[ALL, ALL]
    whole |= {"mirror_lag_seconds": lag, **({} if free is None else {"spool_free_bytes": free})}
    counts = {" ".join(key): {name: values[name] for name in COUNTS} for key, values in figures.items()}
    for key in before.get("counts", {}).keys() - counts.keys():
        # Nothing is left to do there: said once, or its last figures would be taken for those of now.
        campaign, _, workflow = key.partition(" ")
        figures[campaign, workflow] = dict.fromkeys((*COUNTS, "oldest_untreated_seconds"), 0)
    new: Sample = {"counts": counts, "campaigns": campaign_figures.remembered(of_campaigns, known)}
    appended = before.get("appended_at")
    due = appended is None or now - datetime.fromisoformat(appended) >= AT_LEAST
    with ledger.write() as connection:
        if due or counts != before.get("counts"):
            append(connection, figures)
            appended = now.isoformat()
        campaign_figures.append(connection, campaign_figures.news(of_campaigns, known, due=due))
        new |= {} if appended is None else {"appended_at": appended}
        state.note_sample(connection, target, new, now)


def append(connection: Connection, figures: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
    """Append figures as events."""
    append_events(
        connection,
        (
            {"entity": "system", "subject": Subject(campaign=campaign, workflow=workflow), "data": dict(values)}
            for (campaign, workflow), values in sorted(figures.items())
        ),
    )


def look(connection: Connection, now: datetime) -> Figures:
    """The figures of every campaign and workflow in which something is left to do, and their sums."""
    figures: Figures = {(ALL, ALL): {}}
    for row in _jobs(connection):
        _of(figures, row)[f"jobs_{row.state}"] = row.n
    for row in _groups(connection):
        _of(figures, row)[f"groups_{row.state}"] = row.n
    for one in _oldest(connection):
        age = (now - one.since).total_seconds() if one.since is not None else None
        if age is not None:
            _of(figures, one)["oldest_untreated_seconds"] = round(max(0.0, age), 3)
    whole = figures.pop((ALL, ALL))
    for name in COUNTS:
        whole[name] = sum(values.get(name, 0) for values in figures.values())
    whole["oldest_untreated_seconds"] = max(
        (values.get("oldest_untreated_seconds", 0.0) for values in figures.values()), default=0.0
    )
    for values in figures.values():
        values |= {name: values.get(name, 0) for name in (*COUNTS, "oldest_untreated_seconds")}
    return {(ALL, ALL): whole, **figures}


def _of(figures: Figures, row: StateCount | Oldest) -> dict[str, float]:
    return figures.setdefault((row.campaign, row.workflow), {})


def _jobs(connection: Connection) -> list[StateCount]:
    """Live jobs by campaign, workflow and state."""
    query = (
        select(group.c.campaign, group.c.workflow, job.c.state, func.count().label("n"))
        .join(generation, generation.c.group_id == group.c.id)
        .join(job, job.c.generation_id == generation.c.id)
        .where(generation.c.state == "running", job.c.state.in_(["waiting", "submitted", "running", "held"]))
        .group_by(group.c.campaign, group.c.workflow, job.c.state)
    )
    return read_rows(connection, query, StateCount)


def _groups(connection: Connection) -> list[StateCount]:
    """Groups of which a task waits, and of which one is processed."""
    query = (
        select(
            group.c.campaign,
            group.c.workflow,
            group_task.c.state,
            func.count(group_task.c.group_id.distinct()).label("n"),
        )
        .join(group_task, group_task.c.group_id == group.c.id)
        .where(group_task.c.state.in_(["waiting", "processing"]))
        .group_by(group.c.campaign, group.c.workflow, group_task.c.state)
    )
    return read_rows(connection, query, StateCount)


def _oldest(connection: Connection) -> list[Oldest]:
    """The end of the oldest run in each workflow that is completed, and whose tasks are not all over."""
    since = func.min(func.coalesce(run.c.end, run.c.completed_at), type_=run.c.completed_at.type)
    query = (
        select(group.c.campaign, group.c.workflow, since.label("since"))
        .join(group_task, group_task.c.group_id == group.c.id)
        .join(membership, membership.c.group_id == group.c.id)
        .join(run, (run.c.source == membership.c.source) & (run.c.number == membership.c.run))
        .where(
            group_task.c.state.in_(["new", "waiting", "processing"]),
            membership.c.state == "grouped",
            run.c.completed,
        )
        .group_by(group.c.campaign, group.c.workflow)
    )
    return read_rows(connection, query, Oldest)


def lag_seconds(connection: Connection, target: str, now: datetime) -> float:
    """The age of the first event that was not carried yet; 0: there is none."""
    row = state.find(connection, target)
    query = select(event.c.at).where(event.c.id > (row.cursor if row is not None else 0))
    first = connection.execute(query.order_by(event.c.id).limit(1)).scalar()
    return 0.0 if first is None else round(max(0.0, now.timestamp() - first / 1e9), 3)


# disk


def spool_free_bytes() -> int | None:
    """Free space where the spool lies; ``None``: it cannot be seen, which is no reason not to mirror the rest."""
    folder = spool_folder()
    for path in (folder, *folder.parents):
        try:
            about = os.statvfs(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return about.f_bavail * about.f_frsize
    return None


def sample_spool(ledger: Ledger) -> None:
    """Append the size of the spool, which takes a while to find, and the free space beside it."""
    figures: dict[str, float] = {"spool_bytes": _size(spool_folder())}
    free = spool_free_bytes()
    figures |= {} if free is None else {"spool_free_bytes": free}
    with ledger.write() as connection:
        append(connection, {(ALL, ALL): figures})


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile does not count."""
    total, folders = 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total
