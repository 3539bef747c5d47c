"""What is said of a group itself: what its policy follows, and the DAG run that it has asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.domain.reasons import Cause, Reason
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import cuts, open_groups, openings, reported
from airflow_calib_provider.ledger.campaign_view import from_its_first_tasks
from airflow_calib_provider.ledger.rows import Campaign, Group
from airflow_calib_provider.spec.models import Workflow
from airflow_calib_provider.spec.policy_data import as_read


def of_policy(connection: Connection, campaign: str, spec: Workflow | None, grouping: str) -> Reason | None:
    """Why nothing more is put into groups of a grouping: what its policy follows."""
    policy = spec.groupings().get(grouping) if spec is not None else None
    if spec is None or policy is None:
        return None
    try:
        policy = as_read(policy, Path(spec.file).parent)
    except CalibError as error:
        return {"code": "not_read", "grouping": grouping, "said": str(error)}
    return cuts.closed_cut(connection, campaign, spec.name, policy)


def of_values(
    connection: Connection,
    campaign: Campaign,
    spec: Workflow | None,
    grouping: str,
    now: datetime,
    run: int | None = None,
) -> Cause | None:
    """Which run holds a grouping that waits for values; ``None``: none does.

    :param spec: as its file is now.
    :param run: a late one, which holds only others that are late.
    """
    policy = spec.groupings().get(grouping) if spec is not None else None
    if spec is None or policy is None or (run is not None and policy.late_runs != "new_group"):
        return None
    here = from_its_first_tasks(campaign, spec)
    sought = reported.Sought.of(campaign.name, here, policy)
    if sought is None and (other := open_groups.forming_policy(connection, campaign.name, spec.name, grouping)):
        sought = reported.Sought.of(campaign.name, here, other)  # of another kind, as the grouping was edited since
    if sought is None:
        return None
    if run is not None:
        found: reported.ValueStanding | None = reported.look(connection, sought, [run], now)[run]
    else:
        finite = campaign.kind == "finite"
        found = reported.held(connection, sought, spec.runs.source, finite=finite, now=now)
    if found is None or found.is_settled or found.reason is None:
        return None
    about = f"{grouping} of {spec.name}"
    return Cause(about, found.reason, "waiting", found.at, now, spec.name, campaign=campaign.name)


def of_group(
    row: Group, reason: Reason, state: str, since: datetime | None, looked_at: datetime | None = None
) -> Cause:
    """What is the matter with a group."""
    about = f"group {row.name} of {row.workflow}"
    return Cause(about, dict(reason), state, since, looked_at, row.workflow, row.name)


def of_request(row: Group, asked: Any, ready: Iterable[str], now: datetime) -> list[Cause]:
    """What becomes of its DAG run."""
    names = list(ready)
    if asked.state == "opened":
        reason = {"code": "dag_run_opened", "run_id": asked.run_id, "since": _iso(asked.opened_at), "tasks": names}
        return [of_group(row, reason, "waiting", asked.opened_at)]
    if asked.state == "claimed":
        expired = asked.claimed_at is not None and asked.claimed_at < now - openings.CLAIM_EXPIRES
        reason = {"code": "claim_expired" if expired else "dag_run_claimed", "run_id": asked.run_id}
        return [of_group(row, reason, "waiting", asked.claimed_at)]
    if asked.error:
        reason = {
            "code": "dag_run_refused",
            "run_id": asked.run_id,
            "dag_id": asked.dag_id,
            "error": asked.error,
            "refusals": asked.refusals,
            "not_before": _iso(asked.not_before),
        }
    else:
        reason = {"code": "dag_run_wanted", "run_id": asked.run_id}
    return [of_group(row, reason, "waiting", asked.wanted_at)]


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
