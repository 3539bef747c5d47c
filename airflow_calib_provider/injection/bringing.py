"""Bringing runs into a streamed campaign that it lacks, as late ones (rules 50, 58)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, assign_late
from airflow_calib_provider.injection.assigning import frozen
from airflow_calib_provider.injection.ended import end_groups
from airflow_calib_provider.injection.selection import ADMITTED, Admissions
from airflow_calib_provider.ledger import groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Run, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.policy_data import as_read

member, run = tables.membership, tables.run

TOO_OLD = "before_first_seen"
"""The reason of runs that a streamed campaign lacks since they are older than the workflow."""


@dataclass
class Brought:
    """What has come into the campaign.

    :ivar grouped: runs that are in groups of late runs, :ivar late: and that are late, and in no group.
    :ivar undecided: runs of which nothing is decided in some grouping: they are not late, and come in by themselves.
    """

    grouped: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    undecided: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Lacking:
    """A run that is in no group.

    :ivar state: what was decided about it.
    """

    row: Run
    state: str


def bring_in(
    ledger: Ledger, campaign: str, workflow: Workflow, source: RunSource, numbers: Iterable[int], now: datetime
) -> Brought:
    """Let a workflow take completed runs that it lacks, in each of its groupings.

    These are late runs in no group, and runs that ended before the workflow was first seen. With ``late_runs:
    new_group`` they form groups among themselves, else they are late. Doing it again changes nothing. A grouping that
    waits for values of theirs cannot have them yet: its late runs are left to the next injections.

    :param numbers: of its source; they are written at once, as those of a day.
    :raises CalibError: its condition does not fit the source, or what a grouping is to follow cannot be read.
    """
    admissions, wanted, found = Admissions(workflow.runs, source), sorted(set(numbers)), Brought()
    for label, policy in workflow.groupings().items():
        with ledger.read() as connection:
            lacking = _lacking(connection, campaign, workflow, label, wanted)
            below = _assigned_below(connection, campaign, workflow.name, label)
            found.undecided |= _undecided(connection, campaign, workflow, label, wanted)
        taken = [one for one in lacking if admissions.admission(one.row) is ADMITTED]
        grouped = policy.late_runs == "new_group"
        policy = as_read(policy, Path(workflow.file).parent) if grouped else policy
        with ledger.write() as connection:
            if grouped and policy.awaits:
                found.undecided |= _leave_open(connection, campaign, workflow, label, taken)
                found.late |= _note_late(connection, campaign, workflow, policy, taken, below, now)
            elif grouped:
                found.grouped |= _group(connection, campaign, workflow, policy, taken, below, now)
            else:
                found.late |= _note_late(connection, campaign, workflow, policy, taken, below, now)
        crash_point("backfill.after_add", workflow.name)
    return found


def _lacking(
    connection: Connection, campaign: str, workflow: Workflow, grouping: str, numbers: Sequence[int]
) -> list[_Lacking]:
    here = (member.c.campaign == campaign, member.c.workflow == workflow.name, member.c.grouping == grouping)
    decided = (member.c.state.in_(["late", "not_selected"]), member.c.group_id.is_(None))
    query = select(member.c.run, member.c.state, member.c.reason).where(*here, *decided)
    states = {
        row.run: row.state
        for row in connection.execute(query.where(tables.one_of(member.c.run, numbers)))
        if row.state == "late" or (row.reason or {}).get("code") == TOO_OLD
    }
    of_source = and_(run.c.source == workflow.runs.source, run.c.completed, tables.one_of(run.c.number, states))
    rows = read_rows(connection, select_of(Run, run).where(of_source).order_by(run.c.number), Run)
    return [_Lacking(row, states[row.number]) for row in rows]


def _undecided(
    connection: Connection, campaign: str, workflow: Workflow, grouping: str, numbers: Sequence[int]
) -> set[int]:
    """The runs that no injection has decided about, as it has not seen them, or they are above the horizon."""
    here = (member.c.campaign == campaign, member.c.workflow == workflow.name, member.c.grouping == grouping)
    query = select(member.c.run).where(*here, tables.one_of(member.c.run, numbers))
    return set(numbers) - set(connection.execute(query).scalars())


def _assigned_below(connection: Connection, campaign: str, workflow: str, grouping: str) -> int:
    table = tables.grouping
    key = (table.c.campaign == campaign, table.c.workflow == workflow, table.c.label == grouping)
    return int(connection.execute(select(table.c.assigned_below).where(*key)).scalar() or 0)


def _group(
    connection: Connection,
    campaign: str,
    workflow: Workflow,
    policy: Grouping,
    taken: Sequence[_Lacking],
    below: int,
    now: datetime,
) -> set[int]:
    facts = [RunFacts(one.row.number, one.row.start, one.row.end, one.row.fields) for one in taken]
    drafts = assign_late(policy, None, facts, now).groups
    groups.store(connection, campaign, workflow, drafts, now)
    group_of = {number: draft for draft in drafts for number in draft.added}
    moves = [
        _moved(campaign, workflow, policy, one, "grouped", below, now, group_of[one.row.number])
        for one in taken
        if one.row.number in group_of
    ]
    move(connection, member, moves)
    end_groups(connection, campaign, workflow.name, drafts, now)
    return set(group_of)


def _leave_open(
    connection: Connection, campaign: str, workflow: Workflow, grouping: str, taken: Sequence[_Lacking]
) -> set[int]:
    """Let nothing be decided about late runs, so that injections wait for their values, and group them then."""
    late, table = {one.row.number for one in taken if one.state == "late"}, tables.grouping
    if late:
        here = (member.c.campaign == campaign, member.c.workflow == workflow.name, member.c.grouping == grouping)
        connection.execute(delete(member).where(*here, member.c.state == "late", tables.one_of(member.c.run, late)))
        of_it = (table.c.campaign == campaign, table.c.workflow == workflow.name, table.c.label == grouping)
        connection.execute(update(table).where(*of_it).values(source_serial=None))
    return late


def _note_late(
    connection: Connection,
    campaign: str,
    workflow: Workflow,
    policy: Grouping,
    taken: Sequence[_Lacking],
    below: int,
    now: datetime,
) -> set[int]:
    new = [one for one in taken if one.state != "late"]
    move(connection, member, [_moved(campaign, workflow, policy, one, "late", below, now, None) for one in new])
    return {one.row.number for one in new}


def _moved(
    campaign: str,
    workflow: Workflow,
    policy: Grouping,
    one: _Lacking,
    state: str,
    below: int,
    now: datetime,
    draft: GroupDraft | None,
) -> Move:
    key = {"campaign": campaign, "workflow": workflow.name, "grouping": policy.label, "run": one.row.number}
    name = groups.group_name(policy.label, draft.first_run) if draft is not None else None
    reason: Mapping[str, Any] = {"code": "late", "assigned_below": below}
    columns = {
        "group_id": draft.id if draft is not None else None,
        "reason": reason,
        "record": frozen(one.row),
        "assigned_at": now,
    }
    subject = Subject(campaign, workflow.name, run=one.row.number, group_name=name)
    return Move(key, one.state, state, subject, columns, {"reason": reason})
