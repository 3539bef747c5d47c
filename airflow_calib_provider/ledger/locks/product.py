"""Locks on products of other workflows."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Select, exists, func, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.ids import Ids
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
from airflow_calib_provider.ledger.products import DROPPED

generation, product = tables.generation, tables.product

GONE = "dropped"


class ProductLock(LedgerLock):
    """Open when the latest done generation of the task has the product, for each run of the group."""

    kind = "product"
    texts: ClassVar[dict[str, str]] = {"not_made": "not made yet", GONE: "its files were removed"}

    def statement(self, group_ids: Ids) -> Select[Any]:
        """In whatever grouping it is made."""
        workflow, task, name = parameter("workflow"), parameter("task"), parameter("product")
        campaign = func.coalesce(parameter("campaign"), group.c.campaign)
        other = membership.alias("elsewhere")
        newest = (
            select(func.max(generation.c.n))
            .where(generation.c.group_id == other.c.group_id, generation.c.task == task, generation.c.state == "done")
            .correlate(other, tables.lock)
            .scalar_subquery()
        )
        there = (
            other.c.campaign == campaign,
            other.c.workflow == workflow,
            other.c.run == membership.c.run,
        )
        made = generation.alias("made")

        def has(*more: ColumnElement[bool]) -> ColumnElement[bool]:
            latest = (made.c.group_id == other.c.group_id, made.c.task == task, made.c.n == newest)
            of_it = (product.c.generation_id == made.c.id, product.c.name == name)
            return exists().where(*there, other.c.state == "grouped", *latest, *of_it, *more)

        not_taken = exists().where(*there, other.c.state == NOT_SELECTED)
        return self.per_run(
            group_ids,
            workflow + "." + task + "." + name,
            (skipped(workflow, task, campaign), SKIPPED),
            (has(product.c.state == DROPPED), GONE),
            (has(), SATISFIED),
            (not_taken, NOT_SELECTED),
            other="not_made",
        )


LOCK = ProductLock()
