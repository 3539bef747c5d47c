"""``calib status``: runs × tasks."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    SourceName,
    WorkflowName,
    examples,
    open_ledger,
)


def register(app: typer.Typer) -> None:
    """Add ``calib status``."""
    app.command(
        epilog=examples("calib status", "calib status --last 100 --workflow zee", "calib status --run 7 --run 8")
    )(status)


def status(
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    run: Annotated[
        list[int] | None, typer.Option("--run", "-r", min=0, max=2**53, help="Only this run (repeatable).")
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many runs; 0: all.")] = 20,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """Show where every run stands in every task.

    It is new, waiting, processing, done, failed or skipped; late, refused or not_selected if it is in no group;
    excluded if its group went on without it, as it had failed before. "done (late)" is that of a group of late runs.
    The totals count all runs of the campaign. Run sources that cannot be read are named below.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import counted, emit_json, printable, shown, table

    found = api.status(open_ledger(), campaign=campaign, workflow=workflow, runs=run or (), last=last, source=source)
    if as_json:
        troubles = [{"source": item.source, "since": item.since, "error": item.said} for item in found.unreadable]
        rows = [vars(row) for row in found.runs]
        about = {"campaign": campaign, "tasks": found.tasks, "runs": rows, "totals": found.totals}
        emit_json({**about, "unreadable": troubles})
        return
    several = len({row.source for row in found.runs}) > 1
    heads = ["run", *(["source"] if several else []), *found.tasks]
    table(
        heads,
        [
            [row.run, *([row.source] if several else []), *(row.states.get(task, "") for task in found.tasks)]
            for row in found.runs
        ],
        empty=f"no runs in the campaign {campaign} yet: calib_inject records them",
    )
    for task in found.tasks:
        print(f"{task}: {counted(found.totals[task])}")
    for item in found.unreadable:
        print(
            f"warning: the run source {item.source} cannot be read since {shown(item.since)}: {printable(item.said)}",
            file=sys.stderr,
        )
