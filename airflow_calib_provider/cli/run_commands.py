"""``calib runs``."""

from __future__ import annotations

import sys
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
)

if TYPE_CHECKING:
    from airflow_calib_provider.domain.unmet import InCategory
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
    from airflow_calib_provider.api.deciding import record_runs
    from airflow_calib_provider.cli.output import emit_json

    recorded = record_runs(open_ledger(), specs, file, source)
    if as_json:
        emit_json({"source": source, "listed": recorded.listed, "new": recorded.new, "changed": recorded.changed})
        return
    print(f"{file}: {recorded.listed} runs; {recorded.new} new, {recorded.changed} changed in the ledger")
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
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.rest.announcing import announce_runs  # all of the API takes longer to import
    from airflow_calib_provider.spec.language import INJECT

    found = announce_runs(person=person())
    if as_json:
        emit_json(vars(found))
    else:
        print(f"announced: {INJECT} runs at once")


@app.command(
    epilog=examples("calib runs categories 355872", "calib runs categories 7 --source testbeam --specs specs --json")
)
def categories(
    run: Annotated[int, typer.Argument(metavar="RUN", min=0, max=2**53, help="A run number.")],
    source: SourceName = None,
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Say in which categories a run is, and of the others which part of their condition is false, with its values.

    The run is asked as the ledger has it now, and the categories as categories.yaml says now; if that has mistakes, as
    it was when it had none. What was decided about the run before stays (calib explain).
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json, table

    answer = api.run_categories(open_ledger(), specs, run, source=source)
    for error in answer.mistakes:
        print(f"warning: {error}", file=sys.stderr)
    rows = answer.runs
    found = [(row, one) for row in rows for one in row.categories]
    if as_json:
        emit_json([{"run": row.run, "source": row.source, **_told(one)} for row, one in found])
        return
    words = {True: "yes", False: "no", None: "?"}
    several = len(rows) > 1
    table(
        [*(["source"] if several else []), "category", "in it", "workflows", "why not"],
        [
            [*([row.source] if several else []), one.name, words[one.is_in], ", ".join(one.workflows), one.why]
            for row, one in found
        ],
        empty=f"{specs} has no categories for the runs of {', '.join(row.source for row in rows)}",
    )


def _told(one: InCategory) -> dict[str, object]:
    parts = [{"text": part.text, "values": part.values, "error": part.error or None} for part in one.parts]
    about = {"category": one.name, "condition": one.condition, "in": one.is_in, "workflows": list(one.workflows)}
    return {**about, "parts": parts, "error": one.error or None}
