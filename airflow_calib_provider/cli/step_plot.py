"""The picture of ``calib steps``: every metric over the steps, with the band in which it is good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.cli.plotting import MOST_PANELS, require_matplotlib, save_figure
from airflow_calib_provider.errors import CalibError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from airflow_calib_provider.api import StepRecord


def plot_steps(found: Sequence[StepRecord], file: Path) -> None:
    """Draw them; discarded steps are grey.

    :raises CalibError: matplotlib is not installed, nothing was measured yet, or the file cannot be written.
    """
    series = list(dict.fromkeys((one.stage, one.phase, name) for one in found for name in one.metrics))
    if not series:
        raise CalibError("no step was judged yet: there is nothing to draw")
    if len(series) > MOST_PANELS:
        raise CalibError(f"{len(series)} metrics are too many for one picture", "see them by --json")
    figure = require_matplotlib()(figsize=(9, 2.4 * len(series) + 0.6), layout="constrained")
    panels = figure.subplots(len(series), 1, squeeze=False, sharex=True)[:, 0]
    for panel, (stage, phase, name) in zip(panels, series, strict=True):
        mine = [one for one in found if (one.stage, one.phase) == (stage, phase) and name in one.metrics]
        _draw(panel, mine, name)
        panel.set_title(f"stage {stage}, {phase}", loc="left", fontsize="small")
        panel.set_ylabel(name, parse_math=False)
    panels[-1].set_xlabel("step")
    save_figure(figure, file)


def _draw(panel: Axes, mine: Sequence[StepRecord], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for gone, colour in ((False, "tab:blue"), (True, "lightgray")):
        shown = [one for one in mine if (one.state == "discarded") is gone]
        if shown:
            metrics = [one.metrics[name] for one in shown]
            errors = [one.error or 0.0 for one in metrics]
            values = [one.value for one in metrics]
            numbers = [one.n for one in shown]
            panel.errorbar(numbers, values, yerr=errors if any(errors) else None, fmt="o-", markersize=4, color=colour)
    about = mine[-1].metrics[name]
    if about.target is not None and about.tolerance is not None:
        panel.axhspan(about.target - about.tolerance, about.target + about.tolerance, color="tab:green", alpha=0.15)
        panel.axhline(about.target, linewidth=0.8, color="tab:green")
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    panel.grid(alpha=0.3)
