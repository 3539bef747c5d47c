"""Plans: what specs would make of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.planning.records import PlanDifference, PlanRequest, SpecPlan


def plan_specs(ledger: Ledger | None, wanted: PlanRequest, *, now: datetime | None = None) -> SpecPlan:
    """What the specs of a folder make of runs: groups, with the times of their lives, and how long locks are shut.

    :param ledger: that knows the runs; ``None``: their sources are read.
    :param now: where the clock ends.
    :raises CalibError: there are no runs, no workflows, or not those that are named.
    """
    from airflow_calib_provider.planning.plans import plan_specs as plan

    return plan(ledger, wanted, now or datetime.now(UTC))


def plan_edit(
    ledger: Ledger | None, wanted: PlanRequest, commit: str, *, now: datetime | None = None
) -> PlanDifference:
    """What changes from the specs of a git commit to the files as they are, over the same runs.

    :param ledger: as for :func:`plan_specs`.
    :raises CalibError: there is no such commit, the folder is in no git checkout, or as for a plan.
    """
    from airflow_calib_provider.planning.comparing import plan_edit as plan

    return plan(ledger, wanted, commit, now or datetime.now(UTC))
