"""What is missing, extra or different on a server is found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import outbox
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.rebuild import delete_all, rebuild
from tests.ledger.making import group_ids, set_state
from tests.mirror.carrying import assert_exact, carry, row_of
from tests.mirror.conftest import target_of
from tests.mirror.walk import Walk


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
