"""Rule 27: of campaigns beside ``prompt`` Airflow has only a few tasks at a time to start."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import campaigns, groups, openings, steering, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group
from airflow_calib_provider.ledger.openings import ENDS_WITHIN, STARTS_WITHIN, OpeningLimits
from tests.ledger.making import T0, done, facts, group_ids, put_runs, set_state, task, workflow

NOW = T0 + timedelta(days=30)
LIMITS = OpeningLimits(window=0, starting=2)
FREE, OTHER = workflow("free", task("skim")), workflow("other", task("look"))


@pytest.fixture(autouse=True)
def again(ledger: Ledger) -> None:
    """A campaign of 20 runs in two DAGs whose groups may open."""
    make(ledger, "again")


def make(ledger: Ledger, name: str) -> None:
    with ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        campaigns.create(connection, name, kind="finite", runs={"daq": range(1, 21)})
    for flow in (FREE, OTHER):
        put_runs(ledger, flow, [facts(n) for n in range(1, 21)], name)
    with ledger.write() as connection:
        assert campaigns.note_grouped(connection, name, NOW)


def planned(ledger: Ledger, now: datetime = NOW, limits: OpeningLimits = LIMITS) -> list[tuple[str, str]]:
    """DAG id and run id of what is asked for by one more planning."""
    table = tables.dag_run_request
    query = select(table.c.dag_id, table.c.run_id).order_by(table.c.dag_id, table.c.run_after, table.c.run_id)
    with ledger.write() as connection:
        before = {tuple(row) for row in connection.execute(query)}
        openings.plan(connection, now, limits)
        return [(row.dag_id, row.run_id) for row in connection.execute(query) if tuple(row) not in before]


def of_dag(found: list[tuple[str, str]], dag_id: str) -> list[str]:
    return [run_id for dag, run_id in found if dag == dag_id]


def test_the_next_is_opened_when_one_has_begun(ledger: Ledger) -> None:
    opened = planned(ledger)
    assert of_dag(opened, "free__run") == ["again__run-r1", "again__run-r2"]
    assert len(of_dag(opened, "other__run")) == 2, "each DAG has a limit of its own"
    assert planned(ledger) == []
    ids = group_ids(ledger, "run", "free", "again")
    set_state(ledger, ids["run-r2"], "skim", "processing")
    assert planned(ledger) == [("free__run", "again__run-r3")]
    done(ledger, ids["run-r1"], "skim")
    set_state(ledger, ids["run-r3"], "skim", "failed")
    assert of_dag(planned(ledger), "free__run") == ["again__run-r4", "again__run-r5"]


def test_prompt_is_not_held_back_and_holds_nobody_back(ledger: Ledger) -> None:
    planned(ledger)
    put_runs(ledger, FREE, [facts(n) for n in range(1, 11)])
    assert planned(ledger) == [("free__run", f"prompt__run-r{n}") for n in range(1, 11)]
    set_state(ledger, group_ids(ledger, "run", "free", "again")["run-r1"], "skim", "processing")
    assert planned(ledger) == [("free__run", "again__run-r3")]


def test_what_waits_is_not_starting(ledger: Ledger) -> None:
    """It is shown as a DAG run, and begins no work."""
    locked = workflow("locked", task("fit", payloads=["Nothing"]))
    put_runs(ledger, locked, [facts(n) for n in range(1, 21)], "again")
    shown = planned(ledger, limits=replace(LIMITS, window=5))
    assert len(of_dag(shown, "locked__run")) == 5
    with ledger.read() as connection:
        assert openings.open_counts(connection, NOW).starting["locked", "run"] == 0


def test_campaigns_share_it_and_one_that_is_paused_keeps_it_from_nobody(ledger: Ledger) -> None:
    planned(ledger)
    make(ledger, "more")
    assert planned(ledger) == []
    steering.pause(ledger, "again", NOW)
    assert of_dag(planned(ledger), "free__run") == ["more__run-r1", "more__run-r2"]
    steering.resume(ledger, "again", NOW)
    assert planned(ledger) == []


def test_what_airflow_never_begins_holds_up_for_some_minutes_only(ledger: Ledger) -> None:
    planned(ledger)
    assert planned(ledger, NOW + STARTS_WITHIN - timedelta(seconds=1)) == []
    assert len(planned(ledger, NOW + STARTS_WITHIN)) == 4
    assert planned(ledger, NOW + STARTS_WITHIN) == []


def test_it_is_told(ledger: Ledger) -> None:
    planned(ledger)
    with ledger.read() as connection:
        scope = Scope("again", now=NOW, workflow="free", limits=LIMITS)
        (cause,) = (one for one in explain_group(connection, scope, "run-r3").causes if one.code != "source_changed")
    assert cause.code == "others_start"
    assert "2 of at most 2 DAG runs of free__run start beside prompt's" in cause.text
    assert "CALIB_STARTING" in (cause.release or "")
    set_state(ledger, group_ids(ledger, "run", "free", "again")["run-r1"], "skim", "processing")
    with ledger.read() as connection:
        assert "dag_run_not_asked" in {one.code for one in explain_group(connection, scope, "run-r3").causes}


def test_airflow_is_asked_for_those_of_prompt_first(ledger: Ledger) -> None:
    planned(ledger)
    put_runs(ledger, FREE, [facts(n) for n in range(1, 4)])
    planned(ledger, NOW + timedelta(seconds=1))
    with ledger.write() as connection:
        asked = [item.run_id for item in openings.claim(connection, "me", NOW + timedelta(minutes=1), limit=4)]
    assert asked[:3] == [f"prompt__run-r{n}" for n in (1, 2, 3)]
    assert asked[3].startswith("again__")


def test_a_plan_for_one_dag_opens_nothing_of_another(ledger: Ledger) -> None:
    planned(ledger)
    for flow, name in (("free", "skim"), ("other", "look")):
        set_state(ledger, group_ids(ledger, "run", flow, "again")["run-r1"], name, "processing")
    with ledger.write() as connection:
        assert openings.plan(connection, NOW, LIMITS, only=("free", "run")) == 1
    assert planned(ledger) == [("other__run", "again__run-r3")]


def ends(ledger: Ledger, group_id: int, name: str, at: datetime) -> None:
    """Let the jobs of a task end, as its watcher sees it."""
    with ledger.write() as connection:
        for state in ("processing", "done"):
            groups.set_task_states(connection, group_id, state, None, at, task=name)


def test_what_has_ended_is_over_when_airflow_has_seen_it(ledger: Ledger) -> None:
    planned(ledger)
    ids = group_ids(ledger, "run", "free", "again")
    ends(ledger, ids["run-r1"], "skim", NOW)
    assert planned(ledger) == []
    with ledger.write() as connection:
        assert openings.plan(connection, NOW, LIMITS, ended=ids["run-r1"]) == 1
    ends(ledger, ids["run-r2"], "skim", NOW)
    assert planned(ledger, NOW + ENDS_WITHIN - timedelta(seconds=1)) == []
    assert planned(ledger, NOW + ENDS_WITHIN) == [("free__run", "again__run-r4")], "or a minute later"
    assert planned(ledger, NOW + ENDS_WITHIN) == []


def test_between_two_tasks_airflow_is_to_start_the_next(ledger: Ledger) -> None:
    two = workflow("two", task("first"), task("second"))
    put_runs(ledger, two, [facts(n) for n in range(1, 21)], "again")
    planned(ledger)
    ids = group_ids(ledger, "run", "two", "again")
    ends(ledger, ids["run-r1"], "first", NOW)
    with ledger.write() as connection:
        assert openings.plan(connection, NOW, LIMITS, ended=ids["run-r1"]) == 1
    assert planned(ledger) == []
    with ledger.read() as connection:
        assert openings.open_counts(connection, NOW).starting["two", "run"] == 3
    for name in ("run-r1", "run-r2"):
        set_state(ledger, ids[name], "second", "processing")
    assert planned(ledger) == [("two__run", "again__run-r4")]


def test_the_end_of_one_of_prompt_holds_nobody_back(ledger: Ledger) -> None:
    planned(ledger)
    put_runs(ledger, FREE, [facts(1)])
    planned(ledger)
    ends(ledger, group_ids(ledger, "run", "free")["run-r1"], "skim", NOW)
    with ledger.read() as connection:
        assert openings.open_counts(connection, NOW).starting["free", "run"] == 2
