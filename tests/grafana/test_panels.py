"""Every query of every dashboard returns rows on real servers, and what panels do with them finds its columns."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient
from deploy.grafana.asking import Asker
from deploy.grafana.filled import Filled, Period, boards, queries
from deploy.grafana.frames import frame, named, transformed
from deploy.grafana.pictures import choose, draw
from tests.grafana.campaign import recorded
from tests.grafana.points import a_day
from tests.mirror.conftest import target_of

MADE = {"campaign": ["prompt"], "run": ["16"]}
"""What a shifter chooses; everything else is what the variables' queries answer, as with *All*."""


def asker(influx: Any) -> Asker:
    """As Grafana asks, with the header that its data source is provisioned with."""
    if influx.major == 1:
        user = base64.b64encode(f"{influx.user}:{influx.password}".encode()).decode()
        return Asker(influx.url, influx.database, f"Basic {user}")
    return Asker(influx.url, influx.database, f"Token {influx.token}")


def empty(ask: Asker, period: Period, chosen: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """Queries that returned no rows, and tables that show none."""
    found = []
    for name, board in boards().items():
        values = choose(ask, board, period, chosen)
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
            shown.need(*named_columns(panel))
    return found


def named_columns(panel: dict[str, Any]) -> list[str]:
    """The columns that a table's panel names: in overrides, and the one it is sorted by."""
    overrides = [each["matcher"] for each in panel["fieldConfig"]["overrides"]]
    names = [matcher["options"] for matcher in overrides if matcher["id"] == "byName"]
    return names + [each["displayName"] for each in panel["options"].get("sortBy", [])]


def test_every_query_returns_rows_of_a_recorded_campaign(
    influx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From jobs over ledger and mirror to the panels."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.setenv("CALIB_RETRY_DELAY", "0")
    monkeypatch.setenv("CALIB_SAMPLE_INTERVAL", "0")
    with recorded(tmp_path / "site") as ledger:
        client = InfluxClient(target_of(influx))
        carrier = Carrier(ledger, client)
        while (step := carrier.step()).carried:
            assert not step.trouble
        assert not step.trouble
        carrier.release()
    assert empty(asker(influx), Period.last(1), {"campaign": ["prompt"], "workflow": ["zee"], "run": ["1"]}) == []


def test_every_query_returns_rows_of_a_day(influx: Any) -> None:
    """The points that the pictures of the docs are made of."""
    influx.write(*a_day())
    assert empty(asker(influx), Period.last(2), MADE) == []


@pytest.mark.long
def test_pictures_can_be_made(influx1: Any, tmp_path: Path) -> None:
    influx1.write(*a_day())
    files = draw(asker(influx1), tmp_path, Period.last(1), {**MADE, "workflow": ["zee"], "name": ["scale_eb"]})
    assert [file.stem for file in files] == sorted(boards())
    assert all(file.stat().st_size > 10_000 for file in files)
