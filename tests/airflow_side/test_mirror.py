"""The mirror from Airflow's side: its connection, trigger, operator and DAG, with a real InfluxDB."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException, TaskDeferred

from airflow_calib_provider.dags.system import system_dags
from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.hooks.influxdb import InfluxHook, influx_target
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import state
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.operators import inject
from airflow_calib_provider.operators.mirror import MirrorOperator
from airflow_calib_provider.triggers import mirror as trigger
from airflow_calib_provider.triggers.mirror import MirrorTrigger
from tests.ledger.making import facts, new_ledger, put_runs, task, workflow
from tests.mirror.conftest import target_of
from tests.mirror.faults import FaultyProxy


def connection(**options: Any) -> Connection:
    extra = options.pop("extra", {})
    return Connection(
        conn_id="calib_influxdb", **{"conn_type": "calib_influxdb", **options}, extra=json.dumps(extra or {})
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            connection(host="https://i:8086", password="secret", extra={"bucket": "b", "org": "o"}),
            {"url": "https://i:8086", "bucket": "b", "org": "o"},
        ),
        (
            connection(host="i", port=8086, login="me", password="secret", extra={"database": "d"}),
            {"url": "http://i:8086", "database": "d", "user": "me"},
        ),
        (
            connection(host="i", schema="https", password="secret", extra={"bucket": "b", "verify": False}),
            {"url": "https://i", "bucket": "b", "verify": False},
        ),
        (
            connection(host="http://i/influx", port=1, password="secret", extra={"bucket": "b", "timeout": None}),
            {"url": "http://i/influx", "bucket": "b"},
        ),
        (
            connection(
                conn_type="influxdb",
                host="i",
                schema="https",
                port=7687,
                extra={"token": "secret", "org_name": "o", "bucket": "b", "other": 1},
            ),
            {"url": "https://i:7687", "bucket": "b", "org": "o"},
        ),
    ],
)
def test_what_a_connection_says(given: Connection, expected: dict[str, Any]) -> None:
    target = influx_target(given)
    assert {name: getattr(target, name) for name in expected} == expected
    assert "secret" in target.secrets
    assert "secret" not in f"{target!r} {target} {target.place}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (connection(conn_type="http", host="i"), "has the type 'http'; give it the type 'calib_influxdb'"),
        (connection(extra={"bucket": "b"}), "there is no address"),
        (connection(host="i", extra={"buckets": "secret"}), "buckets: there is no such field"),
    ],
)
def test_a_connection_with_mistakes(given: Connection, said: str) -> None:
    with pytest.raises(MirrorError, match=said) as caught:
        influx_target(given)
    assert "secret" not in str(caught.value)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Connection]:
    """The connections that Airflow has."""
    there: dict[str, Connection] = {}

    def get(connection_id: str) -> Connection:
        if connection_id not in there:
            raise AirflowNotFoundException(connection_id)
        return there[connection_id]

    async def aget(connection_id: str) -> Connection:
        return get(connection_id)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(get))
    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(aget))
    return there


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_MIRROR_INTERVAL", "0.05")
    made = new_ledger(tmp_path)
    put_runs(made, workflow("ecal", task("skim")), [facts(number) for number in range(1, 5)])
    return made


def of_server(server: Any) -> Connection:
    if server.major == 1:
        return connection(
            host=server.url, login=server.user, password=server.password, extra={"database": server.database}
        )
    return connection(host=server.url, password=server.token, extra={"bucket": server.bucket, "org": server.org})


async def events_of(made: MirrorTrigger) -> list[Any]:
    return [event.payload async for event in made.run()]


def test_the_trigger_carries_until_its_time_is_over(
    ledger: Ledger, known: dict[str, Connection], influx1: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    known["calib_influxdb"] = of_server(influx1)
    made = MirrorTrigger("calib_influxdb", time.time() + 3)
    assert asyncio.run(events_of(made)) == [{"state": "ended"}]
    assert check(ledger, InfluxClient(target_of(influx1))).clean
    with ledger.read() as connection_:
        row = state.find(connection_, "calib_influxdb")
    assert row.holder is None
    assert row.last_success_at is not None
    assert influx1.password not in "".join(capsys.readouterr())


def test_a_connection_that_is_made_later(
    ledger: Ledger, known: dict[str, Connection], influx1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "LOOK_AGAIN", 0.1)

    async def later() -> list[Any]:
        running = asyncio.create_task(events_of(MirrorTrigger("calib_influxdb", time.time() + 5)))
        await asyncio.sleep(0.5)
        known["calib_influxdb"] = connection(host=influx1.url, extra={"nothing": "right"})
        await asyncio.sleep(0.5)
        wrong = of_server(influx1)
        wrong.password = "wrong"
        known["calib_influxdb"] = wrong
        await asyncio.sleep(1.0)
        known["calib_influxdb"] = of_server(influx1)
        return await running

    assert asyncio.run(later()) == [{"state": "ended"}]
    report = check(ledger, InfluxClient(target_of(influx1)))
    assert report.clean
    assert report.not_carried == 0


def carried(server: Any) -> bool:
    return bool(server.query('SELECT * FROM "run_task"'))


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


def test_a_connection_that_is_edited_and_deleted_while_all_is_well(
    ledger: Ledger, known: dict[str, Connection], influx1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "LOOK_AGAIN", 0.3)
    monkeypatch.setenv("CALIB_MIRROR_PATIENCE", "0.2")
    known["calib_influxdb"] = of_server(influx1)
    influx1.query('CREATE RETENTION POLICY "other" ON "' + influx1.database + '" DURATION INF REPLICATION 1')

    def elsewhere() -> bool:
        return bool(influx1.query(f'SELECT * FROM "{influx1.database}"."other"."run_task"'))

    async def edit() -> list[Any]:
        running = asyncio.create_task(events_of(MirrorTrigger("calib_influxdb", time.time() + 60)))
        await until(lambda: carried(influx1))
        edited = of_server(influx1)
        edited.extra = json.dumps({**edited.extra_dejson, "retention_policy": "other"})
        known["calib_influxdb"] = edited
        await asyncio.sleep(1.0)
        put_runs(ledger, workflow("ecal", task("skim")), [facts(number) for number in range(5, 9)])
        await until(elsewhere)
        del known["calib_influxdb"]
        return await asyncio.wait_for(running, 20)

    assert asyncio.run(edit()) == [{"state": "no_connection"}]


def test_an_edited_connection_does_not_wait_for_a_long_pause(
    ledger: Ledger, known: dict[str, Connection], influx1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "LOOK_AGAIN", 0.3)
    proxy = FaultyProxy(influx1.port)
    proxy.fault, proxy.retry_after = "429", "500"
    busy = of_server(influx1)
    busy.host = proxy.url
    known["calib_influxdb"] = busy

    async def edit() -> None:
        running = asyncio.create_task(events_of(MirrorTrigger("calib_influxdb", time.time() + 60)))
        await until(lambda: bool(proxy.requests))
        known["calib_influxdb"] = of_server(influx1)
        await until(lambda: carried(influx1))
        running.cancel()

    asyncio.run(edit())
    assert len(proxy.requests) == 1
    proxy.close()


def test_a_cancelled_trigger_writes_nothing_after_it_let_go(
    ledger: Ledger, known: dict[str, Connection], influx1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known["calib_influxdb"] = of_server(influx1)
    seen = []
    write, release = InfluxClient.write, state.release

    def slow(client: InfluxClient, body: bytes, route: str) -> Any:
        seen.append("begun")
        time.sleep(1.0)
        seen.append("written")
        return write(client, body, route)

    def released(*arguments: Any) -> None:
        seen.append("released")
        release(*arguments)

    monkeypatch.setattr(InfluxClient, "write", slow)
    monkeypatch.setattr(state, "release", released)

    async def cancel() -> None:
        running = asyncio.create_task(events_of(MirrorTrigger("calib_influxdb", time.time() + 60)))
        await until(lambda: bool(seen))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(cancel())
    assert seen == ["begun", "written", "released"]


def test_without_a_connection_the_task_is_skipped(
    ledger: Ledger, known: dict[str, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_MIRROR_PATIENCE", "0.2")
    monkeypatch.setattr(trigger, "LOOK_AGAIN", 0.1)
    operator = MirrorOperator(task_id="mirror")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({})
    made = deferred.value.trigger
    assert isinstance(made, MirrorTrigger)
    assert 23.9 * 3600 < made.until - time.time() <= 24 * 3600
    again = MirrorTrigger(**made.serialize()[1])
    [event] = asyncio.run(events_of(again))
    with pytest.raises(AirflowSkipException, match="no connection calib_influxdb"):
        operator.execute_complete({}, event)
    operator.execute_complete({}, {"state": "ended"})


def test_the_connection_is_tested(known: dict[str, Connection], influx: Any) -> None:
    known["calib_influxdb"] = of_server(influx)
    good, said = InfluxHook().test_connection()
    assert good
    assert influx.version in said
    wrong = of_server(influx)
    wrong.password = "not-the-right-one"
    known["calib_influxdb"] = wrong
    good, said = InfluxHook().test_connection()
    assert not good
    assert "check the token" in said
    assert "not-the-right-one" not in said


def test_the_dag_always_runs() -> None:
    dag = system_dags(__file__)["calib_mirror"]
    assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, False)
    assert type(dag.timetable).__name__ == "ContinuousTimetable"
    assert [item.task_id for item in dag.tasks] == ["mirror"]


@pytest.fixture
def housekeeping(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    monkeypatch.setattr(inject, "task_ledger", lambda: ledger)
    monkeypatch.setattr(inject, "open_dag_runs", lambda *_, **__: 0)

    def run() -> dict[str, Any]:
        return inject.HousekeepingOperator(task_id="housekeeping").execute({"ti": None})  # type: ignore[typeddict-item]

    return run


def test_housekeeping_compares(
    ledger: Ledger,
    known: dict[str, Connection],
    influx1: Any,
    housekeeping: Callable[[], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert housekeeping()["drift"] == []  # no connection, nothing to compare
    known["calib_influxdb"] = of_server(influx1)
    asyncio.run(events_of(MirrorTrigger("calib_influxdb", time.time() + 2)))
    assert housekeeping()["drift"] == []
    influx1.query('DELETE FROM "run_task"')
    [line] = housekeeping()["drift"]
    assert line.startswith("mirror: run_task: 4 missing, 0 extra, 0 different points (missing: run_task,campaign=")
    influx1.stop()
    assert housekeeping()["drift"] == []
    assert "the mirror cannot be checked" in capsys.readouterr().out


def test_housekeeping_asks_influxdb_last(
    ledger: Ledger,
    known: dict[str, Connection],
    housekeeping: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known["calib_influxdb"] = connection(host="http://127.0.0.1:1", extra={"database": "d"})
    order: list[str] = []
    query = InfluxClient.query
    monkeypatch.setattr(InfluxClient, "query", lambda *given: (order.append("asked"), query(*given))[1])
    monkeypatch.setattr(inject, "open_dag_runs", lambda *_, **__: order.append("opened"))
    housekeeping()
    assert order == ["opened", "asked"]
