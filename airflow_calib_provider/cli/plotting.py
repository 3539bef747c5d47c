"""Pictures of values: the only place where matplotlib is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import CalibError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from airflow_calib_provider.api import GroupValue, ValuePair

SeriesKey = tuple[str, str, str]
"""Workflow, task and name of a value."""

MOST_PANELS = 40
"""Panels of one picture; with more it would be too large to look at, and to make."""


def require_matplotlib() -> type[Figure]:
    """The class of figures.

    :raises CalibError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CalibError("--plot needs matplotlib", "pip install airflow-calib-provider[plot]") from error
    return Figure


def plot_trends(series: Mapping[SeriesKey, Sequence[GroupValue]], file: Path) -> None:
    """Each value in a panel of its own, over the groups' first runs.

    :raises CalibError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _figure(len(series))
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
        panel.set_ylabel(name, parse_math=False)
        _finish(panel)
    panels[-1].set_xlabel("first run of the group")
    save_figure(figure, file)


def plot_pairs(series: Mapping[SeriesKey, Sequence[ValuePair]], first: str, second: str, file: Path) -> None:
    """Each value in two panels: both campaigns, and their difference, over the groups' first runs.

    :raises CalibError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _figure(len(series))
    panels = figure.subplots(len(series), 2, squeeze=False, sharex=True)
    for row, ((workflow, task, name), pairs) in zip(panels, series.items(), strict=True):
        runs = [pair.first_run for pair in pairs]
        nothing = float("nan")
        for values, label, mark in (
            ([nothing if pair.first is None else pair.first for pair in pairs], first, "o"),
            ([nothing if pair.second is None else pair.second for pair in pairs], second, "x"),
        ):
            row[0].plot(runs, values, mark, markersize=4, label=label)
        row[1].plot(
            runs, [nothing if pair.difference is None else pair.difference for pair in pairs], "o", markersize=4
        )
        row[1].axhline(0.0, linewidth=0.8, color="gray")
        row[0].set_title(f"{workflow}.{task}", loc="left", fontsize="small")
        row[1].set_title(f"{second} − {first}", loc="left", fontsize="small")
        row[0].set_ylabel(name, parse_math=False)
        for panel in row:
            _finish(panel)
    panels[0][0].legend(fontsize="small")
    for panel in panels[-1]:
        panel.set_xlabel("first run of the group")
    save_figure(figure, file)


def _figure(n: int) -> Figure:
    made = require_matplotlib()
    if not n:
        raise CalibError("there are no values to draw")
    if n > MOST_PANELS:
        raise CalibError(f"{n} values are too many for one picture", "name one, or --task and --workflow")
    return made(figsize=(9, 2.4 * n + 0.6), layout="constrained")


def _finish(panel: Axes) -> None:
    panel.ticklabel_format(useOffset=False)
    count_runs(panel)
    panel.grid(alpha=0.3)


def count_runs(panel: Axes) -> None:
    """The axis of runs has whole numbers: there is no run 109.5."""
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def save_figure(figure: Figure, file: Path) -> None:
    """:raises CalibError: the file cannot be written, or its name ends in what no picture is."""
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise CalibError(f"{file} cannot be written: {error}", "name a file that ends in .png, .pdf or .svg") from error
