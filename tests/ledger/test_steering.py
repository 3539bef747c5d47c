"""The life of a campaign: collecting, started, grouping, open, paused, cancelled; and what of it is opened when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, openings, steering, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group
from airflow_calib_provider.ledger.openings import OpeningLimits
from tests.ledger.making import T0, count, done, facts, fill, group_ids, put_runs, set_state, task, workflow

LATER = T0 + timedelta(days=30)
FREE = workflow("free", task("skim"))
All = partial(OpeningLimits, starting=100)
"""Whatever has not begun keeps nothing from starting."""


def made(ledger: Ledger, name: str = "again", **options: Any) -> None:
    """A finite campaign of 20 runs whose groups may open."""
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        campaigns.create(connection, name, kind="finite", runs={"daq": range(1, 21)}, **options)
    put_runs(ledger, FREE, [facts(n) for n in range(1, 21)], name)
    with ledger.write() as connection:
        assert campaigns.note_grouped(connection, name, LATER)


def planned(ledger: Ledger, limits: OpeningLimits | None = None) -> list[str]:
    """The DAG runs that are asked for by one more planning, in their order."""
    table = tables.dag_run_request
    with ledger.read() as connection:
        before = set(connection.execute(select(table.c.run_id)).scalars())
    with ledger.write() as connection:
        openings.plan(connection, LATER, limits or All())
        query = select(tables.event.c.campaign, tables.event.c.group_name)
        query = query.where(tables.event.c.entity == "dag_run_request", tables.event.c.to_state == "wanted")
        asked = connection.execute(query.order_by(tables.event.c.id)).all()
    return [name for row in asked if (name := f"{row.campaign}__{row.group_name}") not in before]


def claimed(ledger: Ledger) -> list[str]:
    with ledger.write() as connection:
        return [item.run_id for item in openings.claim(connection, "me", LATER, limit=100)]


def state(ledger: Ledger, name: str = "again") -> str:
    with ledger.read() as connection:
        return campaigns.get(connection, name).state


def causes(ledger: Ledger, group: str, name: str = "again") -> dict[str, str]:
    with ledger.read() as connection:
        found = explain_group(connection, Scope(name, now=LATER), group)
    told = [replace(cause, campaign=name) for cause in found.causes]
    return {cause.code: cause.release for cause in told if cause.code != "source_changed"}


def test_runs_are_collected_until_it_is_started(ledger: Ledger) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "week", kind="finite", collecting=True)
        assert campaigns.open_campaigns(connection) == []
    with pytest.raises(LedgerError, match="has no runs yet"):
        steering.start(ledger, "week", T0)
    assert steering.add_runs(ledger, "week", {"daq": [1, 2, 3], "hits": [2]}, T0) == 4
    assert steering.add_runs(ledger, "week", {"daq": [3, 4]}, T0) == 1
    assert steering.add_runs(ledger, "week", {"daq": [3, 4]}, T0) == 0
    assert count(ledger, tables.campaign_run) == 5
    told = steering.start(ledger, "week", T0)
    assert (told.before, told.state, told.new) == ("collecting", "grouping", True)
    assert not steering.start(ledger, "week", T0).new
    with pytest.raises(LedgerError, match="no runs can be added"):
        steering.add_runs(ledger, "week", {"daq": [5]}, T0)
    events = tables.event.c.entity == "campaign"
    with ledger.read() as connection:
        rows = connection.execute(select(tables.event.c.to_state, tables.event.c.data).where(events)).all()
    assert [(row.to_state, row.data["runs"]) for row in rows] == [
        ("collecting", 0),
        ("collecting", 4),
        ("collecting", 1),
        ("grouping", 5),
    ]


def test_what_collects_takes_no_part_in_anything(ledger: Ledger) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "week", kind="finite", collecting=True)
    for act in (steering.pause, steering.resume):
        with pytest.raises(LedgerError, match="it is collecting"):
            act(ledger, "week", T0)
    with ledger.write() as connection, pytest.raises(LedgerError, match="was not started"):
        campaigns.close(connection, "week")
    assert steering.cancel(ledger, "week", T0).state == "cancelled"


def test_a_pause_opens_nothing_and_asks_airflow_for_nothing(ledger: Ledger) -> None:
    made(ledger)
    some = All(max_open=10, window=0)
    assert len(planned(ledger, some)) == 8
    assert steering.pause(ledger, "again", LATER, person="ada").new
    assert not steering.pause(ledger, "again", LATER).new
    assert claimed(ledger) == []
    assert planned(ledger) == []
    with ledger.read() as connection:
        assert [row.name for row in campaigns.open_campaigns(connection)] == ["prompt", "again"], "runs are assigned"
    assert causes(ledger, "run-r20")["campaign_paused"] == "`calib campaign resume again`"
    assert steering.resume(ledger, "again", LATER).state == "open"
    assert len(claimed(ledger)) == 8
    assert "run-r20" in str(planned(ledger))


def test_after_a_pause_it_is_what_it_was(ledger: Ledger) -> None:
    made(ledger)
    with ledger.write() as connection:
        campaigns.create(connection, "new", kind="finite", runs={"daq": [1]})
    steering.pause(ledger, "new", LATER)
    assert steering.resume(ledger, "new", LATER).state == "grouping"
    steering.pause(ledger, "new", LATER)
    with ledger.write() as connection:
        assert campaigns.note_grouped(connection, "new", LATER)
    assert state(ledger, "new") == "paused"
    assert steering.resume(ledger, "new", LATER).state == "open"
    steering.pause(ledger, "again", LATER)
    with ledger.write() as connection:
        campaigns.close(connection, "again")
    assert state(ledger) == "paused"
    assert {"campaign_paused", "campaign_closed"} <= causes(ledger, "run-r1").keys()
    with ledger.read() as connection:
        assert "again" not in [row.name for row in campaigns.open_campaigns(connection)]
    assert steering.resume(ledger, "again", LATER).state == "closed"
    assert len(planned(ledger)) == 20, "what it has is still processed"


def test_a_cancelled_campaign_opens_nothing_and_keeps_what_it_has(ledger: Ledger) -> None:
    flow = workflow("locked", task("fit", fill(), payloads=["Nothing"]), task("deliver", fill(), publish="T", file="x"))
    made(ledger)
    put_runs(ledger, flow, [facts(n, n // 4) for n in range(1, 21)], "again")
    planned(ledger, All(max_open=4, window=2))
    ids = group_ids(ledger, "run", "free", "again")
    done(ledger, ids["run-r1"], "skim")
    set_state(ledger, ids["run-r2"], "skim", "processing")
    assert steering.cancel(ledger, "again", LATER, person="ada", reason="wrong window").new
    assert claimed(ledger) == []
    assert planned(ledger) == []
    table = tables.group_task
    assert count(ledger, table, table.c.state.in_(["new", "waiting"])) == 0
    assert count(ledger, table, table.c.state == "done") == 1
    assert count(ledger, table, table.c.state == "processing") == 1, "its watcher ends it"
    (opened,) = (one for name, one in group_ids(ledger, "fill", "locked", "again").items() if name == "fill-r1")
    look = waiting.look_and_record(ledger, [(opened, "fit")])[opened, "fit"]
    assert (look.state, look.reason) == ("never", {"code": "campaign_cancelled", "campaign": "again"})
    assert count(ledger, table, table.c.state == "failed") == 0
    assert causes(ledger, "run-r9").keys() == {"campaign_cancelled"}
    before = count(ledger, tables.event)
    assert not steering.cancel(ledger, "again", LATER).new
    assert count(ledger, tables.event) == before
    for act in (steering.pause, steering.resume, steering.start):
        with pytest.raises(LedgerError, match="it is cancelled"):
            act(ledger, "again", LATER)
    with ledger.write() as connection, pytest.raises(LedgerError, match="is cancelled"):
        campaigns.close(connection, "again")


def test_what_a_dead_cancel_left_is_ended(ledger: Ledger) -> None:
    made(ledger)
    with ledger.write() as connection:
        row = campaigns.get(connection, "again")
        campaigns.change(connection, row, "cancelled", {"since": LATER}, {})
    assert steering.end_cancelled_groups(ledger, LATER, at_once=7) == 20
    assert steering.end_cancelled_groups(ledger, LATER) == 0
    assert count(ledger, tables.group_task, tables.group_task.c.state == "skipped") == 20


@pytest.mark.parametrize("name", ["prompt", "dags"])
def test_what_cannot_be_cancelled(ledger: Ledger, name: str) -> None:
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        campaigns.create(connection, "dags", kind=campaigns.DAGS)
    with pytest.raises(LedgerError, match=f"{name} takes"):
        steering.cancel(ledger, name, T0)
    assert state(ledger, name) == "open"


def test_at_most_so_many_groups_are_open(ledger: Ledger) -> None:
    made(ledger)
    steering.alter(ledger, "again", steering.Changes(max_groups=3))
    assert planned(ledger) == [f"again__run-r{n}" for n in (1, 2, 3)]
    assert planned(ledger) == []
    release = causes(ledger, "run-r4")["groups_throttled"]
    assert "`calib campaign set again --max-groups 6`" in release
    ids = group_ids(ledger, "run", "free", "again")
    done(ledger, ids["run-r2"], "skim")
    assert planned(ledger) == ["again__run-r4"]
    put_runs(ledger, FREE, [facts(n) for n in range(1, 21)])
    assert len(planned(ledger)) == 20, "prompt has its own"
    assert steering.alter(ledger, "again", steering.Changes(max_groups=0)).max_groups is None
    assert len(planned(ledger)) == 16


def test_a_group_that_waits_for_others_leaves_its_place_to_them(ledger: Ledger) -> None:
    """A finer task that needs a coarser one: all of its groups must open before any can end."""
    flow = workflow(
        "both", task("skim"), task("scale", fill(), needs=["both.skim@run"]), task("apply", needs=["both.scale@fill"])
    )
    with ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 6)}, max_groups=2)
    put_runs(ledger, flow, [*(facts(n, 1) for n in range(1, 5)), facts(5, 2)], "again")
    with ledger.write() as connection:
        campaigns.note_grouped(connection, "again", LATER)
    limits = All(window=0)
    ids = group_ids(ledger, "run", "both", "again")
    opened = planned(ledger, limits)
    assert len(opened) == 2
    for name in ("run-r1", "run-r2"):
        done(ledger, ids[name], "skim")
        set_state(ledger, ids[name], "apply", "waiting")
    assert planned(ledger, limits) == ["again__run-r3", "again__run-r4"]


def test_priority_and_order(ledger: Ledger) -> None:
    made(ledger, "low")
    made(ledger, "newest", run_order="newest")
    made(ledger, "high", priority=5)
    limits = All(max_open=10, window=0)
    assert planned(ledger, limits) == [f"high__run-r{n}" for n in range(1, 9)]
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).where(tables.run_group.c.campaign == "high").values(opening=None))
    put_runs(ledger, FREE, [facts(30)])
    steering.alter(ledger, "low", steering.Changes(priority=-1))
    opened = planned(ledger, All(max_open=14, window=0))
    assert opened[:3] == ["prompt__run-r30", "newest__run-r20", "newest__run-r19"], "prompt comes first always"
    assert {name.partition("__")[0] for name in opened} == {"prompt", "newest"}


def test_a_campaign_whose_spec_does_not_fit_the_dag_opens_nothing(ledger: Ledger) -> None:
    made(ledger)
    reason = {"code": "spec_changed", "workflow": "free", "campaign": "again", "changes": ["the task x is new"]}
    with ledger.write() as connection:
        connection.execute(update(tables.grouping).values(spec_changed=reason))
    assert planned(ledger) == []
    one = group_ids(ledger, "run", "free", "again")["run-r1"]
    with ledger.read() as connection:
        assert waiting.look(connection, [(one, "skim")])[one, "skim"].reason == reason


def test_numbers_that_cannot_be_meant(ledger: Ledger) -> None:
    made(ledger)
    with pytest.raises(LedgerError, match=r"max_groups is -1.*max_jobs is -2.*priority is 20000000"):
        steering.alter(ledger, "again", steering.Changes(20_000_000, -1, -2))
    before = count(ledger, tables.event)
    steering.alter(ledger, "again", steering.Changes(priority=0))
    assert count(ledger, tables.event) == before, "what is so already is no news"


def test_a_base_that_is_itself(ledger: Ledger) -> None:
    with ledger.write() as connection, pytest.raises(LedgerError, match="cannot be its own base"):
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1]}, base_campaign="again")


def test_many_runs_are_added_in_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "AT_ONCE", 100)
    with ledger.write() as connection:
        campaigns.create(connection, "week", kind="finite", collecting=True)
        connection.execute(insert(tables.campaign_run).values(campaign="week", source="daq", run=150))
    assert steering.add_runs(ledger, "week", {"daq": range(350)}, T0) == 349
    assert count(ledger, tables.event, tables.event.c.entity == "campaign") == 1 + 4
