"""Queries with their variables filled in, as Grafana sends them.

For tests, pictures, and anybody who wants to run a panel's query by hand:
``python -m deploy.grafana.filled --campaign prompt --workflow zee``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.grafana.writing import FOLDER

Chosen = Mapping[str, Sequence[str]]
"""What is chosen at the top of a dashboard: variable → values."""

EVERYTHING = ".*"

POINTS = 200
"""How many intervals a panel of usual width draws."""


@dataclass(frozen=True)
class Filled:
    """A query that can be executed.

    :ivar board: the dashboard's file, without its end.
    :ivar panel: the panel as in the file; of a variable: an empty one.
    :ivar title: the panel's title, or ``variable <name>``.
    :ivar ref: the letter of the query in its panel.
    :ivar query: InfluxQL.
    :ivar alias: how its series are named.
    """

    board: str
    panel: Mapping[str, Any]
    title: str
    ref: str
    query: str
    alias: str


@dataclass(frozen=True)
class Period:
    """The time range at the top of a dashboard."""

    begin: datetime
    end: datetime

    @classmethod
    def last(cls, days: float) -> Period:
        """Ends now."""
        end = datetime.now(UTC)
        return cls(end - timedelta(days=days), end)

    @property
    def condition(self) -> str:
        """What ``$timeFilter`` stands for."""
        return f"time >= {_ms(self.begin)}ms and time <= {_ms(self.end)}ms"

    def interval(self, least: str | None) -> str:
        """What ``$__interval`` stands for.

        :param least: the panel's shortest one.
        """
        seconds = max((self.end - self.begin).total_seconds() / POINTS, _seconds(least or "1s"))
        nice = (1, 10, 60, 300, 600, 1800, 3600, 10800, 43200)
        return f"{next((step for step in nice if step >= seconds), 86400)}s"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def fill(query: str, chosen: Chosen, period: Period, least: str | None = None) -> str:
    """Replace what Grafana replaces in a query.

    :raises KeyError: a variable has no value.
    """
    query = query.replace("$timeFilter", period.condition).replace("$__interval", period.interval(least))
    return re.sub(r"\$\{(\w+):regex\}", lambda match: _regex(chosen[match[1]]), query)


def _regex(values: Sequence[str]) -> str:
    """Grafana's format ``regex``: one value escaped; several as alternatives. ``.*`` stands for all."""
    if list(values) == [EVERYTHING]:
        return EVERYTHING
    escaped = [re.sub(r"[\\^$*+?.()|[\]{}/]", lambda match: "\\" + match[0], value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def boards(folder: Path = FOLDER) -> dict[str, Any]:
    """Every committed dashboard by name."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}


def variables(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that the data source is asked for, in order: each may use those before it."""
    return [item for item in board["templating"]["list"] if item["type"] == "query"]


def queries(name: str, board: Mapping[str, Any], chosen: Chosen, period: Period) -> Iterator[Filled]:
    """All queries of a dashboard: of its panels, then of its variables."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            text = fill(target["query"], chosen, period, panel.get("interval"))
            yield Filled(name, panel, panel["title"], target["refId"], text, target.get("alias", ""))
    for variable in variables(board):
        text = fill(variable["query"], chosen, period)
        yield Filled(name, {}, f"variable {variable['name']}", "A", text, "")


def main() -> None:
    """Ask every query of every panel, and print those that return nothing."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.filled", description=__doc__)
    parser.add_argument("--days", type=float, default=7.0, help="length of the time range, which ends now")
    for name in ("campaign", "workflow", "task", "run", "group", "name"):
        parser.add_argument(f"--{name}", nargs="+", default=[EVERYTHING], help="all by default")
    given = vars(parser.parse_args())
    period = Period.last(given.pop("days"))
    for name, board in boards().items():
        for item in queries(name, board, given, period):
            print(f"# {item.board}: {item.title} ({item.ref})\n{item.query}\n")


if __name__ == "__main__":
    main()
