"""The run sources of this package do what every run source must."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runsources.conformance import RunSourceConformance

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
