"""Why something does not move on account of its campaign: its state, its throttle (rules 53, 56)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.reasons import Cause, Reason
from airflow_calib_provider.ledger import campaign_view, campaigns, openings, tables, throttle
from airflow_calib_provider.ledger.opening_order import OpeningLimits
from airflow_calib_provider.ledger.rows import Campaign, Group, GroupTask, Run

_TOLD = ("collecting", "paused", "closed", "cancelled")
"""States of a campaign that are told whatever is asked about."""


def of_campaign(campaign: Campaign) -> list[Cause]:
    """What the state of a campaign means for all of it."""
    told = [campaign.state] if campaign.state in _TOLD else []
    if campaign.state == "paused" and campaign.closed_at is not None:
        told.append("closed")
    return [
        Cause(
            f"campaign {campaign.name}",
            {"code": f"campaign_{state}", "campaign": campaign.name},
            since=campaign.closed_at if state == "closed" else campaign.since,
            campaign=campaign.name,
        )
        for state in told
    ]


def not_run(campaign: Campaign, row: Run, workflow: str | None, task: str | None) -> Reason:
    """Why a run is in no grouping of a campaign: nothing takes it, or what is asked about is its base campaign's."""
    if workflow is not None and task is not None and (base := campaign_view.taken_from(campaign, workflow, task)):
        return {"code": "of_base", "run": row.number, "workflow": workflow, "task": task, "base": base}
    return {"code": "no_workflow", "source": row.source, "workflow": workflow}


def no_dag_run(connection: Connection, limits: OpeningLimits, row: Group, now: datetime) -> Reason:
    """Why a group that nothing else holds has no DAG run."""
    about = {"campaign": row.campaign, "workflow": row.workflow}
    campaign = campaigns.get(connection, row.campaign)
    if campaign.state in ("grouping", "cancelled"):
        return {"code": f"campaign_{campaign.state}", **about}
    if openings.half_grouped(connection, row):
        return {"code": "campaign_grouping" if campaigns.takes_runs(campaign) else "campaign_half_grouped", **about}
    if (changes := _spec_changed(connection, row)) is not None:
        return changes
    if campaign.state == "paused":
        return {"code": "campaign_paused", **about}
    counts = openings.open_counts(connection, now)
    of_campaign = counts.of_campaign[row.campaign]
    if campaign.max_groups is not None and of_campaign >= campaign.max_groups:
        return {"code": "groups_throttled", "open": of_campaign, "max_groups": campaign.max_groups, **about}
    open_now, starting = (found[row.workflow, row.grouping] for found in (counts.working, counts.starting))
    limit = limits.working(row.campaign)
    dag_id = f"{row.workflow}__{row.grouping}"
    if open_now >= limit:
        return {"code": "queued_in_ledger", "open": open_now, "max_open": limit, "dag_id": dag_id}
    if row.campaign != campaigns.PROMPT and starting >= limits.starting:
        return {"code": "others_start", "open": starting, "limit": limits.starting, "dag_id": dag_id}
    return {"code": "dag_run_not_asked", "dag_id": dag_id}


def _spec_changed(connection: Connection, row: Group) -> Reason | None:
    table = tables.grouping
    here = (table.c.campaign == row.campaign, table.c.workflow == row.workflow, table.c.label == row.grouping)
    found = connection.execute(select(table.c.spec_changed).where(*here)).scalar()
    return dict(found) if found else None


def throttled(connection: Connection, row: Group, tasks: Sequence[GroupTask], now: datetime) -> list[Cause]:
    """Job sets whose next round the throttle of their campaign holds back."""
    campaign = campaigns.get(connection, row.campaign)
    if campaign.max_jobs is None:
        return []
    hold = throttle.Hold(campaign.state, campaign.max_jobs)
    held = throttle.held_back(connection, row.id, hold, now)
    return [
        _of_task(row, item, {"code": "jobs_throttled", "campaign": row.campaign, **held[item.task]})
        for item in tasks
        if item.task in held
    ]


def _of_task(row: Group, item: GroupTask, reason: Reason) -> Cause:
    about = f"{row.workflow}.{item.task} of {row.name}"
    return Cause(about, dict(reason), item.state, item.since, None, row.workflow, row.name, item.task, row.campaign)
