"""Injection: from run sources to groups with tasks and locks in the ledger. Doing it twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from airflow_calib_provider.domain.grouping import assign
from airflow_calib_provider.errors import CalibError, IllegalTransition, LedgerError, SpecError, SpecErrors
from airflow_calib_provider.injection import own_specs
from airflow_calib_provider.injection.assigning import InjectionReport, assign_workflow
from airflow_calib_provider.injection.ended import drop_in_parts, end_groups
from airflow_calib_provider.injection.reading import read_sources
from airflow_calib_provider.injection.selection import Admissions, Outcomes
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.injection.teams import Bundles, Neighbours, check_bundle, refuse_taken
from airflow_calib_provider.ledger import campaigns, groups, open_groups, openings, planner, spec_files, tables
from airflow_calib_provider.ledger.asking import ask_for_queued
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, Run
from airflow_calib_provider.ledger.spec_files import KeptText
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.team import team_of

__all__ = ["InjectionReport", "close_campaign", "inject", "inject_folder"]


def inject(
    ledger: Ledger,
    workflows: Mapping[str, Workflow],
    sources: Mapping[str, RunSource],
    folder: Path,
    *,
    now: datetime,
    campaign: str | None = None,
    limits: openings.OpeningLimits | None = None,
    categories: Mapping[str, str] | None = None,
) -> InjectionReport:
    """Record what the sources list, group it for every open campaign (or one), and ask for DAG runs.

    :param folder: where ``sources.yaml`` lies; relative paths in it start there.
    :param categories: the conditions that are named once, by name, for campaigns with specs of their own.
    :raises NotFound: there is no such campaign.
    :raises LedgerError: the campaign is closed, or the ledger cannot be used.
    """
    report = InjectionReport()
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        chosen = _campaigns(connection, campaign)
        _note_workflows(connection, workflows.values(), now)
    readable = read_sources(ledger, workflows, sources, folder, now, report)
    admissions_of = _admissions([flow for flow in workflows.values() if flow.runs.source in readable], sources, report)
    known = _Known(workflows, sources, admissions_of, {}, categories or {})
    for row in chosen:
        _inject_campaign(ledger, row, known, now, report)
    own_specs.note_changes(ledger, workflows)
    if report.new_runs + report.assigned >= planner.MANY:
        planner.refresh(ledger)
    ask_for_queued(ledger)
    about = openings.ready_beyond(ledger)
    with ledger.write() as connection:
        report.requested = openings.plan(connection, now, limits, about)
    return report


def _campaigns(connection: Connection, name: str | None) -> list[Campaign]:
    if name is None:
        return campaigns.open_campaigns(connection)
    row = campaigns.get(connection, name)
    if row.kind == campaigns.DAGS:
        raise LedgerError(f"the campaign {name} takes no runs", "name another")
    if row.state == "collecting":
        raise LedgerError(f"the campaign {name} is collecting runs", f"`calib campaign start {name}` begins it")
    if not campaigns.takes_runs(row):
        said = row.state if row.closed_at is None else "closed"
        raise LedgerError(f"the campaign {name} is {said}", "nothing can be injected into it; create another")
    return [row]


def _note_workflows(connection: Connection, workflows: Iterable[Workflow], now: datetime) -> None:
    seen = tables.workflow_seen
    known = set(connection.execute(select(seen.c.workflow)).scalars())
    wanted = list(workflows)
    for name in dict.fromkeys(workflow.name for workflow in wanted if workflow.name not in known):
        connection.execute(insert(seen).values(workflow=name, first_seen_at=now))
    files = ((item, Path(item.file).name) for item in wanted)
    spec_files.note_texts(connection, [KeptText(item.name, file, item.hash, item.text, now) for item, file in files])


def inject_folder(
    ledger: Ledger,
    folder: Path,
    *,
    now: datetime,
    campaign: str | None = None,
    limits: openings.OpeningLimits | None = None,
    bundles: Bundles | None = None,
) -> tuple[InjectionReport, list[SpecError]]:
    """Inject what a folder of specs says; where a file has mistakes, what its last good text said (rule 43).

    :param bundles: of the Airflow whose folder it is.
    :returns: the report, and every mistake of the files.
    :raises NotFound: as :func:`inject`.
    :raises LedgerError: likewise.
    :raises SpecErrors: the run sources cannot be read, and were never good.
    """
    team = team_of(folder)
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team)
        neighbours = Neighbours.read(connection, team, bundles)
    served = serve(folder, lambda: kept)
    if bundles is not None:
        check_bundle(neighbours.owners, team, bundles, served.workflows)
    if not served.sources and served.sources_text is None and served.errors:
        raise SpecErrors(served.errors)
    refuse_taken(served, neighbours, folder, next((x.text for x in kept if x.workflow == spec_files.SOURCES), None))
    with ledger.write() as connection:
        where = (None, None) if bundles is None else (bundles.own, bundles.version)
        spec_files.note_good(connection, served.texts(now), team, *where)
        spec_files.note_troubles(connection, served.troubles, now, team)
    report = inject(
        ledger,
        served.to_inject,
        served.sources,
        folder,
        now=now,
        campaign=campaign,
        limits=limits,
        categories=served.categories,
    )
    return report, served.errors


def _admissions(
    workflows: Iterable[Workflow], sources: Mapping[str, RunSource], report: InjectionReport
) -> dict[str, Admissions]:
    """Every condition is compiled once. One that does not fit the source any more does not hold back the others."""
    admissions_of, outcomes = {}, Outcomes()
    for workflow in workflows:
        try:
            admissions_of[workflow.name] = Admissions(workflow.runs, sources[workflow.runs.source], outcomes)
        except CalibError as error:
            report.errors.append(f"workflow {workflow.name}: {error}")
    return admissions_of


@dataclass(frozen=True)
class _Known:
    """What an injection knows for all campaigns.

    :ivar admissions_of: workflow → its conditions, as far as they can be used.
    :ivar rows_of: source → the runs of it that were read, by number.
    :ivar categories: category → its condition.
    """

    workflows: Mapping[str, Workflow]
    sources: Mapping[str, RunSource]
    admissions_of: Mapping[str, Admissions]
    rows_of: dict[str, dict[int, Run]]
    categories: Mapping[str, str]


def _inject_campaign(ledger: Ledger, campaign: Campaign, known: _Known, now: datetime, report: InjectionReport) -> None:
    """Assign the runs of a campaign; a finite one whose last workflow is grouped completely may open (rule 53)."""
    concerned = [
        flow for name, flow in known.workflows.items() if not campaign.spec_hashes or name in campaign.spec_hashes
    ]
    complete = bool(concerned)
    for workflow in concerned:
        if workflow.name not in known.admissions_of:
            complete = False
            continue
        complete &= _inject_workflow(ledger, campaign, workflow, known, now, report)
    if complete and campaign.kind == "finite" and campaign.grouped_at is None:
        with ledger.write() as connection:
            campaigns.note_grouped(connection, campaign.name, now)


def _inject_workflow(
    ledger: Ledger,
    campaign: Campaign,
    workflow: Workflow,
    known: _Known,
    now: datetime,
    report: InjectionReport,
) -> bool:
    """:returns: whether all of a finite campaign's runs are assigned."""
    try:
        admissions = known.admissions_of[workflow.name]
        now_are = (known.sources, known.categories)
        flow, admissions = own_specs.as_injected(ledger, campaign, workflow, admissions, *now_are)
        rows = known.rows_of.setdefault(flow.runs.source, {})
        return assign_workflow(ledger, campaign, flow, admissions, rows, now, report)
    except CalibError as error:
        if isinstance(error, LedgerError) and not isinstance(error, IllegalTransition):
            raise
        report.errors.append(f"workflow {workflow.name} in campaign {campaign.name}: {error}")
        return False


def close_campaign(ledger: Ledger, workflows: Mapping[str, Workflow], name: str, now: datetime) -> int:
    """Close a campaign: what is still forming meets its ``tail`` rule, then nothing is injected any more.

    :returns: the number of groups that were still forming.
    """
    with ledger.read() as connection:
        is_open = campaigns.get(connection, name).state == "open"
        dropped = _dropped_at_last(connection, name, now) if is_open else []
    for workflow, group_id in dropped:
        drop_in_parts(ledger, name, workflow, [group_id])
    with ledger.write() as connection:
        campaigns.get(connection, name)
        forming = _forming(connection, name)
        for row in forming:
            draft = open_groups.forming_group(connection, name, row.workflow, row.grouping, late=row.late)
            assert draft is not None
            if row.workflow not in workflows:
                raise LedgerError(
                    f"the workflow {row.workflow} has a forming group, but its spec is not there",
                    "restore its YAML file, or name the folder with --specs",
                )
            assignment = assign(draft.policy, draft, [], now, final=True)
            groups.store(connection, name, workflows[row.workflow], assignment.groups, now)
            end_groups(connection, name, row.workflow, assignment.groups, now)
        campaigns.close(connection, name)
        openings.plan(connection, now)
    return len(forming)


def _forming(connection: Connection, campaign: str) -> list[Any]:
    table = tables.run_group
    here = (table.c.campaign == campaign, table.c.state == "forming")
    return list(connection.execute(select(table.c.workflow, table.c.grouping, table.c.late).where(*here)).all())


def _dropped_at_last(connection: Connection, campaign: str, now: datetime) -> list[tuple[str, int]]:
    """The workflows and ids of the groups that are dropped where nothing will follow."""
    found = []
    for row in _forming(connection, campaign):
        draft = open_groups.forming_group(connection, campaign, row.workflow, row.grouping, late=row.late)
        if draft is not None and draft.id is not None:
            assign(draft.policy, draft, [], now, final=True)
            if draft.state == "dropped":
                found.append((row.workflow, draft.id))
    return found
