"""The picture of an iteration, which is left beside its constants: every metric over the steps, as SVG.

It is written by whoever watches the iteration, so it needs nothing but text; ``calib steps --plot`` draws others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from airflow_calib_provider.domain.iteration.metrics import Metric
from airflow_calib_provider.jobsets.iteration_plan import phase_of
from airflow_calib_provider.ledger.steps import StepRow, StoredPlan

MOST_PANELS = 40
"""Metrics that are drawn: the first ones."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 150, 90, 20, 26, 22
"""In pixels: of a panel, and of what lies around its axes."""


@dataclass(frozen=True)
class Panel:
    """A metric of a phase.

    :ivar points: step, value, error or 0; in the metric's own unit.
    :ivar metric: with its target; ``None``: it was reported, and has none.
    """

    title: str
    points: Sequence[tuple[int, float, float]]
    metric: Metric | None


def picture_of(plan: StoredPlan, made: Sequence[StepRow]) -> str:
    """The picture; where no metric was reported it says that.

    :param made: all steps; discarded ones are left out.
    """
    panels = list(_panels(plan, [one for one in made if one.state == "judged"]))
    last = max((step for panel in panels for step, _, _ in panel.points), default=1)
    shown = panels[:MOST_PANELS]
    more = f"; {len(panels) - len(shown)} more metrics" if panels != shown else ""
    height = HEIGHT * len(shown) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *(line for number, panel in enumerate(shown) for line in _drawn(panel, HEIGHT * number, last)),
        _text(LEFT, height - 6, f"step{more}" if shown else "no metric was reported"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panels(plan: StoredPlan, made: Sequence[StepRow]) -> Iterator[Panel]:
    declared = {
        name: {one.name: one for one in phase_of(phase["limits"]).metrics} for name, phase in plan["phases"].items()
    }
    found: dict[tuple[int, str, str], list[tuple[int, float, float]]] = {}
    for one in made:
        for name, metric in (one.report or {}).get("metrics", {}).items():
            points = found.setdefault((one.stage, one.phase, name), [])
            points.append((one.n, float(metric["value"]), float(metric["error"] or 0.0)))
    for (stage, phase, name), points in found.items():
        yield Panel(f"stage {stage}, {phase}: {name}", points, declared.get(phase, {}).get(name))


def _drawn(panel: Panel, top: int, last: int) -> Iterator[str]:
    values = [value + side * error for _, value, error in panel.points for side in (-1, 1)]
    if panel.metric is not None:
        values += [panel.metric.target + side * panel.metric.tolerance for side in (-1, 1)]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin
    bottom, right = top + HEIGHT - BOTTOM, WIDTH - RIGHT

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * (step - 0.5) / last

    def y(value: float) -> float:
        return bottom - (bottom - top - TOP) * ((value - low) / (high - low))

    yield _text(LEFT, top + 17, panel.title)
    if (metric := panel.metric) is not None:
        ends = [y(metric.target + side * metric.tolerance) for side in (1, -1)]
        yield _box(LEFT, ends[0], right - LEFT, ends[1] - ends[0], "#2ca02c", opacity=0.18)
        yield _line(LEFT, y(metric.target), right, y(metric.target), "#2ca02c")
    yield _box(LEFT, top + TOP, right - LEFT, bottom - top - TOP, "none", stroke="#999999")
    for value in (low + margin, high - margin):
        yield _text(LEFT - 6, y(value) + 4, f"{value:.5g}", anchor="end")
    for step in dict.fromkeys((panel.points[0][0], panel.points[-1][0])):
        yield _text(x(step), bottom + 14, f"{step}", anchor="middle")
    for (before, one, _), (after, other, _) in zip(panel.points, panel.points[1:], strict=False):
        yield _line(x(before), y(one), x(after), y(other), "#1f77b4")
    for step, value, error in panel.points:
        if error:
            yield _line(x(step), y(value - error), x(step), y(value + error), "#1f77b4")
        yield f'<circle cx="{x(step):.2f}" cy="{y(value):.2f}" r="3" fill="#1f77b4"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{colour}"/>'


def _box(
    x: float, y: float, width: float, height: float, fill: str, *, stroke: str = "none", opacity: float = 1
) -> str:
    place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}" fill-opacity="{opacity}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'
