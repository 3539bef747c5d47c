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
    existing_names,
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
    from airflow_calib_provider.cli.output import counted, emit_json, printable, shown, table
    from airflow_calib_provider.errors import NotFound
    from airflow_calib_provider.ledger import queries, source_reads

    ledger = open_ledger()
    existing_names(ledger, campaign, workflow, source=source)
    with ledger.read() as connection:
        found = queries.status(connection, campaign, workflow=workflow, runs=run or (), last=last, source=source)
        unreadable = source_reads.unreadable(connection, None if source is None else {source})
    missing = sorted(set(run or ()) - {row.run for row in found.rows})
    if missing:
        of = f" in {source}" if source is not None else ""
        raise NotFound(
            f"no such run{of}: {', '.join(map(str, missing))}", "`calib runs list` shows those in the ledger"
        )
    names = [column.name for column in found.columns]
    if as_json:
        rows = [{"run": row.run, "source": row.source, "states": _named(names, row.states)} for row in found.rows]
        totals = dict(zip(names, found.totals, strict=True))
        troubles = [{"source": item.source, "since": item.since, "error": item.said} for item in unreadable]
        emit_json({"campaign": campaign, "tasks": names, "runs": rows, "totals": totals, "unreadable": troubles})
        return
    several = len({row.source for row in found.rows}) > 1
    heads = ["run", *(["source"] if several else []), *names]
    table(
        heads,
        [[row.run, *([row.source] if several else []), *row.states] for row in found.rows],
        empty=f"no runs in the campaign {campaign} yet: calib_inject records them",
    )
    for name, counts in zip(names, found.totals, strict=True):
        print(f"{name}: {counted(counts)}")
    for item in unreadable:
        print(
            f"warning: the run source {item.source} cannot be read since {shown(item.since)}: {printable(item.said)}",
            file=sys.stderr,
        )


def _named(names: list[str], states: tuple[str, ...]) -> dict[str, str]:
    return {name: state for name, state in zip(names, states, strict=True) if state}
