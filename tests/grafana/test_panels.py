"""Every query of every dashboard returns rows on real servers, and what panels do with them finds its columns."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from deploy.grafana.asking import Asker
from deploy.grafana.filled import Filled, Period, boards, queries
from deploy.grafana.frames import frame, named, transformed
from deploy.grafana.pictures import choose
from tests.grafana.points import a_day

pytest.importorskip("tests.influx", reason="there is no InfluxDB for tests")

CHOSEN = {"campaign": ["prompt"], "run": ["16"]}
"""What a shifter chooses; everything else is what the variables' queries answer, as with *All*."""


def asker(influx: Any) -> Asker:
    """As Grafana asks, with the header that its data source is provisioned with."""
    if influx.major == 1:
        user = base64.b64encode(f"{influx.user}:{influx.password}".encode()).decode()
        return Asker(influx.url, influx.database, f"Basic {user}")
    return Asker(influx.url, influx.database, f"Token {influx.token}")


def empty(ask: Asker, period: Period) -> list[tuple[str, str, str]]:
    """Queries that returned no rows."""
    found = []
    for name, board in boards().items():
        values = choose(ask, board, period, CHOSEN)
        tables: dict[int, list[tuple[Filled, Any]]] = {}
        for item in queries(name, board, values, period):
            answer = ask(item.query)
            if not any(value is not None for s in answer for row in s["values"] for value in row[1:]):
                found.append((name, item.title, item.ref))
            if item.panel.get("type") == "table":
                tables.setdefault(item.panel["id"], []).append((item, answer))
            elif item.panel:
                assert all("$" not in series for series in named(answer, item.alias))
        for answers in tables.values():
            panel = answers[0][0].panel
            shown = transformed([frame(answer) for _, answer in answers if answer], panel.get("transformations", []))
            if not shown.rows:
                found.append((name, panel["title"], "shown"))
            for column in overridden(panel):
                shown.need(column)
    return found


def overridden(panel: dict[str, Any]) -> list[str]:
    """The columns that a table's panel names: overrides, the column it sorts by, those that links use."""
    names = [
        each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"] if each["matcher"]["id"] == "byName"
    ]
    return names + [each["displayName"] for each in panel["options"].get("sortBy", [])]


def test_every_query_returns_rows(influx: Any) -> None:
    influx.write(*a_day())
    assert empty(asker(influx), Period.last(2)) == []
