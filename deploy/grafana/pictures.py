"""Pictures of the dashboards' data: ``python -m deploy.grafana.pictures --url URL --database NAME``.

Every panel's own queries are executed on the server and drawn with matplotlib at the panel's place: the data of a
dashboard as Grafana would get them, not its looks. What is chosen at the top is the first value, or all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import dates
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from deploy.grafana.asking import Asker
from deploy.grafana.filled import Filled, Period, boards, queries, variables
from deploy.grafana.frames import frame, named, transformed
from deploy.grafana.look import GRAY, STATE_COLOURS

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
UNIT = 0.52
"""Inches of one step of Grafana's grid across, and a little less down."""

ROWS = 14
"""Rows of a table, lanes of a timeline, that are drawn."""

Answers = Sequence[tuple[Filled, list[dict[str, Any]]]]


Chosen = dict[str, list[str]]
"""Variable → values."""


def choose(ask: Asker, board: Mapping[str, Any], period: Period, wanted: Mapping[str, list[str]]) -> Chosen:
    """Values of a dashboard's variables: what is wanted, else the first, or all where several may be chosen.

    :raises LookupError: a variable has no values on this server.
    """
    values: Chosen = {}
    only_variables = {**board, "panels": []}
    for variable in variables(board):
        name = variable["name"]
        known = _Unknown(values)
        query = next(i.query for i in queries("", only_variables, known, period) if i.title == f"variable {name}")
        # The second column, as Grafana takes it: of tag values as well as of a SELECT.
        found = sorted({str(row[1]) for series in ask(query) for row in series["values"]})
        if not found:
            raise LookupError(f"no values of the variable {name}: {query}")
        values[name] = wanted.get(name) or (found if variable.get("multi") else found[:1])
    return values


class _Unknown(dict[str, list[str]]):
    """Variables whose values are not asked for yet."""

    def __missing__(self, name: str) -> list[str]:
        return ["?"]


def draw(ask: Asker, folder: Path, period: Period, wanted: Mapping[str, list[str]]) -> list[Path]:
    """Draw every dashboard; returns the files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, board in boards().items():
        chosen = choose(ask, board, period, wanted)
        answers: dict[int, list[tuple[Filled, list[dict[str, Any]]]]] = {}
        for item in queries(name, board, chosen, period):
            if item.panel:
                answers.setdefault(item.panel["id"], []).append((item, ask(item.query)))
        written.append(_board(folder / f"{name}.png", board, answers, period))
    return written


def _board(file: Path, board: Mapping[str, Any], answers: Mapping[int, Answers], period: Period) -> Path:
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * UNIT, height * UNIT * 0.6), facecolor="white")
    for panel in board["panels"]:
        place = panel["gridPos"]
        inner = (0.95, 0.75) if panel["type"] in ("table", "stat") else (0.88, 0.62)
        axes = figure.add_axes(
            (
                (place["x"] + 0.55 * (1 - inner[0]) * place["w"] + 0.3) / 24.4,
                1 - (place["y"] + place["h"] * (0.14 + inner[1]) + 0.1) / height,
                inner[0] * place["w"] / 24.4,
                inner[1] * place["h"] / height,
            )
        )
        axes.set_title(panel["title"].replace("$name", "values"), fontsize=8, loc="left", weight="bold")
        axes.tick_params(labelsize=6)
        _KINDS[panel["type"]](axes, panel, answers[panel["id"]], period)
    figure.savefig(file, dpi=75)
    plt.close(figure)
    with Image.open(file) as drawn:
        few = drawn.convert("RGB").quantize(160)  # half the size
    few.save(file, optimize=True)
    return file


def _number(at: datetime) -> float:
    return float(dates.date2num(at))  # type: ignore[no-untyped-call]


def _at(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _colours(panel: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            if each["id"] == "color" and override["matcher"]["id"] == "byName":
                found[override["matcher"]["options"]] = each["value"]["fixedColor"]
    return found


def _series(answers: Answers) -> dict[str, list[tuple[Any, Any]]]:
    found: dict[str, list[tuple[Any, Any]]] = {}
    for item, answer in answers:
        found.update(named(answer, item.alias))
    return {name: [(at, value) for at, value in points if value is not None] for name, points in found.items()}


def _curves(axes: Axes, panel: Mapping[str, Any], answers: Answers, period: Period) -> None:
    colours = _colours(panel)
    style = panel["fieldConfig"]["defaults"]["custom"]
    series = _series(answers)
    scale, unit = _unit(panel, [value for points in series.values() for _, value in points])
    for name, points in series.items():
        times, values = [_number(_at(at)) for at, _ in points], [value / scale for _, value in points]
        colour = colours.get(name, STATE_COLOURS.get(name))
        if style["drawStyle"] == "bars":
            width = (period.end - period.begin).total_seconds() / 86400 / 150
            axes.bar(times, values, width=width, label=name, color=colour, alpha=0.8)
        elif name.endswith((" error", "error")) or style["drawStyle"] == "line":
            axes.plot(times, values, label=name, color=colour, lw=0.6 if name.endswith("error") else 1.2)
        else:
            axes.plot(times, values, "o", ms=2.5, label=name, color=colour)
    _time_axis(axes, period)
    axes.set_ylabel(unit, fontsize=6)
    axes.legend(fontsize=5, loc="upper left", ncols=2, frameon=False) if axes.has_data() else None
    axes.grid(alpha=0.3)


def _time_axis(axes: Axes, period: Period) -> None:
    axes.set_xlim(_number(period.begin), _number(period.end))
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]


def _unit(panel: Mapping[str, Any], values: Sequence[float]) -> tuple[float, str]:
    """What values are divided by, and what they are then."""
    unit, highest = panel["fieldConfig"]["defaults"].get("unit", "short"), max(values, default=0.0)
    if unit == "s":
        return (3600.0, "hours") if highest > 7200 else (60.0, "minutes") if highest > 120 else (1.0, "seconds")
    return (1e9, "GB") if unit == "bytes" else (1.0, "")


def _lanes(axes: Axes, panel: Mapping[str, Any], answers: Answers, period: Period) -> None:
    lanes = sorted(_series(answers).items(), key=lambda lane: _order(lane[0].split()[0]))
    shown = lanes[-2 * ROWS :]
    for place, (_, points) in enumerate(shown):
        ends = [at for at, _ in points[1:]] + [period.end.timestamp() * 1000]
        for (at, state), end in zip(points, ends, strict=True):
            begin = _number(_at(at))
            axes.barh(place, _number(_at(end)) - begin, left=begin, height=0.8, color=STATE_COLOURS.get(state, GRAY))
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=5.5)
    axes.invert_yaxis()
    _time_axis(axes, period)


def _table(axes: Axes, panel: Mapping[str, Any], answers: Answers, period: Period) -> None:
    axes.axis("off")
    shown = transformed([frame(answer) for _, answer in answers if answer], panel.get("transformations", []))
    for order in panel["options"].get("sortBy", []):
        key = order["displayName"]
        shown.rows.sort(key=lambda row: _order(row.get(key)), reverse=order["desc"])
    # Only as much as a picture holds.
    rows = shown.rows[: ROWS if panel["gridPos"]["h"] < 14 else 2 * ROWS]
    columns = [name for name in shown.columns if any(row.get(name) is not None for row in rows)]
    if not rows:
        return
    scale = {name: unit for name, unit in _column_units(panel).items() if name in columns}
    cells = [[_cell(name, row.get(name), scale.get(name, "")) for name in columns] for row in rows]
    whole = "mappings" in panel["fieldConfig"]["defaults"]  # a matrix: every cell is a state
    colours = [
        [STATE_COLOURS.get(str(row.get(name)), "white") if whole or name == "state" else "white" for name in columns]
        for row in rows
    ]
    widths = [max(len(name), *(len(line[place]) for line in cells)) + 1.5 for place, name in enumerate(columns)]
    drawn = axes.table(
        cellText=cells,
        cellColours=colours,
        colLabels=columns,
        loc="upper left",
        cellLoc="left",
        colWidths=[width / max(sum(widths), 60) for width in widths],
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(5.5)
    for cell in drawn.get_celld().values():
        cell.set_linewidth(0.2)
        cell.set_height(1 / ((2 * ROWS if panel["gridPos"]["h"] >= 14 else ROWS) + 1.5))


def _order(value: Any) -> tuple[bool, float, str]:
    number = float(value) if isinstance(value, int | float) or str(value).isdigit() else 0.0
    return value is not None, number, str(value)


def _column_units(panel: Mapping[str, Any]) -> dict[str, str]:
    return {
        override["matcher"]["options"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "unit"
    }


def _cell(name: str, value: Any, unit: str) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if unit == "dateTimeFromNow" or value > 1e12:
            return f"{_at(value):%d %b %H:%M}"
        if unit == "s":
            return f"{value / 60:.0f} min"
        if unit == "bytes":
            return f"{value / 1e6:.0f} MB" if value > 1e6 else f"{value:.0f} B"
        return f"{value:.5g}" if isinstance(value, float) else str(value)
    return str(value)[:40]


def _stat(axes: Axes, panel: Mapping[str, Any], answers: Answers, period: Period) -> None:
    axes.axis("off")
    series, colours = _series(answers), _colours(panel)
    scale, unit = _unit(panel, [points[-1][1] for points in series.values() if points])
    for place, (name, points) in enumerate(series.items()):
        x = (place + 0.5) / len(series)
        value = points[-1][1] / scale if points else float("nan")
        axes.text(x, 0.35, f"{value:.3g} {unit}", ha="center", fontsize=15, color=colours.get(name, "#22a055"))
        if len(series) > 1:
            axes.text(x, 0.0, name, ha="center", fontsize=7)


def _bars(axes: Axes, panel: Mapping[str, Any], answers: Answers, period: Period) -> None:
    series = {name: points[-1][1] for name, points in _series(answers).items() if points}
    scale, unit = _unit(panel, list(series.values()))
    axes.barh(list(series), [value / scale for value in series.values()], color=STATE_COLOURS["done"])
    axes.set_xlabel(unit, fontsize=6)


_KINDS: dict[str, Callable[[Axes, Mapping[str, Any], Answers, Period], None]] = {
    "timeseries": _curves,
    "state-timeline": _lanes,
    "table": _table,
    "stat": _stat,
    "bargauge": _bars,
}


def main() -> None:
    """Take a picture of every dashboard."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.pictures", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument(
        "--authorization",
        default=os.environ.get("CALIB_INFLUXDB_AUTHORIZATION", ""),
        help="the header, such as `Token …`; by default that of the environment, so that it is in no list of processes",
    )
    parser.add_argument("--days", type=float, default=1.0, help="length of the time range, which ends now")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    for name in ("campaign", "workflow", "task", "run", "group", "name"):
        parser.add_argument(f"--{name}", nargs="+", help=f"what the variable {name} is set to")
    given = parser.parse_args()
    wanted = {name: value for name, value in vars(given).items() if isinstance(value, list)}
    for file in draw(
        Asker(given.url, given.database, given.authorization), given.folder, Period.last(given.days), wanted
    ):
        print(file)


if __name__ == "__main__":
    main()
