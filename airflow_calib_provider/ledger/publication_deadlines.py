"""Until when a group's payload is to be published: near, passed and met are told once each (rule 61)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from airflow_calib_provider.domain.locks.deadlines import Limits
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.payload_states import has_published
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import PublishBy, Task

COUNTING, NEAR, PASSED, MET, LIFTED = "counting", "near", "passed", "met", "lifted"

STREAMED = "streamed"
"""The kind of campaigns that take new data: what others process ended long ago, as late runs may have."""

FALLBACK = "fallback"
"""What happens when it has passed, besides that people are told: the payload before the group takes its place."""

AT_ONCE = 1_000
"""Rows that one transaction changes."""

SOON = datetime(1970, 1, 1, tzinfo=UTC)
"""When it is to be looked at one that does not count yet: as soon as its group takes no more runs."""

deadline, group, group_task = tables.publication_deadline, tables.run_group, tables.group_task


@dataclass(frozen=True)
class PublicationDeadline:
    """The deadline of one publication, as people are told of it.

    :ivar due: ``None``: it does not count yet, as the group takes runs.
    :ivar warn_before: how long before its end it is near.
    """

    state: str
    due: datetime | None
    limits: Limits
    warn_before: timedelta

    def standing(self, now: datetime) -> str:
        """Its state at a moment, of which nobody need have been told yet."""
        if self.due is None or self.state in (MET, LIFTED):
            return self.state
        return PASSED if now >= self.due else NEAR if now >= self.due - self.warn_before else COUNTING

    def reason(self, now: datetime) -> Reason | None:
        """How much time is left; ``None``: nothing is to be said."""
        if self.due is None or self.state in (MET, LIFTED):
            return None
        return _said(self.due, self.limits, self.standing(now), now)


def declare(connection: Connection, wanted: Iterable[tuple[int, Subject, Sequence[Task]]]) -> None:
    """Write the deadlines of tasks of groups that are new; there are none in campaigns of other than new data."""
    found = [
        (group_id, about, task.name, task.publish.by)
        for group_id, about, some in wanted
        for task in some
        if task.publish is not None and task.publish.by is not None
    ]
    if not found:
        return
    of = tables.campaign
    names = {about.campaign for _, about, _, _ in found}
    query = select(of.c.name).where(of.c.name.in_(names), of.c.kind == STREAMED)
    streamed = set(connection.execute(query).scalars())
    moves = [_declared(*one) for one in found if one[1].campaign in streamed]
    move(connection, deadline, moves)


def follow(connection: Connection, edited: Sequence[tuple[int, Task]]) -> None:
    """Let the deadlines of tasks that have not begun be those of an edited file."""
    publishing = {(group_id, task.name): task for group_id, task in edited if task.publish is not None}
    if not publishing:
        return
    ids = {group_id for group_id, _ in publishing}
    known = {(row.group_id, row.task): row for row in connection.execute(_with_group(ids)).all()}
    names = select(group.c.id, group.c.campaign, group.c.workflow, group.c.name).where(tables.one_of(group.c.id, ids))
    subjects = {row.id: row for row in connection.execute(names).all()}
    for key, task in publishing.items():
        by, row = task.publish.by if task.publish is not None else None, known.get(key)
        if by is None:
            if row is not None and row.state != LIFTED:
                move(connection, deadline, [_moved(row, LIFTED, {"look_at": None})])
        elif row is None:
            of = subjects[key[0]]
            move(
                connection, deadline, [_declared(key[0], Subject(of.campaign, of.workflow, None, of.name), key[1], by)]
            )
        elif any(getattr(row, name) != value for name, value in _columns(by).items()):
            move(connection, deadline, [_moved(row, COUNTING, {**_columns(by), "due": None, "look_at": SOON})])


def again(connection: Connection, group_id: int, task_names: Iterable[str], now: datetime) -> None:
    """Let those of an amended group count again, from the amendment at the earliest."""
    query = _with_group([group_id]).where(deadline.c.task.in_(sorted(task_names)), deadline.c.state != LIFTED)
    for row in connection.execute(query).all():
        limits = _limits(row)
        due = max(_due(row, limits), now + limits.at_most)
        move(connection, deadline, [_moved(row, COUNTING, _counting(row, due))])


def met(connection: Connection, group_id: int, task: str) -> None:
    """A task has published what its group is to have."""
    here = (deadline.c.task == task, deadline.c.state.not_in([MET, LIFTED]))
    for row in connection.execute(_with_group([group_id]).where(*here)).all():
        move(connection, deadline, [_moved(row, MET, {"look_at": None})])


def watch(ledger: Ledger, now: datetime) -> int:
    """Let those count whose groups are closed, and tell of those that are near or have passed.

    What is told is told in the transaction that remembers it: once, whoever dies.

    :returns: how many were changed.
    """
    changed = 0
    while True:
        with ledger.read() as connection:
            if connection.execute(pending(now).limit(1)).first() is None:
                return changed
        with ledger.write() as connection:
            rows = connection.execute(pending(now).limit(AT_ONCE)).all()
            by_columns: dict[tuple[str, ...], list[Move]] = {}
            for row in rows:
                made = _next(row, now)
                by_columns.setdefault(tuple(made.columns), []).append(made)
            for moves in by_columns.values():
                move(connection, deadline, moves)
        changed += len(rows)
        if len(rows) < AT_ONCE:
            return changed


def of_group(connection: Connection, group_id: int) -> dict[str, PublicationDeadline]:
    """Task → its deadline."""
    rows = connection.execute(select(deadline).where(deadline.c.group_id == group_id)).all()
    return {row.task: of_row(row) for row in rows}


def unmet(connection: Connection, group_ids: Iterable[int]) -> dict[tuple[int, str], PublicationDeadline]:
    """Group and task → its deadline, of those that count and are not met yet, by one statement."""
    here = (tables.one_of(deadline.c.group_id, group_ids), deadline.c.state.in_([COUNTING, NEAR, PASSED]))
    rows = connection.execute(select(deadline).where(*here, deadline.c.due.is_not(None))).all()
    return {(row.group_id, row.task): of_row(row) for row in rows}


def of_row(row: Any) -> PublicationDeadline:
    """The deadline of a row with the columns of its table."""
    return PublicationDeadline(row.state, row.due, _limits(row), timedelta(seconds=row.remind))


def pending(now: datetime) -> Select[Any]:
    """Those that begin to count, or of which something is to be said."""
    counts = or_(deadline.c.due.is_not(None), group.c.state != "forming")
    return _with_group().where(deadline.c.look_at <= now, counts).order_by(deadline.c.look_at)


def _with_group(ids: Iterable[int] | None = None) -> Select[Any]:
    here = and_(group_task.c.group_id == deadline.c.group_id, group_task.c.task == deadline.c.task)
    names = (group.c.campaign, group.c.workflow, group.c.name, group.c.end, group.c.closed_at, group.c.late)
    query = (
        select(
            deadline,
            *names,
            tables.campaign.c.kind,
            group.c.state.label("group_state"),
            group_task.c.state.label("task_state"),
            has_published(deadline.c.group_id, deadline.c.task).label("is_published"),
        )
        .join(group, group.c.id == deadline.c.group_id)
        .join(tables.campaign, tables.campaign.c.name == group.c.campaign)
        .outerjoin(group_task, here)
    )
    return query if ids is None else query.where(tables.one_of(deadline.c.group_id, ids))


def _next(row: Any, now: datetime) -> Move:
    """What becomes of a deadline that begins to count, or at which it is to be looked now."""
    is_of_the_past = row.due is None and (row.late or row.kind != STREAMED)
    if is_of_the_past or row.group_state == "dropped" or row.task_state in (None, "skipped"):
        return _moved(row, LIFTED, {"look_at": None})
    if row.is_published and row.task_state == "done":
        return _moved(row, MET, {"look_at": None})
    if row.due is None:
        due = _due(row, _limits(row))
        return _moved(row, COUNTING, _counting(row, due))
    if now >= row.due:
        return _moved(row, PASSED, {"look_at": None}, now)
    return _moved(row, NEAR, {"look_at": row.due}, now)


def _declared(group_id: int, about: Subject, task: str, by: PublishBy) -> Move:
    columns = {**_columns(by), "due": None, "look_at": SOON}
    subject = Subject(about.campaign, about.workflow, task, about.group_name)
    return Move({"group_id": group_id, "task": task}, None, COUNTING, subject, columns)


def _moved(row: Any, target: str, columns: Mapping[str, object], now: datetime | None = None) -> Move:
    due = columns.get("due", row.due)
    data: dict[str, object] = {"then": columns.get("then", row.then)}
    if isinstance(due, datetime):
        data |= {"due": due.isoformat()}
        if now is not None:
            data |= {"reason": _said(due, _limits(row), target, now)}
    subject = Subject(row.campaign, row.workflow, row.task, row.name)
    return Move({"group_id": row.group_id, "task": row.task}, row.state, target, subject, columns, data)


def _counting(row: Any, due: datetime) -> dict[str, object]:
    return {"due": due, "look_at": due - timedelta(seconds=row.remind)}


def _columns(by: PublishBy) -> dict[str, object]:
    remind = int(by.warn_before.total_seconds())
    return {"at_most": int(by.at_most.total_seconds()), "since": by.since, "remind": remind, "then": by.then}


def _limits(row: Any) -> Limits:
    return Limits(timedelta(seconds=row.at_most), row.since, row.then)


def _due(row: Any, limits: Limits) -> datetime:
    """When the time of a closed group is over."""
    found = limits.due(row.end, row.closed_at, None)
    assert found is not None, "the group is closed"
    return found


def _said(due: datetime, limits: Limits, state: str, now: datetime) -> Mapping[str, object]:
    left = int((due - now).total_seconds())
    then = {"then": FALLBACK} if limits.then == FALLBACK else {}
    return {"code": "publish_by", "at": due.isoformat(), "left": left, "state": state, "was": limits.words(due), **then}
