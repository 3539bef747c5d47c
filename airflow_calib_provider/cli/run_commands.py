"""``calib runs``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    SPECS,
    Campaign,
    Json,
    SourceName,
    Specs,
    State,
    WorkflowName,
    examples,
    existing_state,
    open_ledger,
    person,
    source_named,
)

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.lines import RunLine

app = typer.Typer(help="Runs as the ledger knows them.", no_args_is_help=True)


@app.command(
    "list",
    epilog=examples(
        "calib runs list", "calib runs list --late", "calib runs list --state refused --workflow zee --json"
    ),
)
def list_runs(
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    late: Annotated[bool, typer.Option("--late", help="Only runs that arrived too late for their groups.")] = False,
    state: State = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many lines; 0: all.")] = 50,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """List runs with what each workflow decided about them.

    States: grouped, late, not_selected, refused, dropped, and unassigned for runs that no injection has passed yet.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger import names, queries

    if late and state not in (None, "late"):
        raise CalibError("--late and --state contradict each other", "give one of them")
    wanted = "late" if late else state
    existing_state(wanted, [*names.states("membership"), queries.UNASSIGNED])
    rows = api.runs(open_ledger(), campaign=campaign, workflow=workflow, state=wanted, source=source, last=last)
    lines = [_line(row) for row in rows]
    if as_json:
        emit_json(lines)
        return
    heads = ["run", "source", "start", "end", "completed", "workflow", "grouping", "state", "group", "why"]
    table(heads, [list(line.values())[: len(heads)] for line in lines], empty="no such runs")


def _line(row: RunLine) -> dict[str, object]:
    from airflow_calib_provider.domain.reasons import render
    from airflow_calib_provider.ledger.source_changes import changes_of, of_runs

    changes = changes_of(row)
    changed = render(of_runs(row.source, [(row.number, changes)])) if changes else ""
    return {
        "run": row.number,
        "source": row.source,
        "start": row.start,
        "end": row.end,
        "completed": row.completed,
        "workflow": row.workflow,
        "grouping": row.grouping,
        "state": row.state,
        "group": row.group_name,
        "why": "; ".join(text for text in (render(row.reason), changed) if text),
        "reason": row.reason,
        "changes": changes,
    }


@app.command(epilog=examples("calib runs add testbeam.csv --source testbeam", "calib runs add more.csv -S daq --json"))
def add(
    file: Annotated[Path, typer.Argument(help="CSV file with the columns number, start, end, completed, ….")],
    source: Annotated[str, typer.Option("--source", "-S", help="The run source (sources.yaml) that they belong to.")],
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Record runs from a CSV file by hand, as if their source had listed them.

    The columns are number and the fields of the source, under the names of sources.yaml. Nothing is grouped yet: the
    next calib_inject does that, for runs below the horizon of what the source itself lists.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import NotFound
    from airflow_calib_provider.kinds import BY_HAND
    from airflow_calib_provider.ledger.runs import record_by_hand
    from airflow_calib_provider.runsources import read_source

    named = source_named(specs, source)
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    own = named.model_copy(update={"kind": BY_HAND, "options": {"path": str(file.resolve())}})
    records = read_source(own, base_folder=file.resolve().parent)
    ledger = open_ledger()
    recorded = record_by_hand(ledger, source, records, datetime.now(UTC))
    if as_json:
        emit_json({"source": source, "listed": len(records), "new": recorded.new, "changed": recorded.changed})
        return
    print(f"{file}: {len(records)} runs; {recorded.new} new, {recorded.changed} changed in the ledger")
    print(
        f"The next calib_inject groups them, as far as the source {source} itself lists completed runs up to there; "
        "below what is assigned already they are late."
    )


@app.command(epilog=examples("calib runs announce", "calib runs announce --json"))
def announce(as_json: Json = False) -> None:
    """Say that a run has ended: calib_inject runs at once, and not only when its time comes.

    It goes through Airflow's REST API (CALIB_AIRFLOW_URL). What is announced while calib_inject runs is one run more,
    right after it. To announce twice, or for nothing, changes nothing.
    """
    from airflow_calib_provider.cli.airflow import Airflow
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.spec.language import INJECT, RUNS_ASSET

    with Airflow() as airflow:
        event = airflow.announce({"by": person()})
    if as_json:
        emit_json({"asset": RUNS_ASSET, "event": event.get("id"), "at": event.get("timestamp")})
    else:
        print(f"announced: {INJECT} runs at once")
