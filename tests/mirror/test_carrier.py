"""Carrying to real servers, with everything in between misbehaving."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import aside, carrier, outbox, reading, sampling, state
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import CheckReport, check
from airflow_calib_provider.mirror.client import InfluxClient, Kind, retry_after
from airflow_calib_provider.mirror.delivery import Line
from airflow_calib_provider.mirror.rebuild import delete_all, rebuild
from airflow_calib_provider.mirror.schema import MEASUREMENTS
from airflow_calib_provider.mirror.status import of_targets, series
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.mirror.testing import examine
from tests.ledger.making import done, facts, group_ids, put_runs, set_state, task, workflow
from tests.mirror.conftest import settings, target_of
from tests.mirror.faults import FaultyProxy
from tests.mirror.walk import Walk

FLOW = workflow("ecal", task("skim"))
NAME = "calib_influxdb"


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    put_runs(ledger, FLOW, [facts(number) for number in range(1, 8)])
    for number in list(group_ids(ledger, "run").values())[:3]:
        done(ledger, number, "skim")
    return ledger


@pytest.fixture
def client(influx: Any) -> InfluxClient:
    return InfluxClient(target_of(influx))


def through(proxy: FaultyProxy, server: Any, **options: Any) -> InfluxClient:
    return InfluxClient(target_of(server, proxy.url, **{"timeout": 1.0, **options}))


def carry(ledger: Ledger, client: InfluxClient) -> Carrier:
    made = Carrier(ledger, client)
    while (step := made.step()).carried:
        pass
    assert step.trouble == ""
    return made


def assert_exact(report: CheckReport) -> None:
    assert report.clean, [example for counts in report.measurements.values() for example in counts.examples]


def row_of(ledger: Ledger) -> Any:
    with ledger.read() as connection:
        return state.find(connection, NAME)


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


def test_check_finds_what_is_missing_extra_and_different(filled: Ledger, influx: Any, client: InfluxClient) -> None:
    carry(filled, client)
    [row] = influx.query('SELECT * FROM "run_task" LIMIT 1')
    tags = f"campaign=prompt,task=skim,workflow=ecal,run={row['run']}"
    influx.write(f"run_task,{tags} state_code=4i {row['time']}")  # different
    influx.write(f"run_task,{tags} state_code=4i,event=3i {row['time'] + 1}")  # extra, in a window
    influx.write(f"run_task,{tags} state_code=4i,event=3i 5")  # extra, at another time
    influx.write(f"run_task,{tags} state_code=4i,event=100000i {row['time'] + 2}")  # extra, of no event
    influx.write(f"run_task,{tags} state_code=4i {row['time'] + 3}")  # extra, without one
    client.query('DELETE FROM "group"', change=True)
    report = check(filled, client)
    found = report.measurements["run_task"]
    assert (found.missing, found.different, found.extra) == (0, 1, 4)
    assert report.measurements["group"].missing == report.measurements["group"].expected == 14
    assert not report.clean
    assert len(report.drift()) == 2
    assert [line.split("`")[1] for line in report.drift()] == [
        "calib mirror rebuild --delete-first",
        "calib mirror rebuild",
    ]
    rebuild(filled, client)
    assert check(filled, client).measurements["run_task"].extra == 4
    delete_all(client)
    rebuild(filled, client)
    assert_exact(check(filled, client))


OURS = "campaign=prompt,task=skim,workflow=ecal"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("job,{ours},failure=none,state=running signal=9i {late}", (0, 1)),  # a field that few points have
        ("job,{ours},failure=none,state=running strange=9i {late}", (0, 1)),
        ("run_task,{ours},run=1 event=0i {late}", (0, 1)),
        ("run_task,{ours},run=1 event=100000i {late}", (0, 1)),
        ("run_task,{ours},run={run},strange=x {fields} {time}", (0, 1)),  # a copy with one more tag
        ("run_task,{ours},run={run} strange=1 {time}", (1, 1)),  # one of ours with one more field
    ],
)
@pytest.mark.parametrize("since", [None, 3600])
def test_check_finds_what_nobody_of_ours_wrote(
    filled: Ledger, influx: Any, client: InfluxClient, line: str, found: tuple[int, int], since: int | None
) -> None:
    carry(filled, client)
    [row] = influx.query('SELECT * FROM "run_task" ORDER BY time DESC LIMIT 1')
    fields = f'state="{row["state"]}",state_code={row["state_code"]}i,group="{row["group"]}",event={row["event"]}i'
    fields += f',generation={row["generation"]}i,reason="{row["reason"]}"'
    told = {"ours": OURS, "run": row["run"], "time": row["time"], "late": row["time"] + 1, "fields": fields}
    influx.write(line.format(**told))
    report = check(filled, client, None if since is None else time.time_ns() - since * 10**9)
    assert (report.total("missing"), report.total("extra"), report.total("different")) == (*found, 0)


def test_check_of_values_that_are_gone_asks_little(
    ledger: Ledger, influx1: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    walk = Walk(ledger, tmp_path)
    while walk.events() < 1500:
        walk.step()
    client = InfluxClient(target_of(influx1))
    carry(ledger, client)
    assert_exact(check(ledger, client))
    influx1.query('DELETE FROM "value"')
    asked = []
    query = client.query
    monkeypatch.setattr(client, "query", lambda *given: (asked.append(given), query(*given))[1])
    report = check(ledger, client)
    assert report.measurements["value"].missing > 100
    assert len(asked) < 100


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


def test_a_ledger_that_was_restored_without_the_cursor(filled: Ledger, influx1: Any) -> None:
    client = InfluxClient(target_of(influx1))
    mirror = carry(filled, client)
    with filled.write() as connection:
        last = outbox.last_id(connection)
        gone = connection.execute(tables.event.select().where(tables.event.c.id > last - 5)).all()
        connection.execute(delete(tables.event).where(tables.event.c.id > last - 5))
    assert mirror.step().trouble == ""
    assert "--delete-first" in row_of(filled).note
    assert check(filled, client).total("extra") > 0
    assert check(filled, client, time.time_ns() - 3600 * 10**9).total("extra") > 0
    with filled.write() as connection:
        later = [{**row._mapping, "at": row.at + 10**9} for row in gone]
        connection.execute(insert(tables.event), later)
    assert mirror.step().carried == 5
    assert check(filled, client).total("missing") == 0


def test_a_place_that_was_lost_is_not_passed_over(filled: Ledger, influx: Any) -> None:
    client = InfluxClient(target_of(influx))
    mirror = carry(filled, client)
    assert row_of(filled).note is None
    influx.drop_database(client.target.bucket or client.target.database)
    set_state(filled, group_ids(filled, "run")["run-r7"], "skim", "failed")
    assert "create it" in mirror.step().trouble
    assert "`calib mirror rebuild` fills it anew" in row_of(filled).note


def test_a_connection_that_names_another_place(filled: Ledger, influx1: Any) -> None:
    carry(filled, InfluxClient(target_of(influx1))).release()
    influx1.query(f'CREATE RETENTION POLICY "long" ON "{influx1.database}" DURATION 5000h REPLICATION 1')
    client = InfluxClient(target_of(influx1, retention_policy="long"))
    carry(filled, client)
    assert "`calib mirror rebuild` brings them here" in row_of(filled).note
    assert not check(filled, client).clean


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


def test_one_event_of_a_wrong_clock_hides_no_others(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOOK_BACK", 10)
    with filled.write() as connection:
        last = outbox.last_id(connection)
        since = connection.execute(select(tables.event.c.at).where(tables.event.c.id == 4)).scalar_one()
        middle = (last + 2) // 2
        connection.execute(update(tables.event).where(tables.event.c.id == middle).values(at=5))
        assert outbox.first_since(connection, since) == 4
        assert outbox.first_since(connection, time.time_ns() + 10**12) == last + 1


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
