"""The run sources of this package do what every run source must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.outside.connections import OutsideConnection
from tests.outside.server import JsonServer, json_server
from tests.postgres.fixture import Database
from tests.runsources.conformance import RunSourceConformance
from tests.runsources.connecting import connected, connection_to, run_script

HEAD = "apiVersion: calib/v1\nsources:\n  it:\n"


class TestCsv(RunSourceConformance):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        text = "    csv: {path: runs.csv, columns: {number: Run}}\n"
        fields = "    fields: {start: time, end: time, lumi: float, good: bool, note: string, fill: int}\n"
        (tmp_path / "sources.yaml").write_text(HEAD + text + fields)
        (tmp_path / "runs.csv").write_text(
            "Run,start,end,lumi,good,note,fill,files\n"
            "7,2026-01-01T00:00:00+01:00,2026-01-01T01:00:00Z,1.5,true,fine,3,a.root;root://eos//b.root\n"
            "5,2026-01-01T00:00:00Z,,,,,,\n"
        )
        return tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path) -> Path:
        (folder / "runs.csv").write_text("Run,start\n7\n")
        return folder


class TestEvents(RunSourceConformance):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "sources.yaml").write_text(
            HEAD + "    events: {path: events.csv, run: Run}\n    fields: {lumi: float}\n"
        )
        (tmp_path / "events.csv").write_text("Run,pt\n9,1\n4,2\n9,3\n")
        return tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path) -> Path:
        (folder / "events.csv").unlink()
        return folder


class TestJson(RunSourceConformance):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        text = "    json: {path: runs.json, keys: {number: run}, zone: Europe/Zurich}\n"
        (tmp_path / "sources.yaml").write_text(HEAD + text + "    fields: {start: time, lumi: float, note: string}\n")
        (tmp_path / "runs.json").write_text(
            '[{"run": 7, "start": "2026-01-01T00:00", "lumi": 1, "note": "fine", "files": ["a.root"]}, {"run": 5}]'
        )
        return tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path) -> Path:
        (folder / "runs.json").write_text('[{"run": 7')
        return folder


class TestHttp(RunSourceConformance):
    @pytest.fixture
    def server(self) -> Iterator[JsonServer]:
        runs = [{"number": 7, "start": "2026-01-01T00:00:00+01:00", "good": True}, {"number": 5, "files": ["/a.root"]}]
        with json_server() as server, connected(OutsideConnection("calib_http", "calib_http", server.url)):
            server.answer = lambda asked: asked.reply({"data": runs})
            yield server

    @pytest.fixture
    def folder(self, tmp_path: Path, server: JsonServer) -> Path:
        text = "    http: {path: runs, runs: data}\n    fields: {start: time, good: bool}\n"
        (tmp_path / "sources.yaml").write_text(HEAD + text)
        return tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path, server: JsonServer) -> Path:
        server.answer = lambda asked: asked.reply(b"", 500)
        return folder


class TestSql(RunSourceConformance):
    @pytest.fixture
    def folder(self, tmp_path: Path, postgres: Database) -> Iterator[Path]:
        run_script(postgres, "CREATE TABLE runs (number int, start timestamptz, lumi numeric, note text)")
        run_script(postgres, "INSERT INTO runs VALUES (7, '2026-01-01 00:00+01', 1.5, 'fine'), (5, NULL, NULL, NULL)")
        text = "    sql: {connection: daq, select: SELECT * FROM runs}\n"
        (tmp_path / "sources.yaml").write_text(HEAD + text + "    fields: {start: time, lumi: float, note: string}\n")
        with connected(connection_to(postgres)):
            yield tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path, postgres: Database) -> Path:
        run_script(postgres, "DROP TABLE runs")
        return folder
