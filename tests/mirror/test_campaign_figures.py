"""How far campaigns are, as the mirror tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update

from airflow_calib_provider.ledger import campaigns, steering, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import campaign_figures, reading, sampling
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.check import check
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.rebuild import delete_all, rebuild
from airflow_calib_provider.mirror.schema import MEASUREMENTS
from tests.ledger.making import done, facts, fill, group_ids, put_runs, set_state, task, workflow
from tests.mirror.carrying import assert_exact

FLOW = workflow("ecal", task("skim"), task("fit", fill(), needs=["ecal.skim@run"]))
PLACES = {name: place for place, name in enumerate(MEASUREMENTS["campaign"].fields)}


@pytest.fixture
def sampled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("CALIB_SAMPLE_INTERVAL", "0")
    put_runs(ledger, FLOW, [facts(number) for number in range(1, 8)])
    return ledger


def events(ledger: Ledger) -> list[dict[str, Any]]:
    """The figures that were told."""
    table = tables.event
    query = select(table.c.campaign, table.c.data).where(table.c.entity == "campaign_figures").order_by(table.c.id)
    with ledger.read() as connection:
        return [{"campaign": row.campaign, **row.data} for row in connection.execute(query)]


def test_groups_count_once_and_what_is_over_is_told_once(sampled: Ledger, client: InfluxClient) -> None:
    runs = group_ids(sampled, "run")
    done(sampled, runs["run-r1"], "skim")
    set_state(sampled, runs["run-r2"], "skim", "waiting")
    set_state(sampled, runs["run-r3"], "skim", "failed")
    set_state(sampled, runs["run-r4"], "skim", "processing")
    carrier = Carrier(sampled, client, before_step=sampling.sample)
    for _ in range(3):
        carrier.step()
    [figures] = events(sampled)
    total = len(runs) + len(group_ids(sampled, "fill"))
    states = {name: figures[f"groups_{name}"] for name in ("done", "waiting", "failed", "processing", "new")}
    assert states == {"done": 1, "waiting": 1, "failed": 1, "processing": 1, "new": total - 4}
    assert (figures["groups"], figures["tasks_left"]) == (total, total - 2)
    with sampled.write() as connection:
        connection.execute(update(tables.group_task).values(state="done"))
    for _ in range(3):
        carrier.step()
    assert [(item["groups_done"], item["tasks_left"]) for item in events(sampled)] == [(1, total - 2), (total, 0)]
    assert_exact(check(sampled, client))
    found = reading.points(client, "campaign", "")
    told = [values[PLACES["groups_done"]] for _, values in sorted(found.items(), key=lambda item: item[0][1])]
    assert [value for value in told if value is not None] == [1, total]


def test_throttle_and_pause_are_seen_and_a_rebuild_says_the_same(sampled: Ledger, client: InfluxClient) -> None:
    carrier = Carrier(sampled, client, before_step=sampling.sample)
    carrier.step()
    steering.alter(sampled, "prompt", steering.Changes(max_groups=2, max_jobs=5, priority=1))
    steering.pause(sampled, "prompt", datetime.now(UTC))
    for _ in range(2):
        carrier.step()
    last = events(sampled)[-1]
    assert [last[name] for name in ("state", "max_groups", "max_jobs", "priority")] == ["paused", 2, 5, 1]
    before = reading.points(client, "campaign", "")
    carrier.release()
    delete_all(client)
    assert check(sampled, client).measurements["campaign"].missing == len(before) > 3
    rebuild(sampled, client)
    assert_exact(check(sampled, client))
    assert reading.points(client, "campaign", "") == before


def test_a_finite_campaign_says_when_it_is_expected_to_end(sampled: Ledger) -> None:
    now = datetime.now(UTC)
    with sampled.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 8)}, max_jobs=3)
    put_runs(sampled, FLOW, [facts(number) for number in range(1, 8)], campaign="again")
    groups = group_ids(sampled, "run", campaign="again")
    done(sampled, groups["run-r1"], "skim")
    with sampled.write() as connection:
        connection.execute(update(tables.group_task).values(since=now))
    sampling.sample(sampled, "x")
    [figures] = [item for item in events(sampled) if item["campaign"] == "again"]
    left = figures["tasks_left"]
    assert figures["expected_end"] == pytest.approx((now + timedelta(minutes=10) * left).timestamp(), abs=60)
    assert figures["max_jobs"] == 3
    (prompt,) = [item for item in events(sampled) if item["campaign"] == "prompt"]
    assert "expected_end" not in prompt, "it takes runs for ever"


def test_more_campaigns_ask_no_more_often(sampled: Ledger) -> None:
    now = datetime.now(UTC)

    def another(name: str, ended: int) -> None:
        with sampled.write() as connection:
            campaigns.create(connection, name, kind="finite", runs={"daq": range(1, 8)})
        put_runs(sampled, FLOW, [facts(number) for number in range(1, 8)], campaign=name)
        groups = group_ids(sampled, "run", campaign=name)
        for run in range(1, ended + 1):
            done(sampled, groups[f"run-r{run}"], "skim")
        with sampled.write() as connection:
            connection.execute(update(tables.group_task).values(since=now))

    def look() -> tuple[int, dict[str, object]]:
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        event.listen(sampled.engine, "before_cursor_execute", note)
        with sampled.read() as connection:
            found = campaign_figures.look(connection, {}, (), now)
        event.remove(sampled.engine, "before_cursor_execute", note)
        return len(asked), {name: values.get("expected_end") for name, values in found.items()}

    another("one", 1)
    few, ends = look()
    for name, ended in (("two", 2), ("three", 4), ("none", 0)):
        another(name, ended)
    many, found = look()
    assert many == few
    assert found == {"prompt": None, "none": None, **{name: found[name] for name in ("one", "two", "three")}}
    assert found["one"] == ends["one"]
    assert isinstance(found["one"], int)
    assert isinstance(found["two"], int)
    assert isinstance(found["three"], int)
    assert found["three"] < found["two"] < found["one"]
