"""Locks on tasks of other groupings and other workflows: what ``needs`` means outside of a DAG (rule 21)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Select, and_, exists, func, or_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import (
    NOT_SELECTED,
    SATISFIED,
    SKIPPED,
    LedgerLock,
    group,
    membership,
    parameter,
    skipped,
)

generation, payload = tables.generation, tables.payload


class TaskLock(LedgerLock):
    """Open when the needed task is done for each run of the group that its workflow selected."""

    kind = "task"
    texts: ClassVar[Mapping[str, str]] = {
        "not_assigned": "not yet assigned to a group there",
        "new": "not started",
        "waiting": "waiting",
        "processing": "running",
        "failed": "failed",
        "late": "late there: in no group",
        "refused": "refused there",
    }

    def statement(self, group_ids: Sequence[int]) -> Select[Any]:
        """A run is satisfied where the other task is done in the latest group that holds it."""
        workflow, grouping, task = parameter("workflow"), parameter("grouping"), parameter("task")
        other = membership.alias("other")
        campaign = func.coalesce(parameter("campaign"), group.c.campaign)  # what comes from a base campaign names it
        latest = (
            select(tables.group_task.c.state)
            .where(tables.group_task.c.group_id == other.c.group_id, tables.group_task.c.task == task)
            .scalar_subquery()
        )
        done = or_(
            exists().where(
                generation.c.group_id == other.c.group_id, generation.c.task == task, generation.c.state == "done"
            ),
            exists().where(payload.c.group_id == other.c.group_id, payload.c.task == task),
        )
        rows = self.per_run(
            group_ids,
            workflow + "." + task,
            (skipped(workflow, task, campaign), SKIPPED),
            (other.c.run.is_(None), "not_assigned"),
            (other.c.state == "dropped", SKIPPED),
            (other.c.state != "grouped", other.c.state),
            (done, SATISFIED),
            other=func.coalesce(latest, "new"),
        )
        return rows.outerjoin(
            other,
            and_(
                other.c.campaign == campaign,
                other.c.workflow == workflow,
                other.c.grouping == grouping,
                other.c.run == membership.c.run,
            ),
        )

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """Where the other workflow has selected none of the runs, nothing will ever be done."""
        if counts.get(NOT_SELECTED) == total:
            return {"code": "needs_selected_none", "needs": what, "total": total}
        return super().never(what, counts, total)

    def reason(self, what: str, standing: Mapping[str, object]) -> Reason:
        """With the other task."""
        return {"code": "needs", "needs": what, **standing}


LOCK = TaskLock()
