"""Where in Airflow a waiting or failed task's cause is to be seen: the DAG run, or the DAG, of what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.dag_groups import airflow_task_id
from airflow_calib_provider.ledger.waiting import look

group, request, group_task = tables.run_group, tables.dag_run_request, tables.group_task
membership, payload, campaign = tables.membership, tables.payload, tables.campaign


@dataclass(frozen=True)
class AwaitedTask:
    """A task of another DAG run.

    :ivar run_id: ``None``: there is none yet.
    :ivar task: its id in Airflow.
    """

    dag_id: str
    run_id: str | None
    task: str


def awaited(connection: Connection, dag_id: str, run_id: str, task: str) -> AwaitedTask | None:
    """What a task of a group's DAG run waits for, or failed for; ``None``: nothing that has a page.

    :param task: in the spec.
    """
    query = select(group.c.id, group.c.campaign, campaign.c.base_campaign).join(
        request, request.c.group_id == group.c.id
    )
    query = query.join(campaign, campaign.c.name == group.c.campaign)
    here = connection.execute(query.where(request.c.dag_id == dag_id, request.c.run_id == run_id)).first()
    if here is None or not task:
        return None
    of_task = (group_task.c.group_id == here.id, group_task.c.task == task)
    stored = connection.execute(select(group_task.c.reason).where(*of_task)).scalar()
    for reason in [*_each(look(connection, [(here.id, task)])[here.id, task].reason), *_each(stored)]:
        if pending := reason.get("tasks") if reason.get("code") == "upstream_not_done" else None:
            return AwaitedTask(dag_id, run_id, airflow_task_id(str(pending[0][0])))
        for name in (here.campaign, here.base_campaign):
            if (found := _of_reason(connection, reason, name)) is not None:
                return found
    return None


def _each(reason: Reason | None) -> Iterator[Any]:
    """A reason's parts."""
    inner = (reason or {}).get("reason")
    parts = (reason or {}).get("reasons")
    if isinstance(parts, list):
        for part in parts:
            yield from _each(part)
    elif isinstance(inner, dict):
        yield from _each(inner)
    elif reason is not None:
        yield reason


def _of_reason(connection: Connection, reason: Reason, of_campaign: str | None) -> AwaitedTask | None:
    missing = reason.get("missing")
    named = [(run, status) for run, status in missing if run is not None] if isinstance(missing, list) else []
    # What has failed waits for a person, what runs does not.
    runs = [run for run, status in sorted(named, key=lambda one: not one[1].startswith("failed"))]
    if not runs or of_campaign is None:
        return None
    if reason.get("code") == "needs":
        workflow, _, task = str(reason["needs"]).partition(".")
        wanted = (group.c.workflow == workflow, group_task.c.task == task)
    elif reason.get("code") == "payload":
        # Who has published under the tag before is who will.
        made = select(group.c.workflow, payload.c.task).join(payload, payload.c.group_id == group.c.id)
        before = connection.execute(made.where(payload.c.tag == reason["tag"]).limit(1)).first()
        if before is None:
            return None
        wanted = (group.c.workflow == before.workflow, group_task.c.task == before.task)
    else:
        return None
    query = (
        select(group.c.workflow, group.c.grouping, group_task.c.task, request.c.run_id, request.c.state)
        .join(group_task, group_task.c.group_id == group.c.id)
        .join(membership, membership.c.group_id == group.c.id)
        .outerjoin(request, and_(request.c.group_id == group.c.id, request.c.state == "opened"))
        .where(group.c.campaign == of_campaign, membership.c.run == runs[0], *wanted)
    )
    row = connection.execute(query.limit(1)).first()
    if row is None:
        return None
    return AwaitedTask(f"{row.workflow}__{row.grouping}", row.run_id, airflow_task_id(row.task))
