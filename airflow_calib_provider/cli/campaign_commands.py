"""``calib campaign``: named passes over runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli import campaign_show, campaign_steering
from airflow_calib_provider.cli.common import (
    SPECS,
    Json,
    Specs,
    examples,
    open_ledger,
    person,
    source_named,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.domain.new_campaign import PreparedCampaign
    from airflow_calib_provider.domain.run import RunRecord

NewName = Annotated[str, typer.Argument(help="Its name; never used twice.")]
Streamed = Annotated[
    bool, typer.Option("--streamed/--finite", help="Takes new runs as they come, or these runs and no others.")
]
Collecting = Annotated[bool, typer.Option("--collecting", help="Finite: runs are added until `calib campaign start`.")]
Source = Annotated[
    str | None,
    typer.Option("--source", "-S", help="Finite: the run source, where it is not the only one of its workflows."),
]
Runs = Annotated[
    str | None, typer.Option("--runs", help="Finite: ranges and numbers; all that the source lists if left out.")
]
Base = Annotated[str | None, typer.Option("--base", help="Whose payloads are used where it has none.")]
Workflows = Annotated[
    list[str] | None, typer.Option("--workflow", "-w", help="Only this workflow (repeatable); all if left out.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A param, backend or resource otherwise than the file's."),
]
First = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="TASK", help="Begin with this task; what comes before is the base's."),
]
Order = Annotated[str, typer.Option("--order", help="Which groups open first: ascending (oldest), or newest.")]
Priority = Annotated[int, typer.Option("--priority", "-p", help="Higher ones open first, but prompt before all.")]
MaxGroups = Annotated[
    int | None, typer.Option("--max-groups", help="So many groups may be open at once; no limit if left out.")
]
MaxJobs = Annotated[
    int | None, typer.Option("--max-jobs", help="So many jobs may be submitted at once; no limit if left out.")
]

app = typer.Typer(help="Campaigns: named passes over runs.", no_args_is_help=True)
campaign_steering.register(app)
campaign_show.register(app)


@app.command(
    epilog=examples(
        'calib campaign create rereco-2026A --source daq --runs "355100-355999,356005" --base prompt',
        "calib campaign create all-again --source daq --workflow zee --order newest --max-jobs 500",
        "calib campaign create wide --source daq -w zee --set window=4 --set zee.resources.memory=4GB --from fit",
        "calib campaign create week-42 --collecting --source daq",
        "calib campaign create testbeam --streamed",
    )
)
def create(
    name: NewName,
    streamed: Streamed = False,
    collecting: Collecting = False,
    source: Source = None,
    runs: Runs = None,
    base: Base = None,
    workflow: Workflows = None,
    override: Set = None,
    first: First = None,
    order: Order = "ascending",
    priority: Priority = 0,
    max_groups: MaxGroups = None,
    max_jobs: MaxJobs = None,
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Create a campaign: finite (a reprocessing of given runs, the default), or streamed.

    A finite campaign's runs are fixed now, those of the range that the source lists at this moment, and its workflows,
    as they are now. With --collecting runs can be added until it is started.

    --set (repeatable) gives a declared param, the backend or a resource another value: window=4 in every workflow that
    declares it, zee.window=4 in one. --from (repeatable) begins in the middle: tasks that do not come after are not
    run, and what is needed of them is taken from the base campaign (prompt if left out).

    All mistakes are told at once, and then nothing is created. Trigger calib_inject with the campaign's name, or wait
    for its next run.
    """
    from airflow_calib_provider.api.campaigning import create_campaign
    from airflow_calib_provider.domain.new_campaign import NewCampaign

    wanted = NewCampaign(
        name=name,
        streamed=streamed,
        collecting=collecting,
        source=source,
        runs=runs,
        base=base,
        workflows=workflow or [],
        overrides=assignments(override or []),
        first_tasks=first or [],
        order=order,
        priority=priority,
        max_groups=max_groups,
        max_jobs=max_jobs,
    )
    _tell(create_campaign(open_ledger(), specs, wanted, person=person()), as_json)


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """``["window=4"]`` as a mapping.

    :raises CommandLineError: one is something else, or a name is set twice.
    """
    from airflow_calib_provider.errors import CommandLineError

    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise CommandLineError(f"--set {text[:80]!r} sets nothing", "write NAME=VALUE, such as --set window=4")
        if name.strip() in found:
            raise CommandLineError(f"--set {name.strip()} is given twice", "say which of the values is meant")
        found[name.strip()] = value
    return found


def _tell(made: PreparedCampaign, as_json: bool) -> None:
    from airflow_calib_provider.cli.output import emit_json

    wanted = made.wanted
    if as_json:
        emit_json(
            {
                "campaign": wanted.name,
                "kind": wanted.kind,
                "source": wanted.source,
                "base": made.base,
                "runs": made.runs,
                "incomplete": made.incomplete,
                "workflows": list(made.workflows),
                "overrides": made.overrides,
                "first_tasks": made.first_tasks,
            }
        )
        return
    of_runs = f" of {len(made.runs)} runs" if made.runs else ""
    print(f"created the {wanted.kind} campaign {wanted.name}{of_runs}")
    if wanted.collecting:
        print(f"it is collecting: `calib campaign add {wanted.name}` adds runs, `calib campaign start {wanted.name}`")
        print("ends that; nothing of it is grouped before")
    elif made.incomplete:
        print(f"{len(made.incomplete)} of them are not completed: it is grouped when all are, or when they are skipped")


def listed_runs(source: str, runs: str | None, specs: Path) -> list[RunRecord]:
    """What a source lists of the named runs.

    :raises CalibError: there is no such source, or it does not list a number that is named.
    """
    from airflow_calib_provider.injection.creation import listed

    return listed(source_named(specs, source), specs, runs)


@app.command(epilog=examples("calib campaign close rereco-2026A"))
def close(
    name: Annotated[str, typer.Argument(help="The campaign.")],
    specs: Specs = SPECS,
    yes: Annotated[bool, typer.Option("--yes", help="Needed for prompt, which takes all new data.")] = False,
    as_json: Json = False,
) -> None:
    """Close a campaign: unfinished last groups meet their tail rule, and nothing is injected any more.

    What is in groups already is still processed. A closed campaign stays closed.
    """
    from airflow_calib_provider.api.campaigning import close_campaign
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.campaigns import PROMPT

    if name == PROMPT and not yes:
        raise CalibError(
            f"{PROMPT} takes all new data, and a closed campaign stays closed: nothing was changed",
            "say --yes if the data taking has ended for good",
        )
    forming = close_campaign(open_ledger(), specs, name)
    if as_json:
        emit_json({"campaign": name, "state": "closed", "forming_groups": forming})
    else:
        print(f"closed the campaign {name}; {forming} groups that were still forming met their tail rule")


@app.command("list", epilog=examples("calib campaign list", "calib campaign list --json"))
def list_campaigns(as_json: Json = False) -> None:
    """List campaigns with their numbers of runs (finite ones), groups, and groups with a failed task."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import as_dict, emit_json, table
    from airflow_calib_provider.ledger import campaigns

    rows = api.campaigns(open_ledger())
    if as_json:
        emit_json([as_dict(row) for row in rows])
        return
    heads = ["campaign", "kind", "state", "base", "runs", "groups", "with failures", "workflows", "created", "closed"]
    table(
        heads,
        [
            [
                row.name,
                row.kind,
                row.state,
                row.base_campaign,
                {"finite": row.n_runs, "streamed": "as they come"}.get(row.kind, ""),
                row.n_groups,
                row.n_failed,
                ", ".join(row.spec_hashes) or ("" if row.kind == campaigns.DAGS else "all"),
                row.created_at,
                row.closed_at,
            ]
            for row in rows
        ],
        empty="no campaigns yet: calib_inject creates prompt",
    )
