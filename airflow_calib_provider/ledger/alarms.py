"""What is amiss now and is no state of a task: raised once, with an event, and cleared when it is over (rule 68)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, exists, func, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger import source_reads, spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import TaskChange
from airflow_calib_provider.ledger.transitions import Move, Subject, move

SPEC_BROKEN, SOURCE_UNREADABLE = "spec_broken", "source_unreadable"
BACKEND_TROUBLE, HELD_JOBS, DEADLINE_NEAR = "backend_trouble", "held_jobs", "deadline_near"

PATIENCE = timedelta(minutes=10)
"""How long a batch system may be in trouble, or jobs held, before anybody is told: most of it is over by itself."""

_LONGEST_KEY = 300

alarm, generation, job, group = tables.alarm, tables.generation, tables.job, tables.run_group
group_task = tables.group_task


@dataclass(frozen=True)
class Alarm:
    """Something that is amiss.

    :ivar key: what, and where.
    """

    key: str
    code: str
    reason: Reason
    subject: Subject = field(default_factory=Subject)


def watch(ledger: Ledger, now: datetime) -> int:
    """Look at what is amiss, raise what is new, and clear what is over.

    :returns: how many were raised or cleared.
    """
    with ledger.read() as connection:
        changes = pending(connection, now)
    if not changes:
        return 0
    with ledger.write() as connection:
        changes = pending(connection, now)  # another process may have been faster
        move(connection, alarm, changes)
    return len(changes)


def note_near(connection: Connection, changes: Iterable[TaskChange], now: datetime) -> None:
    """Raise an alarm for each task whose lock has a deadline that has come near, once for each deadline."""
    near = [(change, at) for change in changes if (at := _near(change.reason)) is not None]
    if not near:
        return
    query = select(group.c.id, group.c.campaign, group.c.workflow, group.c.name)
    names = {
        row.id: row
        for row in connection.execute(query.where(tables.one_of(group.c.id, {one.group_id for one, _ in near})))
    }
    found = []
    for change, at in near:
        row = names[change.group_id]
        subject = Subject(row.campaign, row.workflow, change.task, row.name)
        key = _key("deadline", str(change.group_id), change.task, at)
        found.append(Alarm(key, DEADLINE_NEAR, change.reason or {}, subject))
    known = set(connection.execute(select(alarm.c.key).where(alarm.c.key.in_([one.key for one in found]))).scalars())
    move(connection, alarm, [_raised(one, None, now) for one in found if one.key not in known])


def _near(reason: Reason | None) -> str | None:
    """When a deadline ends that is near."""
    for one in _single(reason or {}):
        said = one.get("deadline")
        if isinstance(said, dict) and said.get("near"):
            return str(said.get("at"))
    return None


def _single(reason: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield reason
    for inner in reason.get("reasons") or ():
        yield from _single(inner)


def pending(connection: Connection, now: datetime) -> list[Move]:
    """What is to be raised, and what is to be cleared."""
    amiss = {one.key: one for one in _amiss(connection, now)}
    rows = {row.key: row for row in connection.execute(select(alarm).where(alarm.c.state == "raised")).all()}
    passed = set(_over(connection))
    cleared = [key for key, row in rows.items() if (key in passed) or _is_over(row, amiss)]
    new = [one for key, one in amiss.items() if key not in rows]
    was = set(connection.execute(select(alarm.c.key).where(alarm.c.key.in_([one.key for one in new]))).scalars())
    moves = [_raised(one, "cleared" if one.key in was else None, now) for one in new]
    return [*moves, *(_cleared(rows[key], now) for key in cleared)]


def _is_over(row: Any, amiss: Mapping[str, Alarm]) -> bool:
    return row.code != DEADLINE_NEAR and row.key not in amiss


def _over(connection: Connection) -> list[str]:
    """Alarms of deadlines whose tasks wait no more."""
    waits = exists().where(
        group.c.campaign == alarm.c.campaign,
        group.c.workflow == alarm.c.workflow,
        group.c.name == alarm.c.group_name,
        group_task.c.group_id == group.c.id,
        group_task.c.task == alarm.c.task,
        group_task.c.state == "waiting",
    )
    query = select(alarm.c.key).where(alarm.c.state == "raised", alarm.c.code == DEADLINE_NEAR, ~waits)
    return list(connection.execute(query).scalars())


def _raised(one: Alarm, before: str | None, now: datetime) -> Move:
    said = {"code": one.code, "reason": dict(one.reason)}
    return Move({"key": one.key}, before, "raised", one.subject, {**said, "since": now, **_names(one.subject)}, said)


def _cleared(row: Any, now: datetime) -> Move:
    about = Subject(row.campaign, row.workflow, row.task, row.group_name)
    return Move({"key": row.key}, "raised", "cleared", about, {"since": now}, {"code": row.code})


def _names(about: Subject) -> dict[str, object]:
    return {name: getattr(about, name) for name in ("campaign", "workflow", "task", "group_name")}


def _amiss(connection: Connection, now: datetime) -> Iterator[Alarm]:
    for name, trouble in spec_files.troubles(connection).items():
        is_workflow = name.partition("@")[0] not in spec_files.BESIDE
        subject = Subject(workflow=name) if is_workflow else Subject()
        # Another mistake of the same file is told anew.
        key = _key("spec", name, hashlib.sha256(repr(sorted(trouble.reason.items())).encode()).hexdigest()[:16])
        yield Alarm(key, SPEC_BROKEN, trouble.reason, subject)
    for source in source_reads.unreadable(connection):
        reason = {"code": "source_unreadable", "source": source.source, "said": source.said}
        yield Alarm(_key("source", source.source), SOURCE_UNREADABLE, reason)
    yield from _of_generations(connection, now)


def _of_generations(connection: Connection, now: datetime) -> Iterator[Alarm]:
    columns = (generation.c.id, generation.c.task, generation.c.n, generation.c.backend, generation.c.trouble)
    names = (group.c.campaign, group.c.workflow, group.c.name)
    here = select(*columns, *names).join(group, group.c.id == generation.c.group_id)
    troubled = here.where(
        generation.c.state == "running",
        generation.c.trouble.is_not(None),
        generation.c.trouble_since < now - PATIENCE,
    )
    for row in connection.execute(troubled).all():
        reason = {"code": "backend_trouble", "backend": row.backend, "message": row.trouble}
        yield Alarm(_key("backend", str(row.id)), BACKEND_TROUBLE, reason, _subject(row))
    # Of those that are released by themselves it is known when.
    held = (
        select(job.c.generation_id, func.count().label("n"), func.min(job.c.reason).label("why"))
        .join(generation, and_(generation.c.id == job.c.generation_id, generation.c.state == "running"))
        .where(job.c.state == "held", job.c.retry_at.is_(None))
        .group_by(job.c.generation_id)
    )
    counts = {row.generation_id: row for row in connection.execute(held).all()}
    if not counts:
        return
    for row in connection.execute(here.where(tables.one_of(generation.c.id, counts))).all():
        found = counts[row.id]
        reason = {"code": "live_jobs", "n_jobs": found.n, "state": "held", "message": found.why or "no reason is given"}
        yield Alarm(_key("held", str(row.id)), HELD_JOBS, reason, _subject(row))


def _subject(row: Any) -> Subject:
    return Subject(row.campaign, row.workflow, row.task, row.name, generation=row.n)


def _key(*parts: str) -> str:
    text = " ".join(parts)
    if len(text) <= _LONGEST_KEY:
        return text
    return f"{text[: _LONGEST_KEY - 20]} {hashlib.sha256(text.encode()).hexdigest()[:19]}"
