"""``calib values``: what jobs have reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.api import GroupValue, Ledger, Value

app = typer.Typer(cls=ListsByDefault, help="What jobs have reported: list it (the default), or look for what drifts.")

BARS = "▁▂▃▄▅▆▇█"
TREND = 32
"""Groups that a trend shows."""


@app.command(
    LIST,
    epilog=examples(
        "calib values list",
        "calib values list scale_EB --last 20",
        "calib values list scale_EB --runs 355800-355900 --plot scale.png",
        "calib values list --group fill-r355872 --json",
    ),
)
def list_values(
    name: Annotated[str | None, typer.Argument(help="One value, group by group; else a line for each.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", metavar="RUN|GROUP", help="Only this group, or those of this run.")
    ] = None,
    task: TaskName = None,
    runs: Runs = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    source: SourceName = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", "-n", min=0, max=MAX_LINES, help="So many groups of each grouping; 0: all. 50, of runs all."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the trend into this file (.png, .pdf, .svg).", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the numbers that jobs reported (CALIB_REPORT), and how they change from group to group.

    Of several jobs of a group the mean is shown; --json and --group list each.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.cli.plotting import require_matplotlib

    number = run_number(group) if group is not None else None
    _check_options(group, number, source, plot)
    if plot is not None:
        require_matplotlib()
    ledger = open_ledger()
    wanted = _Wanted(campaign, workflow, task, name, run_ranges(runs))
    if group is not None:
        jobs = api.values(ledger, group if number is None else number, source=source, **vars(wanted))
        _require(ledger, wanted, jobs)
        if as_json:
            emit_json([vars(item) for item in jobs])
        else:
            _show_jobs(jobs)
        return
    last = last if last is not None else 0 if runs is not None else 50
    points = api.group_values(ledger, last=last, **vars(wanted))
    _require(ledger, wanted, points)
    if plot is not None:
        _plot(points, plot)
    if as_json:
        emit_json([vars(item) for item in api.values(ledger, last=last, **vars(wanted))])
        return
    show = _show_groups if name is not None else _show_trends
    show(points)
    if plot is not None:
        print(f"drawn into {plot}")


@dataclass(frozen=True)
class _Wanted:
    """Which values are meant."""

    campaign: str
    workflow: str | None
    task: str | None
    name: str | None
    runs: Sequence[tuple[int, int]]


def _check_options(group: str | None, number: int | None, source: str | None, plot: Path | None) -> None:
    """Refuse options that do not fit each other."""
    from airflow_calib_provider.errors import CommandLineError

    if source is not None and number is None:
        raise typer.BadParameter("it says which run --group means: name one there", param_hint="--source")
    if group is not None and plot is not None:
        raise CommandLineError("--plot draws a trend, and --group lists one group", "leave out one of them")


def _require(ledger: Ledger, wanted: _Wanted, found: Sequence[object]) -> None:
    """:raises NotFound: a value is named that nobody reported."""
    from airflow_calib_provider import api
    from airflow_calib_provider.errors import NotFound

    if wanted.name is None or found:
        return
    others = api.group_values(ledger, campaign=wanted.campaign, workflow=wanted.workflow, task=wanted.task, last=50)
    listed = sorted({item.name for item in others})
    known = f"reported are {', '.join(listed[:20])}" if listed else "no job of these reported any"
    raise NotFound(f"there is no value {wanted.name}", known)


def _plot(points: Sequence[GroupValue], file: Path) -> None:
    from airflow_calib_provider.cli.plotting import plot_trends

    plot_trends(series_of(points), file)


def _show_jobs(found: Sequence[Value]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = [
        [item.group, f"{item.workflow}.{item.task}", item.job, item.name, rounded(item.value), rounded(item.error)]
        for item in found
    ]
    table(["group", "task", "job", "name", "value", "error"], rows, empty="no values")


def _show_groups(found: Sequence[GroupValue]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = []
    for (workflow, task, _), points in series_of(found).items():
        bars = trend([point.value for point in points])
        rows += [
            [point.group, f"{workflow}.{task}", point.start, rounded(point.value), rounded(point.error), bar]
            for point, bar in zip(points, bars, strict=True)
        ]
    table(["group", "task", "start", "value", "error", "trend"], rows, empty="no values")


def _show_trends(found: Sequence[GroupValue]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = []
    for (workflow, task, name), points in series_of(found).items():
        numbers = [point.value for point in points]
        rows.append(
            [
                name,
                f"{workflow}.{task}",
                len(points),
                rounded(numbers[-1]),
                rounded(points[-1].error),
                rounded(min(numbers)),
                rounded(max(numbers)),
                trend(numbers[-TREND:]),
            ]
        )
    heads = ["name", "task", "groups", "latest", "error", "least", "largest", "trend"]
    table(heads, rows, empty="no values: jobs report them as lines of CALIB_REPORT")


def series_of(found: Sequence[GroupValue]) -> Mapping[tuple[str, str, str], list[GroupValue]]:
    """Workflow, task and name → the points, in run order."""
    from collections import defaultdict

    series: dict[tuple[str, str, str], list[GroupValue]] = defaultdict(list)
    for item in found:
        series[item.workflow, item.task, item.name].append(item)
    return series


def trend(numbers: Sequence[float]) -> str:
    """A bar for each number, between the least and the largest of them."""
    import math

    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return "·" * len(numbers)
    least, width = min(finite), max(finite) - min(finite)
    steps = len(BARS) - 1
    return "".join(
        "·" if not math.isfinite(number) else BARS[round((number - least) / width * steps) if width else steps // 2]
        for number in numbers
    )


def rounded(number: float | None) -> str:
    """A number as a table shows it."""
    return "" if number is None else f"{number:.6g}"


@app.command(
    epilog=examples(
        "calib values check",
        "calib values check scale_EB --against 50 --limit 4",
        "calib values check --task scale --json",
    )
)
def check(
    name: Annotated[str | None, typer.Argument(help="One value; all if left out.")] = None,
    against: Annotated[int, typer.Option("--against", min=5, max=10_000, help="So many groups before it.")] = 20,
    limit: Annotated[float, typer.Option("--limit", min=0.0, help="Spreads that the newest may be away.")] = 5.0,
    task: TaskName = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    as_json: Json = False,
) -> None:
    """Compare the newest group of each value with the groups before it. The exit code is 1 if one has drifted.

    Expected is the median of these groups; the spread is how much they scatter about it (1.4826 times the median of the
    absolute deviations), or the newest one's own error if that is more. Values of fewer than five groups are left out.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json, table

    ledger, wanted = open_ledger(), _Wanted(campaign, workflow, task, name, ())
    found = api.value_drift(ledger, campaign=campaign, workflow=workflow, task=task, name=name, against=against)
    if not found:
        # Too few groups are no mistake; a name that nobody reports would never drift.
        _require(ledger, wanted, api.group_values(ledger, last=1, **vars(wanted)))
    drifted = [item for item in found if abs(item.deviation) > limit]
    if as_json:
        emit_json(
            [
                {
                    **vars(item.point),
                    "expected": item.expected,
                    "spread": item.spread,
                    "against": item.n,
                    "drifted": item in drifted,
                }
                for item in found
            ]
        )
    else:
        heads = ["name", "task", "group", "value", "expected", "spread", "away by", "against"]
        rows = [
            [
                item.point.name,
                f"{item.point.workflow}.{item.point.task}",
                item.point.group,
                rounded(item.point.value),
                rounded(item.expected),
                rounded(item.spread),
                f"{item.deviation:+.3g}",
                f"{item.n} groups",
            ]
            for item in drifted
        ]
        table(heads, rows, empty=f"{len(found)} values compared: none is {limit:g} spreads away from those before it")
    raise typer.Exit(1 if drifted else 0)
