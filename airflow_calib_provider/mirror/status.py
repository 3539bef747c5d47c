"""How the mirror stands: lag, the last error, what was set aside, how many series there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

from sqlalchemy import Connection, Select, String, cast, func, literal, select, union

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import MirrorTarget
from airflow_calib_provider.mirror import aside, outbox, state
from airflow_calib_provider.mirror.sampling import lag_seconds

MANY_SERIES = 500_000
"""Above this it is time to think: InfluxDB 1.x refuses more than 1,000,000 by default."""

JOB_STATES = 8
LOCK_STATES = 3
GROUP_STATES = 3

group, group_task, membership = tables.run_group, tables.group_task, tables.membership
generation, attempt, event = tables.generation, tables.attempt, tables.event


class SetAside(TypedDict):
    """Points that a target would not have."""

    measurement: str
    reason: str
    points: int


@dataclass(frozen=True)
class TargetStatus:
    """How one target stands.

    :ivar lag_events: events that were not carried yet.
    :ivar lag_seconds: the age of the first of them.
    :ivar set_aside: points that it would not have: measurement, reason, how many.
    :ivar holes: ids below the cursor that may still turn up.
    """

    name: str
    place: str
    cursor: int
    last_event: int
    lag_events: int
    lag_seconds: float
    carried_now: bool
    last_success_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    in_trouble: bool
    skipped_by_retention: int
    holes: int
    note: str | None
    note_at: datetime | None
    set_aside: list[SetAside] = field(default_factory=list)


def of_targets(connection: Connection) -> list[TargetStatus]:
    """Every target to which anything was ever carried."""
    last = outbox.last_id(connection)
    return [_of_target(connection, row, last) for row in state.listed(connection)]


def _of_target(connection: Connection, row: MirrorTarget, last: int) -> TargetStatus:
    now = datetime.now(UTC)
    behind = select(func.count()).select_from(event).where(event.c.id > row.cursor)
    return TargetStatus(
        name=row.name,
        place=row.place,
        cursor=row.cursor,
        last_event=last,
        lag_events=int(connection.execute(behind).scalar_one()),
        lag_seconds=lag_seconds(connection, row.name, now),
        carried_now=row.held_until is not None and row.held_until > now,
        last_success_at=row.last_success_at,
        last_error=row.last_error,
        last_error_at=row.last_error_at,
        in_trouble=state.is_in_trouble(row),
        skipped_by_retention=row.skipped_by_retention,
        holes=sum(int(last_id - first + 1) for first, last_id, _ in row.holes),
        note=row.note,
        note_at=row.note_at,
        set_aside=[
            {"measurement": item.measurement, "reason": item.reason, "points": item.n}
            for item in aside.counted(connection, row.name)
        ],
    )


def series(connection: Connection) -> dict[str, int]:
    """How many combinations of tags each measurement has at most, from the ledger.

    States, which are few, are multiplied: every series counts that there can be.
    """
    tasks = select(group_task.c.task, group.c.workflow, group.c.campaign).join(
        group, group.c.id == group_task.c.group_id
    )
    runs = select(membership.c.run, group_task.c.task, membership.c.workflow, membership.c.campaign).join(
        group_task, group_task.c.group_id == membership.c.group_id
    )
    failures = (
        select(group.c.campaign, group.c.workflow, generation.c.task, attempt.c.failure)
        .join(generation, generation.c.group_id == group.c.id)
        .join(attempt, attempt.c.generation_id == generation.c.id)
    )
    locks = (
        select(
            group.c.campaign,
            group.c.workflow,
            tables.lock.c.task,
            tables.lock.c.kind,
            cast(tables.lock.c.parameters, String),
        )
        .join(tables.lock, tables.lock.c.group_id == group.c.id)
        .distinct()
    )
    values = (
        select(group.c.campaign, group.c.workflow, generation.c.task, tables.value.c.name)
        .join(generation, generation.c.group_id == group.c.id)
        .join(tables.value, tables.value.c.generation_id == generation.c.id)
    )
    payload = tables.payload
    of_payloads = select(payload.c.campaign, payload.c.workflow, payload.c.task, payload.c.tag, payload.c.state)
    groupings = select(group.c.campaign, group.c.workflow, group.c.grouping)
    workflows = union(select(group.c.campaign, group.c.workflow), select(literal(""), literal("")))
    return {
        "run_task": _count(connection, runs),
        "job": _count(connection, failures) * JOB_STATES,
        "group": _count(connection, groupings) * GROUP_STATES,
        "lock": (_count(connection, locks) + _count(connection, tasks)) * LOCK_STATES,
        "value": _count(connection, values),
        "payload": _count(connection, of_payloads),
        "system": int(connection.execute(select(func.count()).select_from(workflows.subquery())).scalar_one()),
    }


def _count(connection: Connection, query: Select[Any]) -> int:
    distinct = query.distinct().subquery()
    return int(connection.execute(select(func.count()).select_from(distinct)).scalar_one())
