"""``calib campaign``: named passes over runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    PROMPT,
    SPECS,
    Json,
    Specs,
    examples,
    open_ledger,
    run_number,
    source_named,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.domain.run import RunRecord
    from airflow_calib_provider.spec.models import Workflow

app = typer.Typer(help="Campaigns: named passes over runs.", no_args_is_help=True)


@app.command(
    epilog=examples(
        'calib campaign create rereco-2026A --source daq --runs "355100-355999,356005" --base prompt',
        "calib campaign create all-again --source daq --workflow zee",
        "calib campaign create testbeam --streamed",
    )
)
def create(
    name: Annotated[str, typer.Argument(help="Its name; never used twice.")],
    streamed: Annotated[
        bool, typer.Option("--streamed/--finite", help="Takes new runs as they come, or these runs and no others.")
    ] = False,
    source: Annotated[str | None, typer.Option("--source", "-S", help="Finite: the run source.")] = None,
    runs: Annotated[
        str | None, typer.Option("--runs", help="Finite: ranges and numbers; all that the source lists if left out.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Whose payloads are used where it has none.")] = None,
    workflow: Annotated[
        list[str] | None, typer.Option("--workflow", "-w", help="Only this workflow (repeatable); all if left out.")
    ] = None,
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Create a campaign: finite (a reprocessing of given runs, the default), or streamed.

    A finite campaign's runs are fixed now: those of the range that the source lists at this moment.

    Trigger calib_inject with the campaign's name, or wait for its next run.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.ledger import campaigns

    hashes = _hashes(specs, workflow or [])
    records = _finite_runs(streamed, source, runs, specs)
    ledger = open_ledger()
    kind = "streamed" if streamed else "finite"
    numbers = [record.number for record in records]
    if name != PROMPT:
        with ledger.write() as connection:
            campaigns.ensure_prompt(connection)
    of_source = {source: numbers} if source is not None and numbers else None
    campaigns.create_large(ledger, name, kind=kind, runs=of_source, base_campaign=base, spec_hashes=hashes)
    incomplete = [record.number for record in records if not record.completed]
    if as_json:
        emit_json(
            {"campaign": name, "kind": kind, "source": source, "base": base, "runs": numbers, "incomplete": incomplete}
        )
        return
    print(f"created the {kind} campaign {name}" + (f" of {len(numbers)} runs" if numbers else ""))
    if incomplete:
        print(f"{len(incomplete)} of them are not completed: it is grouped when all are, or when they are skipped")


def _hashes(specs: Path, names: Sequence[str]) -> dict[str, str]:
    """:raises NotFound: there is no such workflow."""
    if not names:
        return {}
    from airflow_calib_provider.errors import NotFound

    workflows = _workflows(specs)
    for name in names:
        if name not in workflows:
            raise NotFound(f"{specs} has no workflow {name}", f"it has {', '.join(workflows) or 'none'}")
    return {name: workflows[name].hash for name in names}


def _workflows(specs: Path) -> Mapping[str, Workflow]:
    """:raises SpecErrors: files have mistakes."""
    from airflow_calib_provider.errors import SpecErrors
    from airflow_calib_provider.spec.loader import load_folder

    workflows, mistakes = load_folder(specs)
    if mistakes:
        raise SpecErrors(mistakes)
    return workflows


def _finite_runs(streamed: bool, source: str | None, runs: str | None, specs: Path) -> list[RunRecord]:
    """:raises CalibError: the options do not fit each other, or the range names no run of the source."""
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.runsources import read_source

    if streamed:
        if source is not None or runs is not None:
            raise CalibError("a streamed campaign takes runs as they come", "leave out --source and --runs")
        return []
    if source is None:
        raise CalibError("a finite campaign needs a run source", "name it with --source, or create it --streamed")
    ranges = parse_ranges(runs) if runs is not None else None
    listed = read_source(source_named(specs, source), base_folder=specs)
    if ranges is None:
        return list(listed)
    known = {record.number for record in listed}
    if missing := [str(first) for first, last in ranges if first == last and first not in known]:
        raise CalibError(f"the source {source} does not list {', '.join(missing)}", "`calib runs list` shows the runs")
    return [record for record in listed if any(first <= record.number <= last for first, last in ranges)]


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """``"100-200,205"`` as pairs, both ends inclusive.

    :raises CalibError: it is something else.
    """
    from airflow_calib_provider.errors import CalibError

    hint = 'write numbers and ranges like "100-200,205"'
    ranges = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        begin = run_number(first)
        end = run_number(last) if dash else begin
        if begin is None or end is None:
            raise CalibError(f"{part.strip()[:80]!r} is neither a run nor a range of runs", hint)
        pair = (begin, end)
        if pair[1] < pair[0]:
            raise CalibError(f"the range {part.strip()} ends before it begins", hint)
        ranges.append(pair)
    return ranges


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
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.injection.inject import close_campaign
    from airflow_calib_provider.ledger.campaigns import PROMPT

    if name == PROMPT and not yes:
        raise CalibError(
            f"{PROMPT} takes all new data, and a closed campaign stays closed: nothing was changed",
            "say --yes if the data taking has ended for good",
        )
    ledger = open_ledger()
    forming = close_campaign(ledger, _workflows(specs), name, datetime.now(UTC))
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
