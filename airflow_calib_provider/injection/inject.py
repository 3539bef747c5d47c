"""Injection: from run sources to groups with tasks and locks in the ledger. Doing it twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import CalibError, LedgerError
from airflow_calib_provider.injection.selection import ADMITTED, Admission, Selector
from airflow_calib_provider.ledger import campaigns, groups, openings, runs, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.grouping import Assignment, RunFacts, assign, horizon
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.runsources.base import RunRecord
from airflow_calib_provider.spec.conditions import Condition
from airflow_calib_provider.spec.models import Grouping, RunSource, Workflow

membership, run = tables.membership, tables.run


@dataclass
class InjectionReport:
    """What an injection did.

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
    errors: list[str] = field(default_factory=list)


def inject(
    ledger: Ledger,
    workflows: Mapping[str, Workflow],
    sources: Mapping[str, RunSource],
    folder: Path,
    *,
    now: datetime,
    campaign: str | None = None,
    limits: openings.Limits | None = None,
) -> InjectionReport:
    """Record what the sources list, group it for every open campaign (or one), and ask for DAG runs.

    :param folder: where ``sources.yaml`` lies; relative paths in it start there.
    :raises NotFound: there is no such campaign.
    :raises LedgerError: the campaign is closed, or the ledger cannot be used.
    """
    report = InjectionReport()
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        chosen = _campaigns(connection, campaign)
        _note_workflows(connection, workflows.values(), now)
    needed = {workflow.runs.source for workflow in workflows.values()}
    listings: dict[str, Sequence[RunRecord]] = {}
    for name in sorted(needed & sources.keys()):
        try:
            listings[name] = read_source(sources[name], base_folder=folder)
        except CalibError as error:
            report.errors.append(f"run source {name}: {error}")
            continue
        with ledger.write() as connection:
            recorded = runs.record_runs(connection, name, listings[name], now)
        report.new_runs += recorded.new
        report.changed_runs += recorded.changed
    for row in chosen:
        for workflow in workflows.values():
            wanted = not row.spec_hashes or workflow.name in row.spec_hashes
            if wanted and workflow.runs.source in listings:
                _inject_workflow(ledger, row, workflow, listings[workflow.runs.source], now, report)
    with ledger.write() as connection:
        report.requested = openings.plan(connection, now, limits)
    return report


def _campaigns(connection: Connection, name: str | None) -> list[Any]:
    if name is None:
        return campaigns.open_campaigns(connection)
    row = campaigns.get(connection, name)
    if row.state != "open":
        raise LedgerError(f"the campaign {name} is closed", "nothing can be injected into it; create another")
    return [row]


def _note_workflows(connection: Connection, workflows: Iterable[Workflow], now: datetime) -> None:
    seen, text = tables.workflow_seen, tables.spec_text
    known = set(connection.execute(select(seen.c.workflow)).scalars())
    hashes = set(connection.execute(select(text.c.hash)).scalars())
    for workflow in workflows:
        if workflow.name not in known:
            connection.execute(insert(seen).values(workflow=workflow.name, first_seen_at=now))
        if workflow.hash not in hashes:
            row = {"hash": workflow.hash, "workflow": workflow.name, "text": workflow.text, "recorded_at": now}
            connection.execute(insert(text).values(**row))


def _inject_workflow(
    ledger: Ledger,
    campaign: Any,
    workflow: Workflow,
    listing: Sequence[RunRecord],
    now: datetime,
    report: InjectionReport,
) -> None:
    selection = workflow.runs
    with ledger.write() as connection:
        skipped = skips.skipped_runs(connection, campaign.name)
        bound = horizon(
            ((record.number, record.completed, record.start, record.end) for record in listing),
            now,
            settle=selection.settle,
            incomplete_after=selection.incomplete_after,
            passed=skipped,
        )
        selector = _selector(connection, campaign, workflow)
        groups.sync_tasks(connection, campaign.name, workflow, now)
        for label, policy in workflow.groupings().items():
            _assign_grouping(connection, campaign, workflow, label, policy, bound, selector, now, report)
        crash_point("inject.before_commit", workflow.name)
    crash_point("inject.after_commit", workflow.name)


def _selector(connection: Connection, campaign: Any, workflow: Workflow) -> Selector:
    seen, listed = tables.workflow_seen, tables.campaign_run
    first_seen = connection.execute(select(seen.c.first_seen_at).where(seen.c.workflow == workflow.name)).scalar_one()
    members = None
    if campaign.kind == "finite":
        query = select(listed.c.run).where(
            listed.c.campaign == campaign.name, listed.c.source == workflow.runs.source
        )
        members = frozenset(connection.execute(query).scalars())
    condition = Condition(workflow.runs.where).evaluate if workflow.runs.where else None
    return Selector(workflow.runs, condition, first_seen, members)


def _assign_grouping(
    connection: Connection,
    campaign: Any,
    workflow: Workflow,
    label: str,
    policy: Grouping,
    bound: int,
    selector: Selector,
    now: datetime,
    report: InjectionReport,
) -> None:
    assigned_below = _assigned_below(connection, campaign.name, workflow.name, label)
    rows = _unassigned(connection, campaign.name, workflow, label, bound)
    admissions = {row.number: _admit(row, selector, workflow, now) for row in rows}
    fresh = [row for row in rows if row.number >= assigned_below]
    facts = [
        RunFacts(row.number, row.start, row.end, row.fields, admissions[row.number].state == "grouped") for row in fresh
    ]
    finite = campaign.kind == "finite"
    # A finite campaign takes all of its runs in one go, or waits: it is grouped completely before anything opens.
    if finite and assigned_below == 0 and not _finite_is_complete(selector, bound):
        return
    forming = groups.forming_group(connection, campaign.name, workflow.name, label)
    assignment = assign(policy, forming, facts, now, final=finite, finite=finite)
    groups.store(connection, campaign.name, workflow, assignment.groups, now)
    _store_members(connection, campaign.name, workflow, label, rows, admissions, assignment, assigned_below, now, report)
    _drop(connection, campaign.name, workflow.name, assignment)
    if bound > assigned_below:
        _advance_bound(connection, campaign.name, workflow.name, label, bound)
    report.groups_opened += sum(1 for draft in assignment.groups if draft is not forming)
    report.groups_closed += sum(1 for draft in assignment.groups if draft.state == "closed")


def _drop(connection: Connection, campaign: str, workflow: str, assignment: Assignment) -> None:
    for draft in assignment.groups:
        if draft.state == "dropped" and draft.id is not None:
            groups.drop_members(connection, campaign, workflow, draft.id)


def _finite_is_complete(selector: Selector, bound: int) -> bool:
    return selector.members is not None and all(number < bound for number in selector.members)


def _assigned_below(connection: Connection, campaign: str, workflow: str, label: str) -> int:
    table = tables.grouping
    query = select(table.c.assigned_below).where(
        table.c.campaign == campaign, table.c.workflow == workflow, table.c.label == label
    )
    found = connection.execute(query).scalar()
    if found is None:
        row = {"campaign": campaign, "workflow": workflow, "label": label, "assigned_below": 0}
        connection.execute(insert(table).values(**row))
    return int(found or 0)


def _advance_bound(connection: Connection, campaign: str, workflow: str, label: str, bound: int) -> None:
    table = tables.grouping
    here = (table.c.campaign == campaign, table.c.workflow == workflow, table.c.label == label)
    connection.execute(update(table).where(*here).values(assigned_below=bound))


def _unassigned(connection: Connection, campaign: str, workflow: Workflow, label: str, bound: int) -> list[Any]:
    held = and_(
        membership.c.campaign == campaign,
        membership.c.workflow == workflow.name,
        membership.c.grouping == label,
        membership.c.run == run.c.number,
    )
    query = select(run).outerjoin(membership, held)
    query = query.where(run.c.source == workflow.runs.source, run.c.number < bound, membership.c.run.is_(None))
    return list(connection.execute(query.order_by(run.c.number)).all())


def _admit(row: Any, selector: Selector, workflow: Workflow, now: datetime) -> Admission:
    if row.completed:
        return selector.admit(row.number, row.start, row.end, row.fields)
    after = workflow.runs.incomplete_after
    if after is not None and row.start is not None and now - row.start > after:
        return Admission("refused", {"code": "incomplete_too_long", "after": str(after)})
    return Admission("refused", {"code": "run_skipped", "person": "a person", "reason": "see `calib explain`"})


def _store_members(
    connection: Connection,
    campaign: str,
    workflow: Workflow,
    label: str,
    rows: Sequence[Any],
    admissions: Mapping[int, Admission],
    assignment: Assignment,
    assigned_below: int,
    now: datetime,
    report: InjectionReport,
) -> None:
    of_run = {number: draft for draft in assignment.groups for number in draft.added}
    moves = []
    for row in rows:
        draft = of_run.get(row.number)
        state, reason = _outcome(row.number, admissions[row.number], assignment, assigned_below)
        moves.append(
            Move(
                {"campaign": campaign, "workflow": workflow.name, "grouping": label, "run": row.number},
                None,
                state,
                Subject(
                    campaign=campaign,
                    workflow=workflow.name,
                    run=row.number,
                    group_name=groups.group_name(label, draft.first_run) if draft else None,
                ),
                {
                    "source": row.source,
                    "group_id": draft.id if draft else None,
                    "reason": reason,
                    "record": _frozen(row),
                    "assigned_at": now,
                },
                {"reason": reason} if reason else {},
            )
        )
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


def close_campaign(ledger: Ledger, workflows: Mapping[str, Workflow], name: str, now: datetime) -> int:
    """Close a campaign: what is still forming meets its ``tail`` rule, then nothing is injected any more.

    :returns: the number of groups that were still forming.
    """
    table = tables.run_group
    with ledger.write() as connection:
        campaigns.get(connection, name)
        forming = connection.execute(
            select(table.c.workflow, table.c.grouping).where(table.c.campaign == name, table.c.state == "forming")
        ).all()
        for row in forming:
            draft = groups.forming_group(connection, name, row.workflow, row.grouping)
            assert draft is not None
            if row.workflow not in workflows:
                raise LedgerError(
                    f"the workflow {row.workflow} has a forming group, but its spec is not there",
                    "restore its YAML file, or name the folder with --specs",
                )
            assignment = assign(draft.policy, draft, [], now, final=True)
            groups.store(connection, name, workflows[row.workflow], assignment.groups, now)
            _drop(connection, name, row.workflow, assignment)
        campaigns.close(connection, name)
        openings.plan(connection, now)
    return len(forming)
