"""The timeline of a plan as a picture."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.cli.plotting import count_runs, require_matplotlib, save_figure
from airflow_calib_provider.errors import CalibError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from airflow_calib_provider.planning.records import PlannedGroup, SpecPlan

MOST_TIMELINES = 24
"""Groupings in one picture."""

NAMED = 40
"""Groups of a grouping that are named beside their bars."""

STATES = {"closed": "#4c78a8", "forming": "#f2cf5b", "dropped": "#bab0ac"}
SHUT = "#e45756"
DEADLINE = "#222222"

WIDE = 5.0
"""Points that a bar is high."""


def plot_plans(plans: Mapping[str, SpecPlan], file: Path) -> None:
    """Each grouping in a panel: a bar from the opening of each group to its closing, and on, as long as a lock is shut.

    Of a campaign to be, where all happens at once, bars are the runs instead.

    :param plans: title → plan, one below the other for each grouping.
    :raises CalibError: matplotlib is not installed, there is nothing to draw, or too much.
    """
    figure_class = require_matplotlib()
    of_dag: dict[str, list[tuple[str, SpecPlan, Sequence[PlannedGroup]]]] = {}
    for title, plan in plans.items():
        for one in plan.groupings:
            if one.groups:
                of_dag.setdefault(one.dag_id, []).append((f"{one.dag_id} {title}".strip(), plan, one.groups))
    panels = [panel for several in of_dag.values() for panel in several]
    if not panels:
        raise CalibError("there are no groups to draw", "leave out --plot to see why")
    if len(panels) > MOST_TIMELINES:
        raise CalibError(f"{len(panels)} timelines are too many for one picture", "name workflows with --workflow")
    heights = [0.9 + 0.16 * min(len(groups), NAMED) for _, _, groups in panels]
    from matplotlib import rc_context

    with rc_context({"date.converter": "concise"}):
        figure = figure_class(figsize=(11, sum(heights) + 0.8), layout="constrained")
        drawn = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        over_runs = any(one.basis == "campaign" for plan in plans.values() for one in plan.runs.values())
        for axes, (title, plan, groups) in zip(drawn, panels, strict=True):
            if over_runs:
                _draw_runs(axes, groups)
                count_runs(axes)
            else:
                _draw_times(axes, groups, plan.until)
            _finish_panel(axes, groups, title)
        drawn[-1].set_xlabel("run" if over_runs else "UTC")
        figure.legend(handles=_legend(over_runs), fontsize="x-small", loc="outside upper right", ncols=5)
        save_figure(figure, file)


def _draw_runs(axes: Axes, groups: Sequence[PlannedGroup]) -> None:
    places, colours = range(len(groups)), [STATES[group.state] for group in groups]
    first = [group.runs[0] for group in groups]
    axes.hlines(places, first, [group.runs[-1] for group in groups], colors=colours, linewidth=WIDE)
    axes.scatter(first, places, c=colours, s=WIDE**2, marker="s", linewidths=0)


def _draw_times(axes: Axes, groups: Sequence[PlannedGroup], until: datetime) -> None:
    places, colours = range(len(groups)), [STATES[group.state] for group in groups]
    opened: list[Any] = [group.opened_at for group in groups]
    closed: list[Any] = [group.closed_at or until for group in groups]
    axes.hlines(places, opened, closed, colors=colours, linewidth=WIDE)
    # What opens and closes at once has no length.
    axes.scatter(opened, places, c=colours, s=WIDE**2, marker="s", linewidths=0)
    shut = [
        (place, group.closed_at, opens)
        for place, group in enumerate(groups)
        if group.state == "closed" and group.closed_at and (opens := _opens(group, until)) > group.closed_at
    ]
    passed = [
        (lock.deadline.at, place)
        for place, group in enumerate(groups)
        for lock in group.locks
        if lock.deadline is not None and lock.deadline.passed
    ]
    if passed:
        moments: list[Any] = [one[0] for one in passed]
        axes.scatter(moments, [one[1] for one in passed], c=DEADLINE, s=WIDE**2, marker="x", linewidths=1, zorder=3)
    if shut:
        begins: list[Any] = [one[1] for one in shut]
        ends: list[Any] = [one[2] for one in shut]
        axes.hlines([one[0] for one in shut], begins, ends, colors=SHUT, linewidth=WIDE / 3)


def _opens(group: PlannedGroup, until: datetime) -> datetime:
    """Until when one of its locks holds it, as far as that is known."""
    times = [lock.held_until or until for lock in group.locks if lock.state in ("opens", "overdue", "shut")]
    return max(times, default=group.opened_at)


def _finish_panel(axes: Axes, groups: Sequence[PlannedGroup], title: str) -> None:
    axes.set_title(title, loc="left", fontsize="small")
    axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    if len(groups) <= NAMED:
        axes.set_yticks(range(len(groups)), [group.name for group in groups], fontsize="xx-small")
    else:
        axes.set_ylabel(f"{len(groups)} groups", fontsize="x-small")


def _legend(over_runs: bool) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    closed = "a group's runs" if over_runs else "open until closed"
    named = {"closed": closed, "forming": "forming still", "dropped": "dropped"}
    found: list[Artist] = [Patch(color=colour, label=named[state]) for state, colour in STATES.items()]
    if over_runs:
        return found
    passed = Line2D([], [], color=DEADLINE, marker="x", linestyle="none", label="its deadline passes")
    return [*found, Patch(color=SHUT, label="a lock is shut"), passed]
