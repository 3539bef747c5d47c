"""The kinds of locks of this package do what every kind must."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from sqlalchemy import insert

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.ledger.conformance import LockConformance
from tests.ledger.making import T0, done, facts, group_ids, put_runs, task, workflow

OTHER = workflow("other", task("skim"), task("publish"))


class TestTask(LockConformance):
    @pytest.fixture
    def kind(self) -> str:
        return "task"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"workflow": "other", "grouping": "run", "task": "skim"}

    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        def open_them(runs: Iterable[int]) -> None:
            put_runs(ledger, OTHER, [facts(number, 1) for number in runs])
            for group in group_ids(ledger, "run", "other").values():
                done(ledger, group, "skim")

        return open_them


class TestPayload(LockConformance):
    @pytest.fixture
    def kind(self) -> str:
        return "payload"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"tag": "Laser", "covers": "group"}

    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        def open_them(runs: Iterable[int]) -> None:
            numbers = list(runs)
            put_runs(ledger, OTHER, [facts(number, 1) for number in numbers])
            row = {
                "campaign": "prompt",
                "tag": "Laser",
                "first_run": numbers[0],
                "last_run": numbers[-1],
                "revision": 1,
                "state": "published",
                "content_hash": "0" * 64,
                "file_name": "laser",
                "size": 1,
                "workflow": "other",
                "task": "publish",
                "group_id": group_ids(ledger, "run", "other")["run-r1"],
                "provenance": {},
                "published_at": T0,
            }
            with ledger.write() as connection:
                connection.execute(insert(tables.payload).values(**row))

        return open_them
