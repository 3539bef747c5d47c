"""Amending: the only way in which a closed group changes, by a person, as its next edition (rule 51).

What is read and decided keeps nobody from writing; it is written in one transaction, which looks first whether all is
as it was read. Airflow is asked after it to run the tasks again: what died in between, housekeeping asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.locks.deadlines import WAITING, Limits
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.injection.amendments import (
    Amendment,
    AmendmentPlan,
    Change,
    check_idle,
    check_overlap,
    check_request,
    in_vain,
    others_made_before,
    planned,
)
from airflow_calib_provider.ledger import editions, exclusions, publication_deadlines, publications, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import TaskChange, change_tasks, group_by_id
from airflow_calib_provider.ledger.payload_states import CURRENT
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.payloads import intents, store

member, group, group_task, payload = tables.membership, tables.run_group, tables.group_task, tables.payload
request = tables.dag_run_request


@dataclass(frozen=True)
class Amended:
    """What became of it.

    :ivar runs: all that the group has now.
    :ivar first: the first of them, :ivar last: and the last one.
    :ivar stale: its tasks that run again.
    :ivar lessened: groups of late runs that have lost runs to it, :ivar absorbed: and those that have lost all.
    :ivar in_vain: ``task: workflow.task`` that it needs → added runs that are in no group there: it waits for ever.
    :ivar made_before: ``group of workflow: task`` of done tasks of others that were made from an earlier edition.
    :ivar group_ids: the groups whose tasks Airflow is to run again.
    """

    group: str
    workflow: str
    edition: int
    runs: Sequence[int]
    added: Sequence[int]
    removed: Sequence[int]
    stale: Sequence[str]
    lessened: Sequence[str]
    absorbed: Sequence[str]
    made_before: Sequence[str]
    in_vain: Mapping[str, Sequence[int]]
    group_ids: Sequence[int]

    @property
    def first(self) -> int:
        """The first run."""
        return min(self.runs)

    @property
    def last(self) -> int:
        """The last run."""
        return max(self.runs)


def amend(ledger: Ledger, group_id: int, wanted: Amendment, now: datetime) -> Amended:
    """Give a closed group its next edition.

    :raises CalibError: it cannot have these runs, or lose them; or one of its tasks runs. Nothing has changed then.
    :raises IllegalTransition: it was changed by somebody else meanwhile.
    """
    check_request(wanted)
    with ledger.read() as connection:
        plan = planned(connection, group_id, wanted)
        made_before = others_made_before(connection, plan)
    stale: dict[int, list[str]] = {}
    with ledger.write() as connection:
        _check_as_read(connection, plan)
        for change in plan.changes:
            stale[change.group.id] = _write(connection, change, plan.target.group, wanted, now)
        _write_members(connection, plan, wanted)
        for change in plan.changes:
            if change.runs:
                about = change.group
                skips.end_fully_skipped(connection, about.campaign, about.workflow, [about.id], now)
        crash_point("amend.before_commit", plan.target.group.name)
    crash_point("amend.after_commit", plan.target.group.name)
    with ledger.read() as connection:
        waits = in_vain(connection, plan)
    target = plan.target
    return Amended(
        group=target.group.name,
        workflow=target.group.workflow,
        edition=target.group.edition + 1,
        runs=sorted(target.runs),
        added=target.added,
        removed=target.removed,
        stale=stale[target.group.id],
        lessened=[one.group.name for one in plan.others if one.runs],
        absorbed=[one.group.name for one in plan.others if not one.runs],
        made_before=made_before,
        in_vain=waits,
        group_ids=[one.group.id for one in plan.changes if one.runs],
    )


def _check_as_read(connection: Connection, plan: AmendmentPlan) -> None:
    """:raises CalibError: a group was amended or begun, or a payload published, since all of it was read."""
    for change in plan.changes:
        now = group_by_id(connection, change.group.id)
        if (now.state, now.edition) != (change.group.state, change.group.edition):
            raise IllegalTransition(f"{now.name} was changed by somebody else meanwhile", "look again")
        check_idle(connection, now)
    check_overlap(connection, plan)


def _write(connection: Connection, change: Change, target: Group, wanted: Amendment, now: datetime) -> list[str]:
    """:returns: the tasks that run again."""
    row = change.group
    subject = Subject(row.campaign, row.workflow, group_name=row.name)
    about = {"edition": row.edition + 1, "person": wanted.person, "said": wanted.reason}
    if not change.runs:
        _absorb(connection, change, subject, target, now)
        return []
    draft = GroupDraft(Grouping.of_json(row.policy), first_run=row.first_run)
    for run, record in sorted(change.runs.items()):
        draft.add(RunFacts.frozen(run, record))
    columns = {
        "last_run": draft.last_run,
        "lowest_run": None if draft.first_run == row.first_run else draft.first_run,
        "amounts": draft.amounts,
        "fills": draft.fills,
        "start": draft.start,
        "end": draft.end,
        "edition": row.edition + 1,
    }
    reason = {"code": "amended", **about, "added": list(change.added), "removed": list(change.removed)}
    data = {"runs": list(change.added), "removed": list(change.removed), "reason": reason}
    said = {**data, "edition": row.edition + 1, "start": draft.start.isoformat() if draft.start else None}
    move(connection, group, [Move({"id": row.id}, "closed", "closed", subject, columns, said)])
    stale = _make_stale(connection, row, now)
    publication_deadlines.again(connection, row.id, stale, now)
    editions.settle(connection, [row.id])
    asked = connection.execute(select(request.c.state).where(request.c.group_id == row.id)).scalar()
    if stale:
        # Where nothing was left to do it counts again; one that was all skipped may have no DAG run yet.
        here = (group.c.id == row.id, group.c.opening.is_(None))
        connection.execute(update(group).where(*here).values(opening="asked" if asked else "queued"))
    key = {"group_id": row.id, "n": row.edition + 1}
    values = {
        "at": now,
        "person": wanted.person,
        "reason": wanted.reason,
        "runs": sorted(change.runs),
        "added": list(change.added),
        "removed": list(change.removed),
        "tasks": stale,
    }
    state = editions.TO_CLEAR if stale and asked else editions.SETTLED
    move(connection, tables.group_edition, [Move(key, None, state, subject, values, {"edition": row.edition + 1})])
    return stale


def _make_stale(connection: Connection, row: Group, now: datetime) -> list[str]:
    """What was made, or could not be made, of the edition before; and what had no runs to be made of."""
    query = select(group_task.c.task, group_task.c.state, group_task.c.reason).where(group_task.c.group_id == row.id)
    again = [
        one.task
        for one in connection.execute(query.order_by(group_task.c.position))
        if one.state in ("done", "failed")
        or (one.reason or {}).get("code") == editions.STALE
        or (one.state == "skipped" and (one.reason or {}).get("code") == "skipped")
    ]
    reason = {"code": editions.STALE, "edition": row.edition + 1}
    change_tasks(connection, [TaskChange(row.id, task, "new", reason) for task in again], now)
    _wait_anew(connection, row, again, now)
    return again


def _wait_anew(connection: Connection, row: Group, tasks: Sequence[str], now: datetime) -> None:
    """What tasks wait for now, such as for a run that was added, they have not waited for before: no deadline is over.

    One that counts from when they wait begins with that; each other is not over before it would be from now on.
    """
    lock = tables.lock
    columns = (lock.c.task, lock.c.position, lock.c.limits)
    query = select(*columns).where(lock.c.group_id == row.id, lock.c.task.in_(tasks), lock.c.limits.is_not(None))
    for one in connection.execute(query).all():
        limits = Limits.of_json(one.limits)
        until = None if limits.since == WAITING else now + limits.at_most
        own = (lock.c.group_id == row.id, lock.c.task == one.task, lock.c.position == one.position)
        connection.execute(update(lock).where(*own).values(deadline=until))


def _absorb(connection: Connection, change: Change, subject: Subject, target: Group, now: datetime) -> None:
    """A group of late runs that has none left ends; what it has made holds no longer."""
    row = change.group
    reason = {"code": "absorbed", "into": target.name, "edition": target.edition + 1}
    said = {"runs": [], "removed": list(change.removed), "reason": reason}
    columns = {"close_reason": reason, "opening": None}
    move(connection, group, [Move({"id": row.id}, "closed", "dropped", subject, columns, said)])
    tasks = connection.execute(select(group_task.c.task).where(group_task.c.group_id == row.id)).scalars().all()
    left = ("new", "waiting", "failed")
    change_tasks(connection, [TaskChange(row.id, task, "skipped", reason) for task in tasks], now, only=left)
    query = select_of(Payload, payload).add_columns(group.c.name.label("group_name"))
    query = query.join(group, group.c.id == payload.c.group_id)
    current = query.where(payload.c.group_id == row.id, payload.c.state.in_(CURRENT))
    rows = read_rows(connection, current, Payload)
    intents.refuse_on_its_way(*rows)
    for made in rows:
        store.end(connection, made, now, into=target.name)
    publications.hand_over(connection, row.id, target.id)
    editions.settle(connection, [row.id])


def _write_members(connection: Connection, plan: AmendmentPlan, wanted: Amendment) -> None:
    target = plan.target.group
    said = {"edition": target.edition + 1, "person": wanted.person, "said": wanted.reason}
    added: Reason = {"code": "added", "group": target.name, **said}
    removed: Reason = {"code": "removed", "group": target.name, **said}
    moves = [_member(target, run, plan.states[run], "grouped", target.id, added) for run in plan.target.added] + [
        _member(target, run, "grouped", "removed", None, removed) for run in plan.target.removed
    ]
    move(connection, member, moves)
    for one in plan.changes:
        exclusions.readmit(connection, one.group, [*one.added, *one.removed], one.group.edition + 1)


def _member(target: Group, run: int, state: str, wanted: str, group_id: int | None, reason: Reason) -> Move:
    key = {"campaign": target.campaign, "workflow": target.workflow, "grouping": target.grouping, "run": run}
    subject = Subject(target.campaign, target.workflow, run=run, group_name=target.name)
    return Move(key, state, wanted, subject, {"group_id": group_id, "reason": reason}, {"reason": reason})
