"""What follows from the end of groups for their runs and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft
from airflow_calib_provider.ledger import groups, skips
from airflow_calib_provider.ledger.engine import Ledger

AT_ONCE = 1_000
"""Runs that are taken out of a group in one transaction."""


def drop_in_parts(ledger: Ledger, campaign: str, workflow: str, group_ids: Sequence[int]) -> None:
    """Take the runs out of groups that are to be dropped: these are dropped with the last of them.

    After a death in between they are forming as before, and whoever comes next drops them for the same reason.
    """
    for group_id in group_ids:
        left = AT_ONCE
        while left == AT_ONCE:
            with ledger.write() as connection:
                left = groups.drop_members(connection, campaign, workflow, [group_id], AT_ONCE)
            crash_point("inject.after_commit", workflow)


def end_groups(
    connection: Connection, campaign: str, workflow: str, drafts: Sequence[GroupDraft], now: datetime
) -> None:
    """What follows for runs and tasks from the end of groups: dropped runs, and groups of nothing but skipped runs."""
    by_state: dict[str, list[int]] = {"closed": [], "dropped": [], "forming": []}
    for draft in drafts:
        assert draft.id is not None
        by_state[draft.state].append(draft.id)
    groups.drop_members(connection, campaign, workflow, by_state["dropped"])
    skips.end_fully_skipped(connection, campaign, workflow, by_state["closed"], now)
