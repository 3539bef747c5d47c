"""The kinds of locks of this package do what every kind must."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.ledger import tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from tests.ledger.conformance import LockConformance
from tests.ledger.making import T0, done, facts, group_ids, put_runs, task, workflow

OTHER = workflow("other", task("skim"), task("publish"))


def skimmed(ledger: Ledger, runs: Iterable[int]) -> None:
    """The task of the other workflow is done for these runs."""
    put_runs(ledger, OTHER, [facts(number, 1) for number in runs])
    for group in group_ids(ledger, "run", "other").values():
        done(ledger, group, "skim")


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
            skimmed(ledger, runs)

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


class TestProduct(LockConformance):
    @pytest.fixture
    def kind(self) -> str:
        return "product"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"workflow": "other", "task": "skim", "product": "pairs"}

    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        def open_them(runs: Iterable[int]) -> None:
            skimmed(ledger, runs)
            generation, product = tables.generation, tables.product
            with ledger.write() as connection:
                for number in connection.execute(select(generation.c.id)).scalars().all():
                    of_job = {"generation_id": number, "step": 0, "job_index": 0}
                    connection.execute(insert(product).values(**of_job, name="pairs", file="pairs.csv"))

        return open_them

    def test_what_is_not_there_holds(self, ledger, locked, opens):
        """Removed files, runs that were not taken there, another campaign."""
        opens(range(1, 40))
        assert [look.state for look in self.look(ledger, locked)] == ["open"] * 39 + ["waiting"]
        with ledger.write() as connection:
            connection.execute(update(tables.product).values(state="dropped"))
        look = self.look(ledger, locked)[0]
        assert render(look.reason) == "0 of 1 runs have other.skim.pairs; missing 1 (its files were removed)"
        with ledger.write() as connection:
            connection.execute(update(tables.product).values(state="accepted"))
            elsewhere = {"workflow": "other", "task": "skim", "product": "pairs", "campaign": "mc"}
            connection.execute(update(tables.lock).values(parameters=elsewhere))
        assert {look.state for look in self.look(ledger, locked)} == {"waiting"}

    def test_runs_that_are_not_taken_there_hold_nothing(self, ledger, locked):
        put_runs(ledger, OTHER, [facts(1, 1, selected=False)])
        look = self.look(ledger, locked)[0]
        assert (look.state, look.reason["code"]) == ("never", "all_skipped")


class TestDelay(LockConformance):
    @pytest.fixture
    def kind(self) -> str:
        return "delay"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        return {"for": 300 * 24 * 3600, "after": "group_closed"}

    @pytest.fixture
    def locked(self, ledger: Ledger, kind: str, parameters: dict[str, Any]) -> list[waiting.Key]:
        set_closed(ledger, datetime.now(UTC))
        return self.with_locks(ledger, kind, parameters)

    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        return lambda runs: set_closed(ledger, datetime.now(UTC) - timedelta(days=301))


class TestTime(LockConformance):
    @pytest.fixture
    def kind(self) -> str:
        return "time"

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
        return {"not_from": begin, "not_until": end, "zone": "UTC"}

    @pytest.fixture
    def opens(self, ledger: Ledger, parameters: dict[str, Any]) -> Callable[[Iterable[int]], None]:
        begin, end = parameters["not_from"], parameters["not_until"]

        def open_them(runs: Iterable[int]) -> None:
            other = {"not_from": end, "not_until": begin, "zone": "UTC"}
            with ledger.write() as connection:
                connection.execute(update(tables.lock).values(parameters=other))

        return open_them


def set_closed(ledger: Ledger, at: datetime) -> None:
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).values(closed_at=at))
