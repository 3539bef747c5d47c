"""Carrying to real servers, with everything in between misbehaving."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import outbox, reading, sampling, state
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.rebuild import rebuild
from airflow_calib_provider.mirror.schema import MEASUREMENTS
from airflow_calib_provider.mirror.status import of_targets, series
from airflow_calib_provider.outside.limits import retry_after
from tests.ledger.making import group_ids, set_state
from tests.mirror.carrying import assert_exact, carry, row_of, through
from tests.mirror.conftest import target_of
from tests.mirror.faults import FaultyProxy


def test_everything_arrives_once(filled: Ledger, client: InfluxClient) -> None:
    carry(filled, client)
    report = check(filled, client)
    assert_exact(report)
    assert report.measurements["run_task"].expected == 13
    assert report.not_carried == 0
    before = reading.points(client, "run_task", "")
    rebuild(filled, client)
    assert reading.points(client, "run_task", "") == before
    with filled.read() as connection:
        [found] = of_targets(connection)
        counts = series(connection)
    assert (found.lag_events, found.lag_seconds, found.in_trouble, found.set_aside) == (0, 0.0, False, [])
    assert counts["run_task"] == 7


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("503", "HTTP 503: made up by the test"),
        ("429", "HTTP 429: made up by the test"),
        ("html", "(HTTP 200) is not InfluxDB"),
        ("redirect", "(HTTP 307) is not InfluxDB"),
        ("silence", "imed out"),
        ("cut", "emote"),
        ("cut_after", "emote"),
    ],
)
def test_trouble_loses_nothing_and_says_what_and_where(
    filled: Ledger, influx: Any, proxy: FaultyProxy, fault: str, said: str
) -> None:
    mirror = Carrier(filled, through(proxy, influx, timeout=0.5))
    proxy.fault = fault
    step = mirror.step()
    assert said in step.trouble
    assert proxy.url in step.trouble
    assert 0.4 < step.pause <= 1.0
    assert row_of(filled).cursor == 0
    assert row_of(filled).last_error == step.trouble
    assert state.is_in_trouble(row_of(filled))
    assert mirror.step().pause > 0.9
    proxy.fault = ""
    assert mirror.step().carried
    assert not state.is_in_trouble(row_of(filled))
    assert_exact(check(filled, InfluxClient(target_of(influx))))


@pytest.mark.parametrize("asked", ["7", "date"])
def test_retry_after_is_obeyed(filled: Ledger, influx: Any, proxy: FaultyProxy, asked: str) -> None:
    proxy.fault = "429"
    proxy.retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=8)) if asked == "date" else asked
    assert 5 < Carrier(filled, through(proxy, influx)).step().pause <= 8


def test_retry_after_may_be_anything() -> None:
    assert retry_after({"retry-after": "1e9"}) == 600.0
    assert retry_after({"Retry-After": "-5"}) == 0.0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"Retry-After": "nan"}) is None
    assert retry_after({}) is None


def test_a_server_that_is_away(filled: Ledger, influx: Any, client: InfluxClient) -> None:
    mirror = Carrier(filled, client)
    influx.stop()
    step = mirror.step()
    assert "refused" in step.trouble
    influx.start()
    assert mirror.step().carried
    assert_exact(check(filled, client))


def test_requests_that_are_too_large_are_halved(filled: Ledger, influx: Any, proxy: FaultyProxy) -> None:
    proxy.most_bytes = 700
    carry(filled, through(proxy, influx))
    assert len(proxy.requests) > 10
    report = check(filled, InfluxClient(target_of(influx)))
    assert_exact(report)
    assert report.total("set_aside") == 0


def test_a_step_of_many_requests_keeps_the_target(
    filled: Ledger, influx: Any, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LEASE", timedelta(seconds=1.5))
    slow, other = Carrier(filled, through(proxy, influx)), Carrier(filled, InfluxClient(target_of(influx)))
    assert slow.client.try_route(slow.client.target.route("")).ok  # the first call imports, which takes long
    proxy.fault = "400"
    written = slow.client.write

    def slowly(body: bytes, route: str) -> Any:
        time.sleep(0.04)
        return written(body, route)

    monkeypatch.setattr(slow.client, "write", slowly)
    worker = threading.Thread(target=slow.step)
    worker.start()
    time.sleep(0.3)
    steps = []
    while worker.is_alive():
        steps.append(other.step())
        time.sleep(0.2)
    assert len(steps) > 5
    assert {step.trouble for step in steps} == {"another carrier works for this target"}


def test_only_one_carries(filled: Ledger, client: InfluxClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Carrier(filled, client), Carrier(filled, client)
    assert first.step().carried
    assert "another carrier" in second.step().trouble
    first.release()
    monkeypatch.setattr(state, "LEASE", timedelta(0))
    assert second.step().trouble == ""
    set_state(filled, group_ids(filled, "run")["run-r7"], "skim", "failed")
    assert first.step().carried
    assert second.step().carried == 0


def test_events_that_turn_up_late_are_carried(filled: Ledger, client: InfluxClient) -> None:
    """As on PostgreSQL, where a transaction that commits later may hold lower ids."""
    member = tables.event.c.entity == "membership"
    with filled.write() as connection:
        late = connection.execute(tables.event.select().where(member)).all()
        connection.execute(delete(tables.event).where(member))
    mirror = carry(filled, client)
    assert row_of(filled).holes
    assert check(filled, client).measurements["run_task"].expected == 0
    with filled.write() as connection:
        connection.execute(insert(tables.event), [dict(row._mapping) for row in late])
    assert check(filled, client).measurements["run_task"].missing == 13
    assert mirror.step().carried == len(late)
    assert row_of(filled).holes == []
    assert_exact(check(filled, client))


def test_a_spool_that_cannot_be_seen_stops_nothing(
    filled: Ledger, influx1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("os.statvfs", stale)
    assert Carrier(filled, InfluxClient(target_of(influx1)), before_step=sampling.sample).step().carried


def test_a_clock_that_goes_backwards_is_noted(filled: Ledger, client: InfluxClient) -> None:
    with filled.write() as connection:
        last = outbox.last_id(connection)
        earlier = tables.event.c.at - 90 * 10**9
        connection.execute(update(tables.event).where(tables.event.c.id == last).values(at=earlier))
    carry(filled, client)
    assert f"event {last} is 9" in row_of(filled).note
    assert_exact(check(filled, client))


def test_one_event_of_a_wrong_clock_hides_no_others(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOOK_BACK", 10)
    with filled.write() as connection:
        last = outbox.last_id(connection)
        since = connection.execute(select(tables.event.c.at).where(tables.event.c.id == 4)).scalar_one()
        middle = (last + 2) // 2
        connection.execute(update(tables.event).where(tables.event.c.id == middle).values(at=5))
        assert outbox.first_since(connection, since) == 4
        assert outbox.first_since(connection, time.time_ns() + 10**12) == last + 1


def test_figures_of_the_system(filled: Ledger, client: InfluxClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_SAMPLE_INTERVAL", "0")
    mirror = Carrier(filled, client, before_step=sampling.sample)
    for _ in range(3):
        mirror.step()
    set_state(filled, group_ids(filled, "run")["run-r7"], "skim", "waiting")
    sampling.sample_spool(filled)
    for _ in range(3):
        mirror.step()
    assert_exact(check(filled, client))
    found = reading.points(client, "system", "")
    assert sum(key[0] == ("all", "all") for key in found) == 3
    names = list(MEASUREMENTS["system"].fields)

    def waits(campaign: str, points: dict[reading.Key, reading.Fields]) -> list[Any]:
        said = [
            fields[names.index("groups_waiting")] for key, fields in sorted(points.items()) if key[0][0] == campaign
        ]
        return [item for item in said if item is not None]

    assert waits("all", found) == [0, 1]
    with filled.write() as connection:
        connection.execute(update(tables.group_task).values(state="done"))
    for _ in range(3):
        mirror.step()
    found = reading.points(client, "system", "")
    assert waits("all", found) == [0, 1, 0]
    assert waits("prompt", found)[-1] == 0
