"""``calib products`` and ``calib values``: what job sets have left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    SourceName,
    TaskName,
    WorkflowName,
    examples,
    existing_names,
    open_ledger,
    run_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.ledger.results import ProductLine, Value

BARS = "▁▂▃▄▅▆▇█"
TREND = 32
"""Groups that a trend shows."""


def register(app: typer.Typer) -> None:
    """Add the commands that show what jobs have left: products, values and logs."""
    app.command(
        epilog=examples(
            "calib products fill-r355872",
            "calib products 355872 --task skim",
            "calib products fill-r355872 --task scale --generation 1 --json",
        )
    )(products)
    app.command(
        epilog=examples(
            "calib values",
            "calib values scale_EB --last 20",
            "calib values scale_EB --plot scale.png",
            "calib values --group fill-r355872 --json",
        )
    )(values)


def products(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A group, or a run: the groups that hold it.")],
    task: TaskName = None,
    generation: Annotated[
        int | None, typer.Option("--generation", min=1, max=MAX_LINES, help="This one; else the latest done one.")
    ] = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """List the files that accepted jobs have left: where each lies, how large it is, and whether it is there."""
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.ledger import results

    run = run_number(what)
    ledger = open_ledger()
    existing_names(ledger, campaign, workflow, task, source=source)
    with ledger.read() as connection:
        groups = results.meant(connection, campaign, workflow, what, run, task, source)
        found = results.products_listed(connection, [item.id for item in groups], task, generation)
    lines = [_product(item) for item in found]
    if as_json:
        emit_json(lines)
        return
    heads = ["group", "task", "generation", "job", "product", "size", "path"]
    rows = [
        [
            line["group"],
            f"{line['workflow']}.{line['task']}",
            line["generation"],
            line["job"],
            line["product"],
            _size(line["size"]),
            line["path"],
        ]
        for line in lines
    ]
    table(heads, rows, empty="no products: no job set that declares any is done there")


def _product(item: ProductLine) -> dict[str, object]:
    from airflow_calib_provider.jobsets.folders import product_path

    path = product_path(item.folder, item.job, item.file)
    return {
        "workflow": item.workflow,
        "group": item.group,
        "task": item.task,
        "generation": item.generation,
        "job": item.job,
        "product": item.name,
        "path": str(path),
        "size": _bytes(path),
    }


def _bytes(path: Path) -> int | None:
    """``None``: it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _size(number: object) -> str:
    if not isinstance(number, int):
        return "missing"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} B"


def values(
    name: Annotated[str | None, typer.Argument(help="One value, group by group; else a line for each.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", metavar="RUN|GROUP", help="Only this group, or those of this run.")
    ] = None,
    task: TaskName = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    source: SourceName = None,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many groups of each grouping; 0: all.")
    ] = 50,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the trend into this file (.png, .pdf, .svg).", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the numbers that jobs reported (CALIB_REPORT), and how they change from group to group.

    Of several jobs of a group the mean is shown; --json and --group list each.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import NotFound
    from airflow_calib_provider.ledger import results

    run = run_number(group) if group is not None else None
    if source is not None and run is None:
        raise typer.BadParameter("it says which run --group means: name one there", param_hint="--source")
    ledger = open_ledger()
    existing_names(ledger, campaign, workflow, task, source=source)
    with ledger.read() as connection:
        chosen = (
            [item.id for item in results.meant(connection, campaign, workflow, group, run, task, source)]
            if group is not None
            else []
        )
        found = results.values_listed(
            connection, campaign, workflow=workflow, task=task, name=name, group_ids=chosen, last=0 if chosen else last
        )
        known = (
            {item.name for item in results.values_listed(connection, campaign, workflow=workflow, task=task, last=last)}
            if name is not None and not found
            else set()
        )
    if name is not None and not found:
        listed = f"reported are {', '.join(sorted(known)[:20])}" if known else "no job of these reported any"
        raise NotFound(f"there is no value {name}", listed)
    if plot is not None:
        _plot(found, plot)
    if as_json:
        emit_json([vars(item) for item in found])
    elif group is not None:
        _show_jobs(found)
    elif name is not None:
        _show_groups(found)
    else:
        _show_trends(found)
    if plot is not None and not as_json:
        print(f"drawn into {plot}")


def _show_jobs(found: Sequence[Value]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = [
        [item.group, f"{item.workflow}.{item.task}", item.job, item.name, _rounded(item.value), _rounded(item.error)]
        for item in found
    ]
    table(["group", "task", "job", "name", "value", "error"], rows, empty="no values")


def _show_groups(found: Sequence[Value]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = []
    for (workflow, task, _), points in _series(found).items():
        bars = trend([point.value for point in points])
        rows += [
            [point.group, f"{workflow}.{task}", point.start, _rounded(point.value), _rounded(point.error), bar]
            for point, bar in zip(points, bars, strict=True)
        ]
    table(["group", "task", "start", "value", "error", "trend"], rows, empty="no values")


def _show_trends(found: Sequence[Value]) -> None:
    from airflow_calib_provider.cli.output import table

    rows = []
    for (workflow, task, name), points in _series(found).items():
        numbers = [point.value for point in points]
        rows.append(
            [
                name,
                f"{workflow}.{task}",
                len(points),
                _rounded(numbers[-1]),
                _rounded(points[-1].error),
                _rounded(min(numbers)),
                _rounded(max(numbers)),
                trend(numbers[-TREND:]),
            ]
        )
    heads = ["name", "task", "groups", "latest", "error", "least", "largest", "trend"]
    table(heads, rows, empty="no values: jobs report them as lines of CALIB_REPORT")


def _series(found: Sequence[Value]) -> Mapping[tuple[str, str, str], list[Value]]:
    """Workflow, task and name → one point for each group, the mean of its jobs, in run order."""
    from collections import defaultdict
    from dataclasses import replace

    jobs: dict[tuple[str, str, str], dict[str, list[Value]]] = defaultdict(lambda: defaultdict(list))
    for item in found:
        jobs[item.workflow, item.task, item.name][item.group].append(item)
    series = {}
    for key, groups in jobs.items():
        series[key] = [
            replace(
                items[0],
                value=sum(item.value for item in items) / len(items),
                error=items[0].error if len(items) == 1 else None,
            )
            for items in groups.values()
        ]
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


def _rounded(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def _plot(found: Sequence[Value], file: Path) -> None:
    """Each value in a panel of its own, over the groups' first runs.

    :raises CalibError: matplotlib is not installed, or the file cannot be written.
    """
    from airflow_calib_provider.errors import CalibError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CalibError("--plot needs matplotlib", "pip install airflow-calib-provider[plot]") from error
    series = _series(found)
    if not series:
        raise CalibError("there are no values to draw")
    figure = Figure(figsize=(9, 2.4 * len(series) + 0.6), layout="constrained")
    panels = figure.subplots(len(series), 1, squeeze=False, sharex=True)[:, 0]
    for panel, ((workflow, task, name), points) in zip(panels, series.items(), strict=True):
        errors = [point.error or 0.0 for point in points]
        panel.errorbar(
            [point.first_run for point in points],
            [point.value for point in points],
            yerr=errors if any(errors) else None,
            fmt="o",
            markersize=4,
        )
        panel.set_title(f"{workflow}.{task}", loc="left", fontsize="small")
        panel.set_ylabel(name)
        panel.ticklabel_format(useOffset=False)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("first run of the group")
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise CalibError(f"{file} cannot be written: {error}", "name a file that ends in .png, .pdf or .svg") from error
