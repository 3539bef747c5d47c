"""What the demonstration shows at its end: tables, plots, intervals of validity, and whether it all fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from zee.plots import plot_scales, plot_spectrum
from zee.report import Row, compare
from zee.scale import main as scale

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads import life, store
from demo.account import Account, constants_files, take_account
from demo.scenario import Scenario

LARGEST_PULL = 4.5
"""A dozen pulls of a correct analysis stay below this but once in ten thousand demonstrations."""


def show_synthetic(scenario: Scenario, ledger: Ledger, folder: Path, console: Console) -> int:
    """Show everything.

    :returns: 0 if scales were recovered and the account is complete, else 1.
    """
    files = constants_files(ledger, "prompt", "zee")
    rows = compare(scenario.truth_file, files)
    _show_scales(rows, console)
    events_of = {data.info.number: data.info.events for data in scenario.runs}
    account = take_account(ledger, "prompt", "zee", events_of)
    _show_account(account, console)
    _show_payloads(ledger, "prompt", console)
    _plot(files, folder, scenario.truth_file, console)
    complete = account.total_events == sum(events_of.values()) and "not recorded" not in account.runs
    good = bool(rows) and all(abs(row.pull) < LARGEST_PULL for row in rows)
    expected = {scenario.broken_run} == set(account.runs.get("excluded (skipped)", [])) and {scenario.late_run} == set(
        account.runs.get("late", [])
    )
    refused = _refused(ledger)
    console.print(f"refused by the validation: {'; '.join(refused) or 'nothing'}", soft_wrap=True)
    expected = expected and len(refused) == 1
    if complete and good and expected:
        console.print("[green]all scales recovered; the sums of the account agree[/]")
        return 0
    console.print(f"[red]not as expected[/]: recovered {good}, account complete {complete}, mishaps {expected}")
    return 1


def _show_scales(rows: Sequence[Row], console: Console) -> None:
    table = Table(title="Energy scales", title_justify="left")
    for column in ("runs", "region"):
        table.add_column(column)
    for column in ("injected", "recovered", "error", "pull"):
        table.add_column(column, justify="right")
    for row in rows:
        span = f"{row.runs[0]}–{row.runs[-1]}"
        numbers = (f"{row.injected:.5f}", f"{row.recovered:.5f}", f"± {row.error:.5f}", f"{row.pull:+.2f}")
        table.add_row(span, row.region, *numbers)
    console.print(table)


def _show_account(account: Account, console: Console) -> None:
    runs = Table(title="Every run", title_justify="left")
    runs.add_column("what became of it")
    runs.add_column("runs", justify="right")
    runs.add_column("which")
    for name, numbers in account.runs.items():
        runs.add_row(name, str(len(numbers)), ", ".join(str(number) for number in numbers))
    runs.add_row("all streamed", str(sum(len(numbers) for numbers in account.runs.values())), "", style="bold")
    console.print(runs)
    events = Table(title="Every event", title_justify="left")
    events.add_column("what became of it")
    events.add_column("events", justify="right")
    for name, number in account.events.items():
        events.add_row(name, f"{number:,}".replace(",", " "))
    events.add_row("all recorded", f"{account.total_events:,}".replace(",", " "), style="bold")
    console.print(events)


def _show_payloads(ledger: Ledger, campaign: str, console: Console) -> None:
    table = Table(title="Published payloads", title_justify="left")
    for column in (
        "tag",
        "interval of validity",
        "revision",
        "group",
        "excluded runs",
        "validated",
        "approved",
        "content",
    ):
        table.add_column(column)
    with ledger.read() as connection:
        rows = store.listed(connection, campaign)
        decided = {(one.payload_id, one.kind): one for one in life.decisions(connection, [row.id for row in rows])}
        for row in rows:
            validation, approval = (decided.get((row.id, kind)) for kind in ("validation", "approval"))
            validated = _findings(validation.details["findings"]) if validation else ""
            approved = (approval.person or approval.comment) if approval else ""
            excluded = ", ".join(str(run) for run in row.provenance.get("excluded_runs", []))
            iov = f"{row.first_run}–{row.last_run}"
            table.add_row(
                row.tag, iov, str(row.revision), row.group_name, excluded, validated, approved, row.content_hash[:12]
            )
    console.print(table)


def _refused(ledger: Ledger) -> list[str]:
    """What was not published, and why."""
    with ledger.read() as connection:
        rows = store.listed(connection, "prompt", "ZeeScale", history=True)
    return [render(row.reason) for row in rows if row.reason is not None]


def _findings(found: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{one['name']} {', '.join(f'{value:.2g}' for value in one['values'])}" for one in found)


def _plot(files: Sequence[Path], folder: Path, truth: Path | None, console: Console) -> None:
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    scales = plots / "scales.png"
    plot_scales(list(files), scales, truth)
    made = [scales]
    for file in files:
        runs = json.loads(file.read_text())["runs"]
        spectrum = plots / f"spectrum-r{runs[0]}.png"
        plot_spectrum(file.with_name("spectrum.json"), spectrum)
        made.append(spectrum)
    console.print(f"plots: {scales}, and a mass spectrum with its fit per group beside it ({len(made)} files)")


def _whole_period(files: Sequence[Path], folder: Path) -> Path:
    """``constants.json`` of a fit to the events of all groups together."""
    listed = folder / "whole-period.txt"
    listed.write_text("".join(f"{file.with_name('corrected.npz')}\n" for file in files))
    out = folder / "whole-period"
    scale(["--inputs-file", str(listed), "--real-data", "--windows", "--tails", "--out", str(out)])
    return out / "constants.json"


def show_cms(ledger: Ledger, data: Path, folder: Path, console: Console) -> int:
    """Show the scales of real data: there is no truth to compare with.

    :returns: 0 if every group was published, else 1.
    """
    files = constants_files(ledger, "cms-2011A", "zee_cms")
    table = Table(title=f"Energy scales of {data.name}", title_justify="left")
    for column in (
        "runs",
        "EB",
        "EE",
        "χ² / bins",
        "shift of EB, EE with the window",
        "with free tails",
        "EE–EE events",
    ):
        table.add_column(column)
    for name, file in [*((None, file) for file in files), ("whole period", _whole_period(files, folder))]:
        content = json.loads(file.read_text())
        chi2 = ", ".join(f"{part['chi2']:.0f}/{part['bins']}" for part in content["chi2"].values())
        scales = [f"{content['scales'][r]['value']:.4f} ± {content['scales'][r]['error']:.4f}" for r in ("EB", "EE")]
        shifts = ", ".join(f"{(content['scales'][r]['systematic'] or 0):.4f}" for r in ("EB", "EE"))
        tails = [content["scales"][r].get("systematic_tail") for r in ("EB", "EE")]
        moved = "" if None in tails else ", ".join(f"{shift:.4f}" for shift in tails)
        span = name or f"{content['runs'][0]}–{content['runs'][-1]}"
        table.add_row(span, *scales, chi2, shifts, moved, str(content["events"]["EEEE"]))
    console.print(table)
    _show_payloads(ledger, "cms-2011A", console)
    _plot(files, folder, None, console)
    group, task = tables.run_group, tables.group_task
    with ledger.read() as connection:
        open_groups = connection.execute(
            select(group.c.name)
            .join(task, task.c.group_id == group.c.id)
            .where(group.c.campaign == "cms-2011A", task.c.state != "done")
        ).all()
    if open_groups:
        console.print(f"[red]not done[/]: {', '.join(row.name for row in open_groups)}")
    return 1 if open_groups or not files else 0
