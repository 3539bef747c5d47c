"""Where a connection and its routes lead, and what is said of those that lead nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import carrier
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient, Kind
from airflow_calib_provider.mirror.rebuild import delete_all, rebuild
from airflow_calib_provider.mirror.status import of_targets
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.mirror.testing import examine
from tests.mirror.carrying import assert_exact, carry, row_of
from tests.mirror.conftest import settings, target_of


def test_wrong_secrets_are_told_and_not_shown(filled: Ledger, influx: Any) -> None:
    wrong = "a-very-secret-thing"
    mirror = Carrier(filled, InfluxClient(target_of(influx, **{"token" if influx.major > 1 else "password": wrong})))
    step = mirror.step()
    assert "HTTP 401" in step.trouble
    assert "check the token" in step.trouble
    assert row_of(filled).cursor == 0
    shown = [step.trouble, repr(mirror.client), repr(mirror.client.target), row_of(filled).last_error]
    assert not any(wrong in text for text in shown)
    with pytest.raises(MirrorError) as caught:
        examine(mirror.client)
    assert wrong not in str(caught.value)


def test_a_place_that_appears_later(filled: Ledger, influx: Any) -> None:
    name = "later"
    client = InfluxClient(target_of(influx, **{"bucket" if influx.major > 1 else "database": name}))
    if influx.major == 1:
        # A user without rights is told nothing of a database that is not there.
        influx.query(f'GRANT ALL ON "{influx.database}" TO "{influx.user}"')
    mirror = Carrier(filled, client)
    step = mirror.step()
    assert "not found" in step.trouble or "403" in step.trouble
    before = influx.database
    influx.new_database(name)
    assert mirror.step().carried
    assert_exact(check(filled, client))
    influx.drop_database(name)
    influx.database = influx.bucket = before
    if influx.major == 1:
        influx.bucket = ""


def test_points_older_than_the_retention_are_counted(filled: Ledger, influx1: Any) -> None:
    influx1.query(f'CREATE RETENTION POLICY "short" ON "{influx1.database}" DURATION 1h REPLICATION 1')
    client = InfluxClient(target_of(influx1, routes={"run_task": "short"}))
    old = time.time_ns() - 10 * 3600 * 10**9
    with filled.write() as connection:
        connection.execute(update(tables.event).where(tables.event.c.id < 40).values(at=old + tables.event.c.id))
    carry(filled, client)
    assert row_of(filled).skipped_by_retention > 0
    report = check(filled, client)
    assert_exact(report)
    assert report.measurements["run_task"].beyond_retention == row_of(filled).skipped_by_retention
    assert report.total("set_aside") == 0


def test_routes(filled: Ledger, influx1: Any) -> None:
    influx1.query(f'CREATE RETENTION POLICY "long" ON "{influx1.database}" DURATION 5000h REPLICATION 1')
    client = InfluxClient(target_of(influx1, routes={"job": "long"}))
    carry(filled, client)
    assert_exact(check(filled, client))
    assert influx1.query(f'SELECT * FROM "{influx1.database}"."long"."job"')
    assert not influx1.query(f'SELECT * FROM "{influx1.database}"."autogen"."job"')
    assert delete_all(client)
    assert not influx1.query(f'SELECT * FROM "{influx1.database}"."long"."job"')


def test_the_missing_place_of_one_route_holds_up_no_other(
    filled: Ledger, influx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    default, late = influx.database, f"{influx.database}_late"
    client = InfluxClient(target_of(influx, routes={"group": late}))
    mirror = Carrier(filled, client)
    while (step := mirror.step()).carried:
        assert step.trouble == ""
    assert influx.query("SELECT state FROM run_task")
    with filled.read() as connection:
        [told] = of_targets(connection)
    assert late in told.note
    assert not told.in_trouble
    [kept] = told.set_aside
    assert (kept["measurement"], kept["points"]) == ("group", 14)
    assert late in kept["reason"]
    with pytest.raises(MirrorError, match=r"not found.*correct the name in the connection"):
        rebuild(filled, client)

    if influx.major == 1:
        influx.query(f'CREATE RETENTION POLICY "{late}" ON "{default}" DURATION 5000h REPLICATION 1')
    else:
        influx.new_database(late)
    monkeypatch.setattr(carrier, "LONGEST_BACK_OFF", 0.0)
    mirror._look_at = 0.0  # as a minute later
    assert mirror.step().carried == 14
    mirror.step()
    assert_exact(check(filled, client))
    assert check(filled, client).total("set_aside") == 0
    if influx.major > 1:
        influx.drop_database(late)
        influx.database = influx.bucket = default


def test_bucket_of_1_8(filled: Ledger, influx1: Any) -> None:
    values = settings(influx1, database="", bucket=f"{influx1.database}/autogen")
    client = InfluxClient(InfluxTarget.from_mapping(values))
    carry(filled, client)
    assert_exact(check(filled, client))
    assert "1.8.10" in examine(client)


def test_the_connection_is_examined(influx: Any, client: InfluxClient) -> None:
    assert f"{influx.version} at {influx.url}" in examine(client)
    assert influx.query("SHOW MEASUREMENTS") == []
    influx.stop()
    with pytest.raises(MirrorError, match=r"refused.*check the address"):
        examine(client)


def test_a_connection_that_names_another_place(filled: Ledger, influx1: Any) -> None:
    carry(filled, InfluxClient(target_of(influx1))).release()
    influx1.query(f'CREATE RETENTION POLICY "long" ON "{influx1.database}" DURATION 5000h REPLICATION 1')
    client = InfluxClient(target_of(influx1, retention_policy="long"))
    carry(filled, client)
    assert "`calib mirror rebuild` brings them here" in row_of(filled).note
    assert not check(filled, client).clean


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"url": "influxdb:8086", "bucket": "b"}, "address: must be an address"),
        ({"url": "http://me:hidden@influxdb:8086", "bucket": "b"}, "must hold no user, password"),
        ({"url": "http://influxdb"}, "neither a bucket"),
        (
            {"url": "http://influxdb", "bucket": "b", "buckett": "hidden"},
            "buckett: there is no such field; there are bucket",
        ),
        ({"url": "http://influxdb", "bucket": "b", "routes": {"jobs": "x"}}, "'jobs' is no measurement"),
        ({"url": "http://influxdb", "bucket": "b", "timeout": "hidden"}, "timeout: Input should be a valid number"),
        ({"url": "http://influxdb", "bucket": "b", "token": "hidden\nhidden"}, "token: must be one line"),
        ({"url": "http://influxdb", "bucket": "b", "token": "hidden…"}, "token: must be one line"),
    ],
)
def test_a_connection_with_mistakes(values: dict[str, Any], said: str) -> None:
    with pytest.raises(MirrorError, match=said) as caught:
        InfluxTarget.from_mapping(values)
    assert "hidden" not in str(caught.value)


def test_what_is_no_influxdb(influx: Any, tmp_path: Path) -> None:
    client = InfluxClient(target_of(influx, influx.url + "/not/here"))
    assert client.write(b"x y=1", client.target.route("")).kind in (Kind.NOT_INFLUXDB, Kind.MISSING)
