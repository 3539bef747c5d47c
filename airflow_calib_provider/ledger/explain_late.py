"""What decides about what helps a run that is late, or that its group went on without (rules 49, 50, 51)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.ledger.exclusions import recorded_in
from airflow_calib_provider.ledger.rows import Group
from airflow_calib_provider.spec.models import Workflow


def in_grouping(
    reason: Mapping[str, Any], specs: Mapping[str, Workflow], workflow: str, grouping: str
) -> dict[str, Any]:
    """The reason; of a run that is late it says, too, whether the grouping has groups of single runs.

    :param specs: the workflows as their files say now.
    """
    policy = specs[workflow].groupings().get(grouping) if workflow in specs else None
    is_single = reason.get("code") == "late" and policy is not None and policy.is_single
    return {**reason, "single": True} if is_single else dict(reason)


def left_out_failed(connection: Connection, group: Group, task: str | None, run: int | None = None) -> list[Cause]:
    """Why runs of a group are not in what its tasks have made.

    :param task: only this one.
    :param run: only this one.
    """
    return [
        Cause(
            f"run {row.run} in {group.workflow}.{row.task} of {group.name}",
            {"run": row.run, **row.reason},
            "excluded",
            row.at,
            workflow=group.workflow,
            group=group.name,
            task=row.task,
        )
        for row in recorded_in(connection, group.id)
        if task in (None, row.task) and run in (None, row.run)
    ]
