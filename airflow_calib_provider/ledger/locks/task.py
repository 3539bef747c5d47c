"""Locks on tasks of other groupings and other workflows: what ``needs`` means outside of a DAG (rule 21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import Ids
from airflow_calib_provider.ledger.locks.base import (
    NOT_SELECTED,
    SATISFIED,
    SKIPPED,
    LedgerLock,
    group,
    lock,
    membership,
    parameter,
    skipped,
)
from airflow_calib_provider.ledger.payload_states import CANDIDATE, has_candidate, has_published

generation = tables.generation
other = membership.alias("other")

_WORKFLOW, _GROUPING, _TASK = parameter("workflow"), parameter("grouping"), parameter("task")
_CAMPAIGN = func.coalesce(parameter("campaign"), group.c.campaign)  # what comes from a base campaign names it

_OF = "@"
"""Between a task and the base campaign that has it; in no name of either."""

_WHAT = _WORKFLOW + "." + _TASK + func.coalesce(_OF + parameter("campaign"), "")

_THERE = and_(
    other.c.campaign == _CAMPAIGN,
    other.c.workflow == _WORKFLOW,
    other.c.grouping == _GROUPING,
    other.c.run == membership.c.run,
)
"""What is decided about a run where the needed task is."""


def _is_done(latest: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the needed task is done for the run, with the run.

    :param latest: the state of the task in the group that holds the run there.
    """
    made = exists().where(
        generation.c.group_id == other.c.group_id, generation.c.task == _TASK, generation.c.state == "done"
    )
    done = or_(made, has_published(other.c.group_id, _TASK))
    # What was made before a run was added was made without it.
    return and_(done, or_(func.coalesce(other.c.reason["code"].as_string(), "") != "added", latest == "done"))


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
        "removed": "removed there: in no group",
        CANDIDATE: "only a candidate there, not published",
    }

    def statement(self, group_ids: Ids) -> Select[Any]:
        """A run is satisfied where the other task is done in the latest group that holds it."""
        latest = (
            select(tables.group_task.c.state)
            .where(tables.group_task.c.group_id == other.c.group_id, tables.group_task.c.task == _TASK)
            .scalar_subquery()
        )
        state = case((has_candidate(other.c.group_id, _TASK), CANDIDATE), else_=func.coalesce(latest, "new"))
        rows = self.per_run(
            group_ids,
            _WHAT,
            (skipped(_WORKFLOW, _TASK, _CAMPAIGN), SKIPPED),
            (other.c.run.is_(None), "not_assigned"),
            (other.c.state == "dropped", SKIPPED),
            (other.c.state != "grouped", other.c.state),
            (_is_done(latest), SATISFIED),
            other=state,
        )
        return rows.outerjoin(other, _THERE)

    def failures(self, group_ids: Ids) -> Select[Any]:
        """Of runs for which the needed task is not done, and that nobody skipped."""
        of_it, failed = tables.group_task.alias("of_it"), tables.group_task.alias("failed")
        needed = tables.group_task.alias("needed")
        latest = (
            select(needed.c.state)
            .where(needed.c.group_id == other.c.group_id, needed.c.task == _TASK)
            .scalar_subquery()
        )
        return (
            select(lock.c.group_id, lock.c.task.label("needing"), membership.c.run)
            .add_columns(_WORKFLOW.label("workflow"), _TASK.label("needs"), _WHAT.label("what"))
            .add_columns(of_it.c.task, of_it.c.state, of_it.c.since, of_it.c.reason, of_it.c.after)
            .select_from(lock)
            .join(group, group.c.id == lock.c.group_id)
            .join(membership, and_(membership.c.group_id == group.c.id, membership.c.state == "grouped"))
            .join(other, _THERE)
            .join(of_it, of_it.c.group_id == other.c.group_id)
            .where(
                lock.c.kind == self.kind,
                tables.one_of(lock.c.group_id, group_ids),
                other.c.state == "grouped",
                exists().where(failed.c.group_id == other.c.group_id, failed.c.state == "failed"),
                ~skipped(group.c.workflow, lock.c.task),
                ~skipped(_WORKFLOW, _TASK, _CAMPAIGN),
                ~_is_done(latest),
            )
        )

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """Where the other workflow has selected none of the runs, nothing will ever be done."""
        needs, _, campaign = what.partition(_OF)
        of_base = {"campaign": campaign} if campaign else {}
        if counts.get(NOT_SELECTED) == total:
            return {"code": "needs_selected_none", "needs": needs, "total": total, **of_base}
        return super().never(needs, counts, total)

    def reason(self, what: str, standing: Mapping[str, object]) -> Reason:
        """With the other task, and the base campaign if it is taken from there."""
        needs, _, campaign = what.partition(_OF)
        return {"code": "needs", "needs": needs, **standing, **({"campaign": campaign} if campaign else {})}


LOCK = TaskLock()
