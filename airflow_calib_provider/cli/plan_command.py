"""``calib spec plan``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import MAX_LINES, PROMPT, SPECS, Campaign, Json, Specs, examples, open_ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.errors import SpecError
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.planning.records import PlanDifference, SpecPlan

LEDGER, SOURCE = "ledger", "source"

Workflows = Annotated[
    list[str] | None, typer.Option("--workflow", "-w", help="Only this workflow (repeatable).", metavar="NAME")
]
Runs = Annotated[str | None, typer.Option("--runs", help="Over these runs: ranges and numbers.", metavar="RUNS")]
Last = Annotated[
    int,
    typer.Option("--last", "-n", min=0, max=MAX_LINES, help="Over so many runs, the newest of each source; 0: all."),
]
RunsFrom = Annotated[
    str | None,
    typer.Option("--runs-from", help="ledger or source; the ledger if left out, where one has runs.", metavar="PLACE"),
]
Finite = Annotated[
    bool, typer.Option("--finite", help="As a campaign to be: all runs are known at once and grouped completely.")
]
Base = Annotated[
    str | None, typer.Option("--base", help="With --finite: the base campaign, which has what is not run.")
]
Against = Annotated[
    str | None,
    typer.Option("--against", help="Show what changes between this git commit and the files.", metavar="COMMIT"),
]
Groups = Annotated[
    int, typer.Option("--groups", "-g", min=0, max=MAX_LINES, help="Show so many groups, the newest; 0: all.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Draw the timeline into this file (.png, .svg).", metavar="FILE")
]


def register(app: typer.Typer) -> None:
    """Add the command to ``calib spec``."""
    app.command(
        epilog=examples(
            "calib spec plan",
            "calib spec plan -w zee --last 200 --plot zee.png",
            "calib spec plan --against HEAD~1",
            "calib spec plan --against origin/main --runs-from source --json",
            "calib spec plan --finite --runs 355000-356000 -w zee",
        )
    )(plan)


def plan(
    workflow: Workflows = None,
    runs: Runs = None,
    last: Last = 1_000,
    runs_from: RunsFrom = None,
    campaign: Campaign = PROMPT,
    finite: Finite = False,
    base: Base = None,
    against: Against = None,
    groups: Groups = 50,
    plot: Plot = None,
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Show what the YAML files make of runs: which groups, when they open and close and why, how long locks are shut.

    It is decided by the code that calib_inject runs, with a clock of its own, as if calib_inject ran at once whenever
    something changes. Nothing is written. Grouping begins with the first of the runs.

    Runs of the ledger are known from when it learnt of them; runs of a source from their start on, and as completed
    from their end on.

    A lock is shut from the group's closing on. Until when, is recorded where the ledger has what is waited for as done;
    else it is planned: what is waited for counts as done when it could begin, and how long it runs comes on top. Each
    lock says which.

    With --against COMMIT both versions are planned over the same runs, and what differs is shown: for a merge request.

    Workflows whose files have mistakes are left out, the mistakes are told, and the exit code is 2.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli import plan_output
    from airflow_calib_provider.cli.plotting import require_matplotlib

    if plot is not None:
        require_matplotlib()
    _check(runs_from, finite, base, campaign)
    wanted = api.PlanRequest(specs, workflow or [], runs, last, campaign, finite, base)
    ledger = _ledger(runs_from)
    if ledger is None:
        _check_alone(base, campaign)
    if against is not None:
        difference = api.plan_edit(ledger, wanted, against)
        plans = {f"at {against}": difference.before, "now": difference.after}
        _draw(plans, plot)
        plan_output.show_difference(difference, against, groups, as_json)
        _end(difference.after, difference)
        return
    found = api.plan_specs(ledger, wanted)
    _draw({"": found}, plot)
    plan_output.show_plan(found, groups, as_json)
    _end(found)


def _check(runs_from: str | None, finite: bool, base: str | None, campaign: str) -> None:
    from airflow_calib_provider.errors import CommandLineError

    if runs_from not in (None, LEDGER, SOURCE):
        raise CommandLineError(f"--runs-from {runs_from!r} is no place that runs come from", "ledger or source")
    if base is not None and not finite:
        raise CommandLineError("--base is for a campaign to be", "add --finite, or leave it out")
    if finite and campaign != PROMPT:
        raise CommandLineError("--finite is about a campaign that does not exist yet", "leave out --campaign")


def _check_alone(base: str | None, campaign: str) -> None:
    """Without the ledger nothing is known of a campaign, not even whether it is spelt well."""
    from airflow_calib_provider.errors import CommandLineError

    for option, name in (("--base", base), ("--campaign", campaign if campaign != PROMPT else None)):
        if name is not None:
            said = f"{option} {name} is of the ledger, and only sources are read"
            raise CommandLineError(said, f"leave out {option}, or read the ledger: --runs-from ledger")


def _ledger(runs_from: str | None) -> Ledger | None:
    """Where the runs are known; ``None``: their sources are read."""
    if runs_from == SOURCE:
        return None
    if runs_from is None:
        from airflow_calib_provider.ledger.engine import Ledger

        with Ledger() as ledger:
            if ledger.file is not None and not ledger.file.exists():
                print("there is no ledger: the run sources are read", file=sys.stderr)
                return None
    ledger = open_ledger()
    if runs_from is None and _is_new(ledger):
        print("the ledger has no runs yet: the run sources are read", file=sys.stderr)
        return None
    return ledger


def _is_new(ledger: Ledger) -> bool:
    from airflow_calib_provider.ledger.runs import is_any_known

    with ledger.read() as connection:
        return not is_any_known(connection)


def _draw(plans: dict[str, SpecPlan], file: Path | None) -> None:
    if file is not None:
        from airflow_calib_provider.cli.plan_plot import plot_plans

        plot_plans(plans, file)
        print(f"drawn into {file}", file=sys.stderr)


def _end(found: SpecPlan, difference: PlanDifference | None = None) -> None:
    """Tell what is wrong; of the older version it is no mistake of today."""
    if difference is not None:
        _warn([*difference.mistakes_before], f"at {difference.commit[:12]}: ")
        for trouble in difference.troubles_before:
            if trouble not in found.troubles:
                print(f"warning: at {difference.commit[:12]}: {trouble}", file=sys.stderr)
    for trouble in found.troubles:
        print(f"warning: {trouble}", file=sys.stderr)
    if found.mistakes:
        _warn(found.mistakes, "")
        raise typer.Exit(2)


def _warn(mistakes: Sequence[SpecError], where: str) -> None:
    from airflow_calib_provider.cli.output import printable

    for mistake in mistakes:
        print(printable(f"{where}{mistake}"), file=sys.stderr)
