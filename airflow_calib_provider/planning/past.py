"""What the ledger has recorded of a campaign: since when it knows workflows, what was skipped, when tasks were done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, func, select

from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.payload_states import WAS_PUBLISHED
from airflow_calib_provider.ledger.reported import ValueStanding
from airflow_calib_provider.planning.replay import SkippedRun
from airflow_calib_provider.planning.waits import RecordedLock, recorded_locks

membership, generation, payload = tables.membership, tables.generation, tables.payload

AT_ONCE = 10_000
"""Groups that are named in one statement."""

Span = tuple[int, int]
"""The first and the last run that are asked for."""


@dataclass(frozen=True)
class Past:
    """The past of a campaign, as far as there is any.

    :ivar first_seen: workflow → when it was first seen.
    :ivar grouping_seen: workflow and label → likewise, in this campaign.
    :ivar begun: workflow and label → when runs were first put into it.
    :ivar skipped: workflow → run → the skip of the whole of it.
    :ivar task_skips: workflow, task and run of which a person has skipped that task alone.
    :ivar groups: workflow, grouping and run → the id of the group that holds it.
    :ivar done: group's id and task → when it was done first.
    :ivar payloads: tag → intervals with the time of their publication.
    :ivar earlier: tag → when the first payload was published that ends before the runs of the plan.
    :ivar locks: group's id and task → how its locks stood that are asked outside.
    :ivar values: by what a grouping waits for (:func:`~airflow_calib_provider.planning.values.key_of`) how runs stand.
    """

    campaign: str = campaigns.PROMPT
    first_seen: Mapping[str, datetime] = field(default_factory=dict)
    grouping_seen: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    begun: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    skipped: Mapping[str, Mapping[int, SkippedRun]] = field(default_factory=dict)
    task_skips: frozenset[tuple[str, str, int]] = frozenset()
    groups: Mapping[tuple[str, str, int], int] = field(default_factory=dict)
    done: Mapping[tuple[int, str], datetime] = field(default_factory=dict)
    payloads: Mapping[str, Sequence[tuple[int, int, datetime]]] = field(default_factory=dict)
    earlier: Mapping[str, datetime] = field(default_factory=dict)
    locks: Mapping[tuple[int, str], Sequence[RecordedLock]] = field(default_factory=dict)
    values: Mapping[str, Mapping[int, ValueStanding]] = field(default_factory=dict)

    def lock_of(
        self, workflow: str, grouping: str, task: str, runs: Sequence[int], kind: str, parameters: Mapping[str, object]
    ) -> RecordedLock | None:
        """How a lock stood of the group that holds these runs; ``None``: there is no such group, or nobody knows.

        :param runs: in order.
        """
        ids = {self.groups.get((workflow, grouping, run)) for run in runs}
        if len(ids) != 1 or (group_id := ids.pop()) is None:
            return None
        recorded = self.locks.get((group_id, task), ())
        return next((one for one in recorded if (one.kind, one.parameters) == (kind, parameters)), None)

    def done_at(self, workflow: str, grouping: str, task: str, run: int) -> datetime | None:
        """When a task was done first in the group that holds a run; ``None``: it was not."""
        group_id = self.groups.get((workflow, grouping, run))
        return None if group_id is None else self.done.get((group_id, task))

    def without(self, workflows: Collection[str]) -> Past:
        """What another campaign may take from this one that runs some workflows itself."""
        return Past(
            campaign=self.campaign,
            groups={key: group_id for key, group_id in self.groups.items() if key[0] not in workflows},
            done=self.done,
            payloads=self.payloads,
            earlier=self.earlier,
        )

    def is_skipped(self, workflow: str, task: str, run: int) -> bool:
        """Whether a person took a run out of what a task waits for."""
        return run in self.skipped.get(workflow, {}) or (workflow, task, run) in self.task_skips


def read_past(connection: Connection, campaign: str, workflows: Iterable[str], span: Span) -> Past:
    """What the ledger knows of some workflows.

    :raises NotFound: there is no such campaign.
    """
    row = campaigns.get(connection, campaign)
    names = sorted(workflows)
    skipped, of_tasks = _skips(connection, campaign, names)
    held = _groups(connection, campaign, names, span)
    seen, table = tables.workflow_seen, tables.grouping
    first_seen = connection.execute(select(seen.c.workflow, seen.c.first_seen_at).where(seen.c.workflow.in_(names)))
    groupings = connection.execute(
        select(table.c.workflow, table.c.label, table.c.first_seen_at).where(
            table.c.campaign == campaign, table.c.workflow.in_(names)
        )
    ).all()
    known = {(one.workflow, one.label): one.first_seen_at for one in groupings}
    having = [campaign, *([row.base_campaign] if row.base_campaign else [])]
    return Past(
        campaign=campaign,
        first_seen={one.workflow: one.first_seen_at for one in first_seen},
        grouping_seen=known,
        begun={key: at if campaign == campaigns.PROMPT else max(at, row.created_at) for key, at in known.items()},
        skipped=skipped,
        task_skips=of_tasks,
        groups=held,
        done=_done(connection, set(held.values())),
        locks=recorded_locks(connection, campaign, set(held.values())),
        payloads=_payloads(connection, having, span),
        earlier=_earlier_payloads(connection, having, span),
    )


def _skips(
    connection: Connection, campaign: str, workflows: Sequence[str]
) -> tuple[dict[str, dict[int, SkippedRun]], frozenset[tuple[str, str, int]]]:
    skip = tables.skip
    rows = connection.execute(select(skip).where(skip.c.campaign == campaign, skip.c.workflow.in_(workflows))).all()
    whole: dict[str, dict[int, SkippedRun]] = {}
    for row in rows:
        if not row.task:
            whole.setdefault(row.workflow, {})[row.run] = SkippedRun(row.at, row.person, row.reason)
    return whole, frozenset((row.workflow, row.task, row.run) for row in rows if row.task)


def _groups(
    connection: Connection, campaign: str, workflows: Sequence[str], span: Span
) -> dict[tuple[str, str, int], int]:
    here = (membership.c.campaign == campaign, membership.c.run >= span[0], membership.c.run <= span[1])
    columns = (membership.c.workflow, membership.c.grouping, membership.c.run, membership.c.group_id)
    query = select(*columns).where(*here, membership.c.workflow.in_(workflows), membership.c.state == "grouped")
    return {(row.workflow, row.grouping, row.run): row.group_id for row in connection.execute(query)}


def _done(connection: Connection, group_ids: Collection[int]) -> dict[tuple[int, str], datetime]:
    """By jobs, or by a publication."""
    found: dict[tuple[int, str], datetime] = {}
    ids = sorted(group_ids)
    for begin in range(0, len(ids), AT_ONCE):
        some = ids[begin : begin + AT_ONCE]
        for table, at, further in (
            (generation, generation.c.ended_at, (generation.c.state == "done",)),
            (payload, payload.c.published_at, (payload.c.state.in_(WAS_PUBLISHED),)),
        ):
            here = (tables.one_of(table.c.group_id, some), *further)
            query = select(table.c.group_id, table.c.task, func.min(at).label("at")).where(*here)
            for row in connection.execute(query.group_by(table.c.group_id, table.c.task)):
                if row.at is not None:
                    found[row.group_id, row.task] = row.at
    return found


def _payloads(
    connection: Connection, of_campaigns: Sequence[str], span: Span
) -> dict[str, list[tuple[int, int, datetime]]]:
    here = (payload.c.campaign.in_(of_campaigns), payload.c.first_run <= span[1], payload.c.last_run >= span[0])
    query = select(payload.c.tag, payload.c.first_run, payload.c.last_run, payload.c.published_at)
    query = query.where(*here, payload.c.state.in_(WAS_PUBLISHED))
    found: dict[str, list[tuple[int, int, datetime]]] = {}
    for row in connection.execute(query.order_by(payload.c.first_run)):
        found.setdefault(row.tag, []).append((row.first_run, row.last_run, row.published_at))
    return found


def _earlier_payloads(connection: Connection, of_campaigns: Sequence[str], span: Span) -> dict[str, datetime]:
    query = select(payload.c.tag, func.min(payload.c.published_at)).group_by(payload.c.tag)
    here = (payload.c.campaign.in_(of_campaigns), payload.c.last_run < span[0], payload.c.state.in_(WAS_PUBLISHED))
    return {row[0]: row[1] for row in connection.execute(query.where(*here)) if row[1] is not None}
