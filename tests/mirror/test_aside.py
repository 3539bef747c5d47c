"""What a server refuses is set aside, told, and tried again; everything else goes through."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import aside, carrier, outbox, reading, state
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.delivery import Line
from airflow_calib_provider.mirror.rebuild import delete_all, rebuild
from airflow_calib_provider.mirror.schema import MEASUREMENTS
from airflow_calib_provider.mirror.status import of_targets
from tests.mirror.carrying import NAME, assert_exact, carry, row_of, through
from tests.mirror.conftest import target_of
from tests.mirror.faults import FaultyProxy
from tests.mirror.walk import Walk


def test_refused_points_are_set_aside_and_the_others_go_through(
    filled: Ledger, influx: Any, client: InfluxClient
) -> None:
    # Somebody else made a text of one of our fields.
    influx.write(f'job,somebody=else job="text" {time.time_ns()}')
    carry(filled, client)
    with filled.read() as connection:
        put = aside.listed(connection, NAME)
    assert put
    assert {row.measurement for row in put} == {"job"}
    assert all("conflict" in row.reason and "job=0i" in row.line for row in put)
    report = check(filled, client)
    jobs = report.measurements["job"]
    assert (jobs.missing, jobs.different, jobs.set_aside) == (0, 0, len(put))
    assert report.measurements["run_task"].clean
    with filled.read() as connection:
        [found] = of_targets(connection)
    assert sum(part["points"] for part in found.set_aside) == len(put)
    # It is mended, and tried again.
    delete_all(client)
    done_again = rebuild(filled, client)
    assert done_again.points > len(put)
    with filled.read() as connection:
        assert aside.listed(connection, NAME) == []
    assert_exact(check(filled, client))


def test_all_that_was_set_aside_is_tried_again(filled: Ledger, influx1: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = InfluxClient(target_of(influx1))
    for measurement in ("job", "run_task"):
        influx1.write(f'{measurement},somebody=else {"job" if measurement == "job" else "state_code"}="text" 5000')
        influx1.write(f'{measurement},somebody=else event="text" {time.time_ns()}')
    mirror = carry(filled, client)
    client.query('DELETE FROM "run_task"', change=True)
    monkeypatch.setattr(carrier, "ASIDE_AGAIN", 0.0)
    monkeypatch.setattr(carrier, "ASIDE_AT_ONCE", 2)
    with filled.read() as connection:
        kept = aside.listed(connection, NAME)
    assert kept[0].measurement == kept[-1].measurement == "run_task"
    aside_of = {row.event_id for row in kept}
    for _ in range(len(aside_of)):
        assert mirror.step().trouble == ""
    with filled.read() as connection:
        assert {row.measurement for row in aside.listed(connection, NAME)} == {"job"}


def test_events_of_several_groups_that_are_carried_again_have_their_histories(
    filled: Ledger, client: InfluxClient
) -> None:
    mirror = carry(filled, client)
    expected = reading.points(client, "run_task", "")
    event = tables.event.c
    with filled.write() as connection:
        about = event.entity == "group_task"
        numbers = connection.execute(select(func.max(event.id)).where(about).group_by(event.group_name)).scalars().all()
        aside.put(connection, NAME, [(Line(number, "run_task", "x"), "made up") for number in numbers])
    client.query('DELETE FROM "run_task"', change=True)
    mirror._aside_at = float("-inf")
    assert mirror.step().carried == len(numbers) > 3
    at = list(MEASUREMENTS["run_task"].fields).index("event")
    found = reading.points(client, "run_task", "")
    assert found.items() <= expected.items()
    assert {fields[at] for fields in found.values()} >= {fields[at] for fields in expected.values()} & set(numbers)


def test_one_event_of_many_jobs_is_carried_again_alone(ledger: Ledger, tmp_path: Path) -> None:
    walk = Walk(ledger, tmp_path)
    while walk.events() < 1500:
        walk.step()
    with ledger.read() as connection:
        of_jobs = select(tables.event).where(tables.event.c.entity == "job").order_by(tables.event.c.id)
        jobs = connection.execute(of_jobs).all()
        plain = next(row for row in jobs if "values" not in row.data)
        telling = next(row for row in jobs if "values" in row.data)
        assert [row.id for row in outbox.with_what_follows(connection, [plain], 10**9)] == [plain.id]
        later = outbox.with_what_follows(connection, [telling], 10**9)
    assert {row.job_index for row in later} == {telling.job_index}
    assert {row.entity for row in later} <= {"job", "value"}


def test_a_carrier_lets_go_while_everything_is_refused(filled: Ledger, influx1: Any, proxy: FaultyProxy) -> None:
    mirror = Carrier(filled, through(proxy, influx1))
    proxy.fault = "400"
    stepping = threading.Thread(target=mirror.step)
    stepping.start()
    while len(proxy.requests) < 5:
        time.sleep(0.01)
    mirror.release()
    stepping.join()
    assert len(proxy.requests) < 50
    assert row_of(filled).cursor == 0
    assert row_of(filled).holder is None
    proxy.fault = ""
    carry(filled, InfluxClient(target_of(influx1)))
    assert check(filled, InfluxClient(target_of(influx1))).total("missing") == 0


def test_what_is_carried_again_and_cut_short_is_kept(filled: Ledger, client: InfluxClient) -> None:
    mirror = carry(filled, client)
    with filled.write() as connection:
        aside.put(connection, NAME, [(Line(3, "run_task", "x"), "made up")])
        connection.execute(update(tables.mirror_target).values(holes=[[5, 6, time.time()]]))
        mirror._row = state.find(connection, NAME)
    mirror._ending = True
    assert (mirror._carry_aside().carried, mirror._carry_late().carried) == (0, 0)
    assert row_of(filled).holes
    with filled.read() as connection:
        assert aside.event_ids(connection, NAME, 10) == [3]


def test_an_event_of_which_no_point_can_be_made(
    filled: Ledger, client: InfluxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled.write() as connection:
        last = outbox.last_id(connection)
        connection.execute(
            update(tables.event).where(tables.event.c.id == last).values(entity="job", data={"values": 3})
        )
        connection.execute(update(tables.event).where(tables.event.c.id == last).values(to_state="succeeded"))
    carry(filled, client)
    with filled.read() as connection:
        [row] = aside.listed(connection, NAME)
    assert (row.event_id, row.line) == (last, "")
    assert "no point can be made" in row.reason
    report = check(filled, client)
    assert_exact(report)
    assert report.skipped == 1
