"""What the events of our assets say, for those who schedule their own DAGs by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from pydantic import JsonValue

    from airflow_calib_provider.ledger.engine import Ledger

MANY = 1_000
"""More ranges of runs than this are not listed: an event is a row of Airflow's database."""


def tell_assets(
    operator: BaseOperator, context: Context, ledger: Ledger, group_id: int, more: Mapping[str, JsonValue]
) -> None:
    """Give the events of a task's assets the facts of its group: campaign, group, its runs.

    :param more: what the task has done.
    """
    from airflow.sdk import Asset

    facts = {**group_facts(ledger, group_id), **more}
    for outlet in operator.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(facts)


def group_facts(ledger: Ledger, group_id: int) -> dict[str, JsonValue]:
    """Campaign, workflow, grouping and name of a group, and its runs as ranges such as ``1001-1003,1007``."""
    from sqlalchemy import select

    from airflow_calib_provider.ledger.groups import group_by_id
    from airflow_calib_provider.ledger.tables import membership

    with ledger.read() as connection:
        group = group_by_id(connection, group_id)
        query = select(membership.c.run).where(membership.c.group_id == group_id, membership.c.state == "grouped")
        numbers = list(connection.execute(query.order_by(membership.c.run)).scalars())
    ranges = as_ranges(numbers)
    return {
        "campaign": group.campaign,
        "workflow": group.workflow,
        "grouping": group.grouping,
        "group": group.name,
        "first_run": group.span[0],
        "last_run": group.span[1],
        "n_runs": len(numbers),
        "runs": ",".join(ranges) if len(ranges) <= MANY else None,
    }


def as_ranges(numbers: list[int]) -> list[str]:
    """Runs in their order, those that follow each other as one range."""
    pairs: list[list[int]] = []
    for number in numbers:
        if pairs and number == pairs[-1][1] + 1:
            pairs[-1][1] = number
        else:
            pairs.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in pairs]
