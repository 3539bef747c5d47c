"""What can never come together of a campaign: runs of another source, and what its base campaign does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.domain.new_campaign import NewCampaign
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection.own_specs import begins
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.ledger import campaign_view, campaigns, spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.spec.models import Need, Workflow
from airflow_calib_provider.spec.team import team_of


def other_sources(wanted: NewCampaign, workflows: Mapping[str, Workflow]) -> list[CalibError]:
    """The workflows that are named, and would take none of the runs that are named.

    A campaign that collects may get runs of several sources; one at least takes those of the one that is named.
    """
    if wanted.streamed or wanted.source is None:
        return []
    named = [workflows[name] for name in dict.fromkeys(wanted.workflows) if name in workflows]
    others = [flow for flow in named if flow.runs.source != wanted.source]
    if wanted.collecting and len(others) < len(named):
        return []
    return [
        CalibError(
            f"{flow.name} takes its runs from {flow.runs.source}, not from {wanted.source}",
            f"name {flow.runs.source} with --source, or leave {flow.name} out",
        )
        for flow in others
    ]


def require_taken(ledger: Ledger, folder: Path, name: str, source: str) -> None:
    """Refuse to add runs to a campaign of which no workflow takes them.

    :param folder: of the YAML files.
    :raises CalibError: its workflows take their runs from other sources.
    :raises NotFound: there is no such campaign.
    """
    with ledger.read() as connection:
        row = campaigns.get(connection, name)
        kept = spec_files.kept_texts(connection, team_of(folder))
    known = serve(folder, lambda: kept).workflows
    if row.state != "collecting" or not all(one in known for one in row.spec_hashes):
        return  # it takes none at all, or nobody knows what those take that are not here
    sources = sorted({known[one].runs.source for one in row.spec_hashes})
    if sources and source not in sources:
        said = f"no workflow of the campaign {name} takes runs of {source}"
        raise CalibError(said, f"they take those of {', '.join(sources)}")


def unmet(
    connection: Connection,
    wanted: NewCampaign,
    base: str | None,
    workflows: Mapping[str, Workflow],
    first: Mapping[str, Sequence[str]],
    runs: Sequence[int],
) -> list[CalibError]:
    """What its tasks would wait for in vain: neither the campaign nor its base has it.

    :param workflows: those of the campaign.
    :param first: workflow → the tasks with which it begins.
    """
    there = None if wanted.streamed else base
    row = None if there is None else campaigns.get(connection, there)
    before = {name: begins(workflows[name], list(tasks))["before"] for name, tasks in first.items()}
    taken = [pair for flow in workflows.values() for pair in _taken(flow, before.get(flow.name, []), workflows)]
    found = [said for task, need in taken if (said := _not_there(row, task, need)) is not None]
    return found if found or not taken or row is None else _lacking(connection, row, runs)


def _taken(flow: Workflow, before: Sequence[str], workflows: Mapping[str, Workflow]) -> Iterator[tuple[str, Need]]:
    """What the tasks that are run need of tasks that are not, each with who needs it."""
    for task in flow.tasks.values():
        for need in () if task.name in before else task.needs:
            if need.task in before if need.workflow == flow.name else need.workflow not in workflows:
                yield f"{flow.name}.{task.name}", need


def _not_there(row: Campaign | None, task: str, need: Need) -> CalibError | None:
    what = f"{need.workflow}.{need.task}"
    if row is None:
        said = f"{task} needs {what}, and neither this campaign nor a base would have it"
        return CalibError(said, f"name the workflow {need.workflow}, too; or, of a finite one, a base with --base")
    if (further := campaign_view.taken_from(row, need.workflow, need.task)) is not None:
        said = f"{task} needs {what}, which the base {row.name} does not run itself: it took it from {further}"
        return CalibError(said, f"name {further} with --base, or begin with {need.task}, too")
    if row.spec_hashes and need.workflow not in row.spec_hashes:
        said = f"{task} needs {what}, and the base {row.name} has no workflow {need.workflow}"
        return CalibError(said, "name another with --base")
    return None


def _lacking(connection: Connection, row: Campaign, runs: Sequence[int]) -> list[CalibError]:
    """Runs that a base, whose own are fixed, will never have."""
    if row.kind != "finite" or row.state == "collecting":
        return []
    table = tables.campaign_run
    known = set(connection.execute(select(table.c.run).where(table.c.campaign == row.name)).scalars())
    lacking = [number for number in runs if number not in known]
    if not lacking:
        return []
    said = f"the base {row.name}, which has what comes before, lacks {len(lacking)} of these runs: {listed(lacking)}"
    return [CalibError(said, "leave them out, or name another base")]
