"""``calib products``: what job sets have left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    LIST,
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    Runs,
    SourceName,
    TaskName,
    WorkflowName,
    examples,
    open_ledger,
    run_number,
    run_ranges,
)
from airflow_calib_provider.cli.default_group import ListsByDefault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_calib_provider.api import Compared, ProductRecord

app = typer.Typer(cls=ListsByDefault, help="What accepted jobs have left: list it (the default), or check it.")

What = Annotated[
    str | None, typer.Argument(metavar="RUN|GROUP", help="A group, or a run: the groups that hold it; all if left out.")
]

SHOWN = 1_000
"""Findings of a check that are told; the rest is counted."""


@app.command(
    LIST,
    epilog=examples(
        "calib products list --last 20",
        "calib products list fill-r355872",
        "calib products list 355872 --task skim",
        "calib products list --runs 355800-355900 --task scale --json",
    ),
)
def list_products(
    what: What = None,
    task: TaskName = None,
    generation: Annotated[
        int | None, typer.Option("--generation", min=1, max=MAX_LINES, help="This one; else the latest done one.")
    ] = None,
    runs: Runs = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    source: SourceName = None,
    last: Annotated[
        int | None, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many; 0: all. 50, of a group all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the files that accepted jobs have left: where each lies, how large it is, and whether it is there."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json, table

    number = run_number(what) if what is not None else None
    found = api.products(
        open_ledger(),
        what if number is None else number,
        campaign=campaign,
        workflow=workflow,
        task=task,
        runs=run_ranges(runs),
        source=source,
        generation=generation,
        last=last if last is not None else 50 if what is None else 0,
    )
    lines = [_line(item) for item in found]
    if as_json:
        emit_json(lines)
        return
    heads = ["group", "task", "generation", "job", "product", "size", "sha256", "path"]
    rows = [
        [
            line["group"],
            f"{line['workflow']}.{line['task']}",
            line["generation"],
            line["job"],
            line["product"],
            _size(line["size"]) if line["state"] == "accepted" else line["state"],
            str(line["checksum"] or "")[:12],
            line["path"],
        ]
        for line in lines
    ]
    table(heads, rows, empty="no products: no job set that declares any is done there")


def _line(item: ProductRecord) -> dict[str, object]:
    size = _bytes(item)
    state = item.state
    if state == "accepted":
        state = "missing" if size is None else "changed" if size != item.size and item.path.is_file() else state
        state = "accepted" if item.size is None and size is not None else state
    return {
        "campaign": item.campaign,
        "workflow": item.workflow,
        "group": item.group,
        "task": item.task,
        "generation": item.generation,
        "job": item.job,
        "product": item.name,
        "path": str(item.path),
        "size": size,
        "recorded_size": item.size,
        "checksum": item.checksum,
        "state": state,
        "drop_at": item.drop_at,
        "removed_at": item.removed_at,
    }


def _bytes(item: ProductRecord) -> int | None:
    """What lies there, of a folder what is on record; ``None``: it is not there."""
    try:
        return item.path.stat().st_size if not item.path.is_dir() else item.size
    except OSError:
        return None


def _size(number: object) -> str:
    if not isinstance(number, int):
        return ""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} B"


@app.command(
    epilog=examples(
        "calib products check",
        "calib products check fill-r355872",
        "calib products check --task skim --runs 355800-355900 --sizes",
        "calib products check --everything --json",
    )
)
def check(
    what: What = None,
    task: TaskName = None,
    runs: Runs = None,
    campaign: Campaign = PROMPT,
    everything: Annotated[bool, typer.Option("--everything", help="Products of all campaigns.")] = False,
    workflow: WorkflowName = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="Compare sizes only: nothing is read.")] = False,
    as_json: Json = False,
) -> None:
    """Compare products on record with what lies in storage. The exit code is 1 if anything is not as it should be.

    missing: not there; changed: of another content or size, or no file any more; unreadable; unknown: a folder in
    storage of no generation that the ledger knows. Products of older generations count, too; dropped ones do not.
    """
    from collections import Counter

    from airflow_calib_provider import api
    from airflow_calib_provider.api.storing import count_products
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.errors import CommandLineError

    if everything and (what is not None or runs is not None):
        raise CommandLineError("--everything, and a group or runs", "leave out one of them")
    number = run_number(what) if what is not None else None
    ledger = open_ledger()
    of = None if everything else campaign
    total = count_products(ledger, of, workflow, task) if what is None and runs is None else None
    found = api.check_products(
        ledger,
        what if number is None else number,
        campaign=of,
        workflow=workflow,
        task=task,
        runs=run_ranges(runs),
        sizes_only=sizes,
    )
    counts: Counter[str] = Counter()
    told: list[Compared] = []
    for item in _with_progress(found, total, quiet=as_json):
        counts[item.state] += 1
        if not item.state.fine and len(told) < SHOWN:
            told.append(item)
    bad = sum(n for state, n in counts.items() if not api.Found(state).fine)
    if as_json:
        emit_json({"counts": dict(counts), "findings": [_finding(item) for item in told], "told": len(told)})
    else:
        if told:
            table(["state", "what", "path", "why"], [_row(item) for item in told])
        _sum_up(counts, bad, len(told), sizes)
    raise typer.Exit(1 if bad else 0)


def _sum_up(counts: dict[str, int], bad: int, told: int, sizes: bool) -> None:
    from airflow_calib_provider.api import Found

    compared = sum(counts.values()) - counts.get(Found.UNKNOWN, 0)
    how = "by size" if sizes else "by checksum"
    text = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()) if not Found(state).fine)
    print(f"{compared:,} products compared {how}: {text or 'all as they should be'}")
    if (n := counts.get(Found.UNSUMMED, 0)) and not sizes:
        print(f"{n:,} of them have no checksum yet, and were compared by size alone: housekeeping makes it")
    if bad > told:
        print(f"{bad - told:,} more are not shown")


def _finding(item: Compared) -> dict[str, object]:
    about = item.product
    return {
        "state": str(item.state),
        "path": str(item.path),
        "why": item.said,
        "campaign": about.campaign if about else None,
        "workflow": about.workflow if about else None,
        "group": about.group if about else None,
        "task": about.task if about else None,
        "generation": about.generation if about else None,
        "job": about.job_index if about else None,
        "product": about.name if about else None,
    }


def _row(item: Compared) -> list[object]:
    about = item.product
    what = f"{about.name} of job {about.job_index} of {about.workflow}.{about.task}, {about.group}" if about else ""
    return [str(item.state), what, item.path, item.said]


def _with_progress(found: Iterator[Compared], total: int | None, *, quiet: bool) -> Iterator[Compared]:
    """With a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("comparing products"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal or not sys.stdout.isatty()
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        bar = progress.add_task("", total=total)
        for item in found:
            yield item
            progress.advance(bar)
