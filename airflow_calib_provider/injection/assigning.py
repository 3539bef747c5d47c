"""Assigning the runs of a source to the groups of one campaign and workflow, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from airflow_calib_provider.domain.grouping import Assignment, Grouping, RunFacts, assign, horizon
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.injection.selection import ADMITTED, Admission, Judge, Selector
from airflow_calib_provider.ledger import groups, skips, tables
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.models import Workflow

membership, run = tables.membership, tables.run


@dataclass
class InjectionReport:
    """What an injection did.

    :ivar source_changes: what the sources say otherwise of runs that are in groups already.
    :ivar errors: sources and workflows that could not be treated; the others were.
    """

    new_runs: int = 0
    changed_runs: int = 0
    assigned: int = 0
    late: int = 0
    not_selected: int = 0
    refused: int = 0
    groups_opened: int = 0
    groups_closed: int = 0
    requested: int = 0
    source_changes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pass:
    """One workflow in one campaign, now.

    :ivar members: a finite campaign's runs; ``None`` in a streamed one.
    :ivar skipped: runs that a person skipped here, with what was said.
    :ivar bound: runs below are assigned.
    :ivar begun: the workflow was injected into this campaign before.
    """

    campaign: str
    workflow: Workflow
    first_seen: datetime
    members: frozenset[int] | None
    skipped: Mapping[int, Mapping[str, Any]]
    bound: int
    begun: bool
    now: datetime

    @property
    def finite(self) -> bool:
        return self.members is not None


def assign_workflow(
    connection: Connection,
    campaign: Any,
    workflow: Workflow,
    listing: Sequence[RunRecord],
    judge: Judge,
    now: datetime,
    report: InjectionReport,
) -> None:
    """Assign what is new below the horizon, for every grouping of a workflow, and follow an edit of its spec.

    :param campaign: the campaign's row.
    :param listing: a complete read of the workflow's source.
    :param judge: has been asked about :func:`runs_to_judge`, so that no condition is evaluated while others wait.
    """
    here = _begin(connection, campaign, workflow, listing, now)
    groups.sync_tasks(connection, campaign.name, workflow, now)
    for label, policy in workflow.groupings().items():
        _assign_grouping(connection, here, label, policy, judge, report)


def runs_to_judge(
    connection: Connection,
    campaign: Any,
    workflow: Workflow,
    listing: Sequence[RunRecord],
    judge: Judge,
    now: datetime,
) -> list[Any]:
    """The runs about which :func:`assign_workflow` is going to ask the condition; nothing is changed."""
    here = _begin(connection, campaign, workflow, listing, now)
    selector = Selector(workflow.runs, judge, here.first_seen, here.members)
    rows = {row.number: row for label in workflow.groupings() for row in _unassigned(connection, here, label)}
    return [row for row in rows.values() if row.completed and selector.without_condition(row) is None]


def _begin(
    connection: Connection, campaign: Any, workflow: Workflow, listing: Sequence[RunRecord], now: datetime
) -> _Pass:
    selection = workflow.runs
    skipped = skips.skipped_in(connection, campaign.name, workflow.name)
    members = _members(connection, campaign, workflow)
    bound = horizon(
        (
            (record.number, record.completed, record.start, record.end)
            for record in listing
            if members is None or record.number in members
        ),
        now,
        settle=selection.settle,
        incomplete_after=selection.incomplete_after,
        passed=frozenset(skipped),
    )
    first_seen, begun = _first_seen(connection, workflow), _has_begun(connection, campaign.name, workflow.name)
    return _Pass(campaign.name, workflow, first_seen, members, skipped, bound, begun, now)


def _members(connection: Connection, campaign: Any, workflow: Workflow) -> frozenset[int] | None:
    if campaign.kind != "finite":
        return None
    listed = tables.campaign_run
    query = select(listed.c.run).where(listed.c.campaign == campaign.name, listed.c.source == workflow.runs.source)
    return frozenset(connection.execute(query).scalars())


def _first_seen(connection: Connection, workflow: Workflow) -> datetime:
    seen = tables.workflow_seen
    query = select(seen.c.first_seen_at).where(seen.c.workflow == workflow.name)
    return connection.execute(query).scalar_one()  # type: ignore[no-any-return]


def _has_begun(connection: Connection, campaign: str, workflow: str) -> bool:
    table = tables.grouping
    query = select(table.c.label).where(table.c.campaign == campaign, table.c.workflow == workflow)
    return connection.execute(query.limit(1)).first() is not None


def _assign_grouping(
    connection: Connection,
    here: _Pass,
    label: str,
    policy: Grouping,
    judge: Judge,
    report: InjectionReport,
) -> None:
    known = _grouping(connection, here, label)
    # A finite campaign takes all of its runs in one go, or waits: it is grouped completely before anything opens.
    if here.members is not None and not known.assigned_below and any(run >= here.bound for run in here.members):
        return
    selector = Selector(here.workflow.runs, judge, max(here.first_seen, known.first_seen_at), here.members)
    rows = _unassigned(connection, here, label)
    admissions = {row.number: _admit(row, selector, here) for row in rows}
    facts = [
        RunFacts(row.number, row.start, row.end, row.fields, admissions[row.number] is ADMITTED)
        for row in rows
        if row.number >= known.assigned_below
    ]
    forming = groups.forming_group(connection, here.campaign, here.workflow.name, label)
    assignment = assign(policy, forming, facts, here.now, final=here.finite, finite=here.finite)
    groups.store(connection, here.campaign, here.workflow, assignment.groups, here.now)
    _store_members(connection, here, label, rows, admissions, assignment, known.assigned_below, report)
    end_groups(connection, here.campaign, here.workflow.name, assignment, here.now)
    if here.bound > known.assigned_below:
        _advance_bound(connection, here, label)
    report.groups_opened += sum(1 for draft in assignment.groups if draft is not forming)
    report.groups_closed += sum(1 for draft in assignment.groups if draft.state == "closed")


def end_groups(connection: Connection, campaign: str, workflow: str, assignment: Assignment, at: datetime) -> None:
    """What follows for runs and tasks from the end of groups: dropped runs, and groups of nothing but skipped runs."""
    by_state: dict[str, list[int]] = {"closed": [], "dropped": [], "forming": []}
    for draft in assignment.groups:
        assert draft.id is not None
        by_state[draft.state].append(draft.id)
    groups.drop_members(connection, campaign, workflow, by_state["dropped"])
    skips.end_fully_skipped(connection, campaign, workflow, by_state["closed"], at)


def _grouping(connection: Connection, here: _Pass, label: str) -> Any:
    """The row that says how far the runs are assigned; made when the grouping is seen for the first time."""
    table = tables.grouping
    key = {"campaign": here.campaign, "workflow": here.workflow.name, "label": label}
    query = select(table).where(*(table.c[name] == value for name, value in key.items()))
    found = connection.execute(query).first()
    if found is None:
        # Those of the first injection are as old as the workflow; one that an edit adds takes no history (rule 10).
        seen = here.now if here.begun else here.first_seen
        connection.execute(insert(table).values(**key, assigned_below=0, first_seen_at=seen))
        found = connection.execute(query).one()
    return found


def _advance_bound(connection: Connection, here: _Pass, label: str) -> None:
    table = tables.grouping
    key = (table.c.campaign == here.campaign, table.c.workflow == here.workflow.name, table.c.label == label)
    connection.execute(update(table).where(*key).values(assigned_below=here.bound))


def _unassigned(connection: Connection, here: _Pass, label: str) -> list[Any]:
    """Runs below the bound of which nothing is recorded yet. Of a finite campaign only those between its runs are told
    that they are none of them: it does not concern itself with years before."""
    held = and_(
        membership.c.campaign == here.campaign,
        membership.c.workflow == here.workflow.name,
        membership.c.grouping == label,
        membership.c.run == run.c.number,
    )
    query = select(run).outerjoin(membership, held)
    query = query.where(
        run.c.source == here.workflow.runs.source, run.c.number < here.bound, membership.c.run.is_(None)
    )
    if here.members:
        query = query.where(run.c.number >= min(here.members))
    return list(connection.execute(query.order_by(run.c.number)).all())


def _admit(row: Any, selector: Selector, here: _Pass) -> Admission:
    if row.completed:
        return selector.admit(row)
    if here.members is not None and row.number not in here.members:
        return selector.admit(row)
    if row.number in here.skipped:
        return Admission("refused", {"code": "run_skipped", **here.skipped[row.number]})
    after = here.workflow.runs.incomplete_after
    if after is None or row.start is None or here.now - row.start <= after:
        return Admission("refused", {"code": "not_listed"})
    return Admission("refused", {"code": "incomplete_too_long", "after": format_duration(after)})


def _store_members(
    connection: Connection,
    here: _Pass,
    label: str,
    rows: Sequence[Any],
    admissions: Mapping[int, Admission],
    assignment: Assignment,
    assigned_below: int,
    report: InjectionReport,
) -> None:
    of_run = {number: draft for draft in assignment.groups for number in draft.added}
    moves = []
    for row in rows:
        draft = of_run.get(row.number)
        state, reason = _outcome(row.number, admissions[row.number], assignment, assigned_below)
        subject = Subject(
            campaign=here.campaign,
            workflow=here.workflow.name,
            run=row.number,
            group_name=groups.group_name(label, draft.first_run) if draft else None,
        )
        columns = {
            "source": row.source,
            "group_id": draft.id if draft else None,
            "reason": reason,
            "record": _frozen(row),
            "assigned_at": here.now,
        }
        key = {"campaign": here.campaign, "workflow": here.workflow.name, "grouping": label, "run": row.number}
        moves.append(Move(key, None, state, subject, columns, {"reason": reason} if reason else {}))
        report.assigned += state == "grouped"
        report.late += state == "late"
        report.not_selected += state == "not_selected"
        report.refused += state == "refused"
    move(connection, membership, moves)


def _outcome(number: int, admission: Admission, assignment: Assignment, assigned_below: int) -> tuple[str, Any]:
    if admission is not ADMITTED:
        return admission.state, admission.reason
    if number < assigned_below:
        return "late", {"code": "late", "assigned_below": assigned_below}
    if number in assignment.refused:
        return "refused", assignment.refused[number]
    return "grouped", None


def _frozen(row: Any) -> dict[str, Any]:
    return {
        **row.fields,
        "number": row.number,
        "start": row.start.isoformat() if row.start else None,
        "end": row.end.isoformat() if row.end else None,
        "files": list(row.files),
    }
