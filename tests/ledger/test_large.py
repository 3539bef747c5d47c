"""What a person asks for is written in parts that keep nobody waiting, however many runs it concerns, and a death
between two of them loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import LedgerError, NotFound
from airflow_calib_provider.ledger import campaigns, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.ledger.making import RUN, T0, count, facts, new_ledger, put_runs, task, workflow
from tests.postgres.fixture import database  # noqa: F401  on both

FLOW = workflow("ecal", task("skim", RUN), task("check", RUN, needs=["ecal.skim@run"]))


class Died(BaseException):
    """Instead of a death between two transactions."""


@pytest.fixture
def ledger(tmp_path: Path, database: str) -> Any:  # noqa: F811
    made = new_ledger(tmp_path)
    put_runs(made, FLOW, [facts(number) for number in range(1, 31)])
    yield made
    made.close()


def after(number: int) -> Any:
    """Die at a crash point when it is reached so often."""
    seen = []

    def point(name: str, scope: str = "") -> None:
        seen.append(name)
        if len(seen) == number:
            raise Died

    return point


def skip(ledger: Ledger, *runs: int) -> list[int]:
    return skips.add_many(ledger, "prompt", "ecal", runs, reason="magnet off", person="ada", now=T0)


def states(ledger: Ledger) -> dict[str, int]:
    table = tables.group_task
    with ledger.read() as connection:
        rows = list(connection.execute(select(table.c.state)).scalars())
    return {state: rows.count(state) for state in sorted(set(rows))}


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_skipping_many_runs_goes_on_after_a_death(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    monkeypatch.setattr(skips, "AT_ONCE", 10)
    with monkeypatch.context() as patched:
        patched.setattr(skips, "crash_point", after(deaths))
        with pytest.raises(Died):
            skip(ledger, *range(1, 26))
    assert count(ledger, tables.skip) == 25, "all of them are skipped at once"
    assert states(ledger).get("skipped", 0) == 2 * 10 * (deaths - 1)
    assert skip(ledger, *range(1, 26)) == []
    assert states(ledger) == {"new": 10, "skipped": 50}
    event = tables.event
    assert count(ledger, event, event.c.entity == "skip") == 25
    with ledger.read() as connection:
        query = select(event.c.run, event.c.to_state, event.c.data).where(event.c.entity == "skip").order_by(event.c.id)
        rows = connection.execute(query).all()
    assert [row.run for row in rows] == list(range(1, 26))
    assert (rows[0].to_state, rows[0].data) == ("skipped", {"reason": "magnet off", "person": "ada"})


def test_more_than_one_transaction_takes(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "MOST", 7)
    assert skip(ledger, *range(1, 31), 3) == list(range(1, 31))
    assert states(ledger) == {"skipped": 60}
    with pytest.raises(NotFound, match="no run 31"):
        skip(ledger, 31)


def create(ledger: Ledger, *runs: int) -> None:
    campaigns.create_large(ledger, "again", kind="finite", runs={"daq": runs})


def members(ledger: Ledger) -> list[int]:
    listed = tables.campaign_run
    with ledger.read() as connection:
        return list(connection.execute(select(listed.c.run).order_by(listed.c.run)).scalars())


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_campaign_is_there_with_its_last_run_or_not_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setattr(campaigns, "AT_ONCE", 10)
    with monkeypatch.context() as patched:
        patched.setattr(campaigns, "crash_point", after(deaths))
        with pytest.raises(Died):
            create(ledger, *range(1, 31))
    with ledger.read() as connection:
        assert [row.name for row in campaigns.open_campaigns(connection)] == ["prompt"]
        with pytest.raises(NotFound):
            campaigns.get(connection, "again")
    create(ledger, *range(5, 28))
    assert members(ledger) == list(range(5, 28))
    with pytest.raises(LedgerError, match="exists already"):
        create(ledger, 1)
    assert members(ledger) == list(range(5, 28))


def test_two_that_create_one_campaign_do_not_mix_their_runs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "AT_ONCE", 10)
    real = campaigns.crash_point

    def other(name: str, scope: str = "") -> None:
        monkeypatch.setattr(campaigns, "crash_point", real)
        with ledger.write() as connection:
            connection.execute(tables.campaign_run.insert().values(campaign="again", source="daq", run=30))

    monkeypatch.setattr(campaigns, "crash_point", other)
    with pytest.raises(LedgerError, match="another process creates a campaign again"):
        create(ledger, *range(1, 25))
    create(ledger, *range(1, 25))
    assert members(ledger) == list(range(1, 25))
