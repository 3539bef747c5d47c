"""The specs that finite campaigns have of their own, beside those of now (rule 53)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select, update

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import CalibError, LedgerError, Mistakes, NotFound
from airflow_calib_provider.injection.selection import Admissions
from airflow_calib_provider.injection.serving import Served, serve
from airflow_calib_provider.ledger import campaign_view, campaigns, spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, FirstTasks
from airflow_calib_provider.ledger.spec_files import KeptText
from airflow_calib_provider.spec import overrides
from airflow_calib_provider.spec.loader import with_categories
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.team import team_of

group, grouping = tables.run_group, tables.grouping


def as_injected(
    ledger: Ledger,
    campaign: Campaign,
    workflow: Workflow,
    admissions: Admissions,
    sources: Mapping[str, RunSource],
    categories: Mapping[str, str],
) -> tuple[Workflow, Admissions]:
    """A workflow as a campaign takes its runs into it, whether or not that fits the DAGs of now.

    :param workflow: as its file is now, with its conditions.
    :param categories: as their file is now: those that the own spec names.
    """
    if campaign_view.is_as_written(campaign, workflow):
        return workflow, admissions
    with ledger.read() as connection:
        own = campaign_view.own_spec(connection, campaign, workflow)
    if own is not workflow:
        own = with_categories(own, categories)
    found = campaign_view.applied(campaign, own)
    if own.runs != workflow.runs and own.runs.source in sources:
        admissions = Admissions(own.runs, sources[own.runs.source])
    return found, admissions


def note_changes(ledger: Ledger, workflows: Mapping[str, Workflow]) -> None:
    """Remember which finite campaigns with something left to do have specs that do not fit the DAGs of now."""
    known: dict[tuple[str, str], list[str]] = {}
    with ledger.read() as connection:
        wanted = [
            (campaign, workflows[name], reason)
            for campaign, name, reason in _with_own_specs(connection)
            if name in workflows
        ]
        news = []
        for campaign, workflow, before in wanted:
            own_hash = campaign.spec_hashes[workflow.name]
            if (key := (own_hash, workflow.hash)) not in known:
                own = campaign_view.own_spec(connection, campaign, workflow)
                known[key] = campaign_view.differences(own, workflow)
            reason = campaign_view.spec_changed(campaign, workflow.name, known[key]) if known[key] else None
            if reason != before:
                news.append((campaign.name, workflow.name, reason))
    for name, of, reason in news:
        note(ledger, name, of, reason)


def note(ledger: Ledger, name: str, workflow: str, reason: Mapping[str, object] | None) -> None:
    """Remember whether the own spec of a campaign fits the DAGs."""
    with ledger.write() as connection:
        row = campaigns.get(connection, name)
        here = (grouping.c.campaign == name, grouping.c.workflow == workflow)
        connection.execute(update(grouping).where(*here).values(spec_changed=None if reason is None else dict(reason)))
        changes = [] if reason is None else reason["changes"]
        if row.state != "cancelled":
            campaigns.change(connection, row, row.state, {}, {"workflow": workflow, "spec_changed": changes})


def _with_own_specs(connection: Connection) -> list[tuple[Campaign, str, Mapping[str, object] | None]]:
    """Campaigns and workflows with groups that are not over, and what was noted of them."""
    left = (
        select(group.c.campaign, group.c.workflow)
        .where(group.c.opening.in_(["queued", "ready", "asked"]))
        .distinct()
        .subquery()
    )
    query = select(grouping.c.campaign, grouping.c.workflow, grouping.c.spec_changed).join(
        left, (left.c.campaign == grouping.c.campaign) & (left.c.workflow == grouping.c.workflow)
    )
    noted = {(row.campaign, row.workflow): row.spec_changed for row in connection.execute(query)}
    found = {name: campaigns.get(connection, name) for name in sorted({name for name, _ in noted})}
    return [
        (found[name], workflow, reason)
        for (name, workflow), reason in sorted(noted.items())
        if found[name].kind == "finite" and workflow in found[name].spec_hashes and found[name].state != "cancelled"
    ]


@dataclass(frozen=True)
class Updated:
    """What an update did.

    :ivar workflows: those whose versions of now the campaign has from here on.
    """

    campaign: str
    workflows: list[str]


def update_specs(ledger: Ledger, folder: Path, name: str, now: datetime, *, person: str = "") -> Updated:
    """Let a finite campaign take the versions of now of its workflows; what is done stays as it was made.

    :param folder: of the YAML files.
    :raises CalibError: what the campaign sets, or where it begins, does not fit them; nothing was changed.
    """
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
        row = campaigns.get(connection, name)
    if row.kind != "finite" or row.state == "cancelled":
        said = "is cancelled" if row.state == "cancelled" else "has no version of its own: it follows the files"
        raise LedgerError(f"the campaign {name} {said}", "nothing was changed")
    served = serve(folder, lambda: kept)
    flows = {one: served.to_inject[one] for one in row.spec_hashes if one in served.to_inject}
    newer = {one: flow for one, flow in flows.items() if flow.hash != row.spec_hashes[one]}
    mistakes = _not_served(served, folder, row)
    first = {one: begin for one, begin in row.first_tasks.items() if one not in newer}
    for one, flow in newer.items():
        mistakes += _unfit(row, flow, served.sources.get(flow.runs.source))
        if one in row.first_tasks:
            first[one] = begins(flow, row.first_tasks[one]["first"])
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else Mistakes(f"the campaign {name}", mistakes)
    if newer:
        _write(ledger, row, newer, first, now, person)
    return Updated(name, sorted(newer))


def _not_served(served: Served, folder: Path, row: Campaign) -> list[CalibError]:
    """Workflows of a campaign of which nobody can say how they are now."""
    found: list[CalibError] = []
    for one in row.spec_hashes:
        trouble = served.troubles.get(one)
        if trouble is not None and trouble.reason["code"] != "workflow_gone":
            found.append(CalibError(render(trouble.reason), "correct it: `calib spec check`"))
        elif one not in served.workflows:
            said = f"{folder} has no workflow {one} any more, which the campaign {row.name} has"
            found.append(NotFound(said, nearest(one, served.workflows) or "it keeps its own version"))
    return found


def begins(workflow: Workflow, first: list[str]) -> FirstTasks:
    """Where a campaign begins in a workflow: what does not come after is not run."""
    after = workflow.from_on(first)
    return {"first": list(first), "before": [task for task in workflow.tasks if task not in after]}


def _unfit(row: Campaign, flow: Workflow, source: RunSource | None) -> list[CalibError]:
    places = row.overrides.get(flow.name, {})
    said = overrides.unfit(flow, places)
    if not said and places:
        said += overrides.mistakes_of(flow, places, source)
    found = [CalibError(text, "the campaign keeps its own version; create another") for text in said]
    for task in row.first_tasks.get(flow.name, {"first": [], "before": []})["first"]:
        if task not in flow.tasks:
            hint = nearest(task, flow.tasks)
            found.append(CalibError(f"{flow.name} has no task {task} any more, with which the campaign begins", hint))
    return found


def _write(
    ledger: Ledger,
    row: Campaign,
    newer: Mapping[str, Workflow],
    first: Mapping[str, FirstTasks],
    now: datetime,
    person: str,
) -> None:
    hashes = {**row.spec_hashes, **{name: flow.hash for name, flow in newer.items()}}
    with ledger.write() as connection:
        for flow in newer.values():
            kept = KeptText(flow.name, Path(flow.file).name, flow.hash, flow.text, now)
            spec_files.keep_text(connection, kept)
        columns = {"spec_hashes": hashes, "first_tasks": dict(first)}
        campaigns.change(connection, row, row.state, columns, {"updated": sorted(newer), "by": person})
        here = (grouping.c.campaign == row.name, grouping.c.workflow.in_(list(newer)))
        connection.execute(update(grouping).where(*here).values(spec_changed=None))
