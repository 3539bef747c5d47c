"""Airflow's tasks where a campaign begins in the middle, or has a spec of its own, and of groups of late runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from sqlalchemy import select

from airflow_calib_provider.hooks import ledger as hooks
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.waiting import look, look_and_record
from airflow_calib_provider.operators.jobs import JobsOperator
from airflow_calib_provider.sensors.ledger_sensor import LockSensor
from airflow_calib_provider.triggers.job_set import JobSetTrigger
from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger
from tests.cli.conftest import Calib, calib, folder, world  # noqa: F401 - fixtures
from tests.cli.world import World, late_fill, row

CREATE = ("campaign", "create", "again", "--source", "daq", "--workflow", "demo", "--runs", "2-3")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of each test is at the same place: none that was opened before is it."""
    monkeypatch.setattr(hooks, "_open", {})


class Instance(SimpleNamespace):
    """As much of a task instance as ours look at."""

    dag_id: str
    run_id: str
    max_tries = 8

    def xcom_push(self, key: str, value: object) -> None:
        self.said = value


def context(dag_id: str, run_id: str) -> Any:
    return {"ti": Instance(dag_id=dag_id, run_id=run_id), "params": {}}


def test_what_the_campaign_does_not_run_ends_at_once(world: World, calib: Calib) -> None:  # noqa: F811
    world.inject(row(2), row(3), row(4, fill=2))
    calib.plain(*CREATE, "--from", "deliver")
    for number in (2, 3):
        world.do(f"run-r{number}", "skim")
    world.do("fill-r2", "scale")
    world.inject()
    operator = JobsOperator(task_id="scale", workflow=world.workflows["demo"], task="scale")
    here = context("demo__fill", "again__fill-r2")
    assert operator.execute(here) == {"campaign": "prompt"}
    assert "takes what it needs from prompt" in here["ti"].said
    table = tables.generation
    with world.ledger.read() as connection:
        group_ids = connection.execute(select(table.c.group_id).where(table.c.task == "scale")).scalars().all()
    assert group_ids == [world.group("fill-r2").id], "nothing was begun"


def test_another_version_than_the_dag_is_waited_for(world: World, calib: Calib) -> None:  # noqa: F811
    world.inject(row(2), row(3))
    calib.plain(*CREATE)
    world.inject()
    file = world.specs / "demo.yaml"
    file.write_text(f"{file.read_text()}  extra:\n    group_by: run\n    jobs: {{command: [echo, more]}}\n")
    operator = JobsOperator(task_id="skim", workflow=world.workflows["demo"], task="skim")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context("demo__run", "again__run-r2"))
    assert deferred.value.method_name == "execute_again"
    trigger = deferred.value.trigger
    assert isinstance(trigger, LedgerWaitTrigger)
    assert trigger.serialize()[1]["back"] is True
    key = (world.group("run-r2", campaign="again").id, "skim")
    with world.ledger.read() as connection:
        seen = look(connection, [key])[key]
    assert seen.reason is not None
    assert (seen.state, seen.reason["code"]) == ("waiting", "spec_changed")
    assert calib.json("campaign", "update", "again")["updated"] == ["demo"]
    with world.ledger.read() as connection:
        assert look(connection, [key])[key].state == "open"


def test_sensors_of_a_cancelled_campaign_end_as_skipped(world: World, calib: Calib) -> None:  # noqa: F811
    world.inject(row(2), row(3), row(4, fill=2))
    calib.plain(*CREATE)
    world.inject()
    calib.plain("campaign", "cancel", "again", "--yes")
    sensor = LockSensor(task_id="scale.locks", workflow=world.workflows["demo"], task="scale")
    with pytest.raises(AirflowSkipException, match="is cancelled"):
        sensor.execute(context("demo__fill", "again__fill-r2"))


AFTER = """\
  after:
    group_by: {fill: {at_least: {lumi: 10}, short: drop}}
    needs: [deliver]
    jobs: {command: [echo, hello]}
"""


def test_what_needs_a_candidate_of_its_own_dag_waits_until_it_is_published(world: World, calib: Calib) -> None:  # noqa: F811
    file = world.specs / "demo.yaml"
    file.write_text(file.read_text() + AFTER)
    late_fill(world)
    world.open_dag_runs()
    operator = JobsOperator(task_id="after", workflow=world.workflows["demo"], task="after")
    key = (world.group("fill-r3").id, "after")
    for _ in range(2):  # as after a restart of what it runs in
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context("demo__fill", "prompt__fill-r3"))
        assert deferred.value.trigger.serialize()[1] == {"group_id": key[0], "task": "after", "back": True}
        assert look_and_record(world.ledger, [key])[key].state == "waiting"
    (state,) = [item.state for item in world.rows(tables.group_task) if (item.group_id, item.task) == key]
    assert state == "waiting"
    calib.plain("payload", "publish", "fill-r3", "--workflow", "demo")
    assert look_and_record(world.ledger, [key])[key].state == "open"
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_again(context("demo__fill", "prompt__fill-r3"))
    assert isinstance(deferred.value.trigger, JobSetTrigger)
