"""Run sources that are services: read on, and each its own trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.injection.inject import InjectionReport, inject
from airflow_calib_provider.ledger import source_reads, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group, explain_run
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.models import FieldType, RunSource, Workflow
from tests.ledger.making import SOURCE, T0, fill, task, workflow, write_runs
from tests.outside.server import Asked, JsonServer, json_server
from tests.runsources.connecting import connected

LATER = T0 + timedelta(days=100)
FILE = workflow("file", task("skim"), since=None)
FIELDS = {"number": FieldType.INT, "fill": FieldType.INT}


def of(name: str) -> Workflow:
    flow = workflow(name, task("skim"), task("scale", fill()), since=1)
    return flow.model_copy(update={"runs": flow.runs.model_copy(update={"source": name, "since": 1})})


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with json_server() as server, connected(OutsideConnection("calib_http", "calib_http", server.url)):
        yield server


class Service:
    """Workflows whose runs a service lists, beside one whose runs are in a file."""

    def __init__(self, ledger: Ledger, folder: Path, *names: str, **options: Any) -> None:
        self.ledger, self.folder = ledger, folder
        self.flows = {"file": FILE, **{name: of(name) for name in names}}
        self.sources = {"daq": SOURCE}
        for name in names:
            block = {"path": name, "timeout": "PT8S", **options}
            self.sources[name] = RunSource(name=name, fields=FIELDS, kind="http", options=block)

    def inject(self, hours: float) -> InjectionReport:
        at = LATER + timedelta(hours=hours)
        return inject(self.ledger, self.flows, self.sources, self.folder, now=at)

    def runs(self, source: str) -> dict[int, bool | None]:
        """Run → whether it is listed."""
        run = tables.run
        with self.ledger.read() as connection:
            rows = connection.execute(select(run.c.number, run.c.listed).where(run.c.source == source)).all()
        return {row.number: row.listed for row in rows}

    def told(self, what: int | str, **scope: Any) -> list[str]:
        asked = Scope("prompt", LATER, specs=self.flows, **scope)
        with self.ledger.read() as connection:
            found = (
                explain_run(connection, asked, what)
                if isinstance(what, int)
                else explain_group(connection, asked, what)
            )
        return [cause.text for cause in found.causes if cause.code == "source_unreadable"]


@pytest.mark.timeout(120)
def test_a_service_that_hangs_delays_its_own_runs_only_and_says_so(
    ledger: Ledger, tmp_path: Path, server: JsonServer
) -> None:
    world = Service(ledger, tmp_path, "web")
    hangs: list[bool] = []

    def answer(asked: Asked) -> None:
        if hangs:
            asked.server.over.wait(60)
        else:
            asked.reply([{"number": 1, "fill": 1, "end": "2026-01-01"}])

    server.answer = answer
    write_runs(tmp_path / "runs.csv", [{"number": 1}])
    assert world.inject(0).errors == []
    assert world.told(1) == []

    hangs.append(True)
    write_runs(tmp_path / "runs.csv", [{"number": 1}, {"number": 2}])
    for hours in (1, 2):
        report = world.inject(hours)
        (error,) = report.errors
        assert error.startswith("run source web: ")
        assert "no complete answer within 8 s" in error
    assert world.runs("daq") == {1: True, 2: True}
    assert world.runs("web") == {1: True}
    with ledger.read() as connection:
        (trouble,) = source_reads.unreadable(connection)
    assert (trouble.source, trouble.since) == ("web", LATER + timedelta(hours=1))
    for what in (99, "fill-r1"):  # a run that nobody knows, a group that is forming
        (text,) = world.told(what)
        assert text.startswith("the run source web cannot be read: ")

    hangs.clear()
    assert world.inject(3).errors == []
    assert world.told(99) == []


def test_only_what_is_new_is_read_and_nothing_of_it_within_a_transaction(
    ledger: Ledger, tmp_path: Path, server: JsonServer
) -> None:
    write_runs(tmp_path / "runs.csv", [])
    world = Service(ledger, tmp_path, "web", watermark="serial", since="from")
    listed = {1: 10, 2: 20}

    def answer(asked: Asked) -> None:
        with ledger.write():  # would wait for ever if whoever asks were writing
            since = int(asked.query.get("from", 0))
        asked.reply(
            [{"number": n, "fill": 1, "end": "2026-01-01", "serial": s} for n, s in listed.items() if s >= since]
        )

    server.answer = answer
    assert world.inject(0).new_runs == 2
    del listed[1]
    listed[3] = 30
    assert (world.inject(1).new_runs, world.runs("web")) == (1, {1: True, 2: True, 3: True})
    assert server.asked[-1][0] == "/web?from=20"
    again = world.inject(2)
    assert (again.new_runs, again.changed_runs, again.assigned) == (0, 0, 0)
    world.inject(30)
    assert world.runs("web") == {1: False, 2: True, 3: True}
    assert server.asked[-1][0] == "/web"


def test_services_are_asked_at_the_same_time(ledger: Ledger, tmp_path: Path, server: JsonServer) -> None:
    write_runs(tmp_path / "runs.csv", [])
    world = Service(ledger, tmp_path, "one", "two", timeout="PT60S")
    both = threading.Barrier(2, timeout=50)

    def answer(asked: Asked) -> None:
        both.wait()
        asked.reply([{"number": 1, "fill": 1, "end": "2026-01-01"}])

    server.answer = answer
    assert world.inject(0).errors == []
    assert (world.runs("one"), world.runs("two")) == ({1: True}, {1: True})


def test_a_process_without_airflow_says_what_is_missing(ledger: Ledger, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": 1}])
    with connected():
        (error,) = Service(ledger, tmp_path, "web").inject(0).errors
    assert "there is no connection 'calib_http' (asked were AIRFLOW_CONN_CALIB_HTTP" in error
