"""What a person may see: what belongs to the DAGs that Airflow lets them read, and nothing of the rest (rule 67).

Every statement of a view is cut down by these conditions, so that nothing of the rest is in its counts either. What a
person may not see is not there for them: the answer is that to what does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, false, or_, select, tuple_

from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.dag_groups import workflow_name
from airflow_calib_provider.spec.language import INJECT

group, grouping = tables.run_group, tables.grouping


@dataclass(frozen=True)
class Reader:
    """Somebody who looks at the page.

    :ivar dag_ids: of the DAGs that they may read, of those that Airflow has.
    """

    dag_ids: frozenset[str]

    def reads_injection(self, team: str = "") -> bool:
        """Whether they may read what belongs to no DAG of a workflow: it is told in the log of ``calib_inject``.

        :param team: whose folder of specs it is from.
        """
        return (f"{INJECT}_{team}" if team else INJECT) in self.dag_ids


@dataclass(frozen=True)
class Rights:
    """What is in the ledger of what a person may read.

    :ivar groupings: campaign → workflow and grouping of its DAGs, by name.
    :ivar pairs: workflow and grouping, of all campaigns.
    :ivar others: workflows that have groups, and no DAG that they may read.
    :ivar by_hand: the names that hand-written DAGs have as workflows.
    """

    reader: Reader
    groupings: Mapping[str, Collection[tuple[str, str]]]
    pairs: frozenset[tuple[str, str]]
    by_hand: frozenset[str]
    others: frozenset[str]

    @property
    def workflows(self) -> frozenset[str]:
        """Those of which they may read a DAG."""
        return frozenset(workflow for workflow, _ in self.pairs)

    def of_group(self, table: FromClause = group) -> ColumnElement[bool]:
        """The groups that they may see.

        :param table: with the columns of ``run_group``: campaign, workflow and grouping.
        """
        return or_(
            and_(table.c.campaign != campaigns.DAGS, in_pairs(table, self.pairs)),
            and_(table.c.campaign == campaigns.DAGS, _in(table.c.workflow, self.by_hand)),
        )

    def in_campaign(self, campaign: str) -> list[tuple[str, str]]:
        """Workflow and grouping of what they may see of a campaign.

        :raises NotFound: nothing, or there is no such campaign.
        """
        found = self.groupings.get(campaign)
        if not found:
            raise NotFound(f"there is no campaign {campaign}, or nothing in it that you may read")
        return sorted(found)


def rights_of(connection: Connection, reader: Reader) -> Rights:
    """What a person may see, by one statement."""
    found: dict[str, set[tuple[str, str]]] = {}
    all_workflows = set()
    for campaign, workflow, label in connection.execute(
        select(grouping.c.campaign, grouping.c.workflow, grouping.c.label)
    ).all():
        all_workflows.add(workflow)
        if f"{workflow}__{label}" in reader.dag_ids:
            found.setdefault(campaign, set()).add((workflow, label))
    pairs = frozenset(pair for of_campaign in found.values() for pair in of_campaign)
    others = frozenset(all_workflows - {workflow for workflow, _ in pairs})
    return Rights(reader, found, pairs, frozenset(map(workflow_name, reader.dag_ids)), others)


def in_pairs(table: FromClause, pairs: Collection[tuple[str, str]]) -> ColumnElement[bool]:
    """The rows of these workflows and groupings.

    :param table: with the columns ``workflow`` and ``grouping``.
    """
    if not pairs:
        return false()
    return tuple_(table.c.workflow, table.c.grouping).in_(sorted(pairs))


def _in(column: ColumnElement[Any], names: Collection[str]) -> ColumnElement[bool]:
    return column.in_(sorted(names)) if names else false()
