"""Members that another package brings do what every member must."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.kinds import load
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.settings import calib_home
from airflow_calib_provider.spec.kinds import backend_kind
from tests.backends.conformance import BackendConformance
from tests.backends.local_kit import ROOT
from tests.ledger.conformance import LockConformance
from tests.ledger.making import T0
from tests.messages.conformance import ChannelConformance
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.payloads.conformance import PayloadStoreConformance
from tests.postgres.fixture import database  # noqa: F401  on both
from tests.runsources.conformance import RunSourceConformance


class TestBackend(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Backend]]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        monkeypatch.setenv("PYTHONPATH", path)

        def make() -> Backend:
            made: Backend = load(backend_kind("toy").loader)(tmp_path / "spool", slots=4, grace=0.5)
            return made

        yield make
        for key in make().rounds():
            make().remove(key)


class Known(LockConformance):
    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        def open_them(runs: Iterable[int]) -> None:
            row = {"source": "daq", "completed": True, "fields": {}, "files": [], "recorded_at": T0, "content_hash": ""}
            with ledger.write() as connection:
                connection.execute(insert(tables.run), [{**row, "number": 1_000 + run} for run in runs])

        return open_them


class TestLockInTheStatement(Known):
    @pytest.fixture
    def kind(self) -> str:
        return "run_known"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"number": 1_001}


class TestLockThatAnswers(Known):
    @pytest.fixture
    def kind(self) -> str:
        return "runs_counted"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"at_least": 80}


class TestRunSource(RunSourceConformance):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        text = "apiVersion: calib/v1\nsources: {it: {numbers: {first: 3, last: 9}, fields: {lumi: float}}}\n"
        (tmp_path / "sources.yaml").write_text(text)
        return tmp_path

    @pytest.fixture
    def unreadable(self, folder: Path) -> Path:
        (folder / "no_numbers").touch()
        return folder


class TestConditionsStore(ConditionsStoreConformance):
    @pytest.fixture
    def name(self) -> str:
        return "notebook"

    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "notebook")

    @pytest.fixture
    def no_place(self) -> str:
        return "on the desk"

    @pytest.fixture
    def put(self, place: str) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            file = Path(place)
            others = [line for line in file.read_text().splitlines() if line.split()[0] != tag] if file.exists() else []
            mine = [f"{tag} {first} {'-' if last is None else last} {name}" for first, last, name in intervals]
            file.write_text("\n".join([*others, *mine]) + "\n")

        return write

    @pytest.fixture
    def breaks(self, place: str) -> Callable[[], None]:
        return lambda: Path(place).unlink()


class TestPayloadStore(PayloadStoreConformance):
    @pytest.fixture
    def name(self) -> str:
        return "drawer"

    @pytest.fixture
    def breaks(self) -> Callable[[], None]:
        def stand_in_the_way() -> None:
            calib_home().mkdir(exist_ok=True)
            (calib_home() / "drawer").write_text("a file where the folder should be")

        return stand_in_the_way


class TestChannel(ChannelConformance):
    @pytest.fixture
    def block(self, tmp_path: Path) -> str:
        return f"bottle: {{sea: {tmp_path / 'sea'}}}"

    @pytest.fixture
    def connection(self) -> OutsideConnection | None:
        return None

    @pytest.fixture
    def arrived(self, tmp_path: Path) -> Callable[[], Sequence[str]]:
        return lambda: [json.loads(line) for line in (tmp_path / "sea").read_text().splitlines()]

    @pytest.fixture
    def break_it(self, tmp_path: Path) -> Callable[[], None]:
        return (tmp_path / "sea").mkdir
