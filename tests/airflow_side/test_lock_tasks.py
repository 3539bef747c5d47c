"""What Airflow's tasks do with locks on what lies outside of the ledger."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from sqlalchemy import insert, select

from airflow_calib_provider.hooks import ledger as hooks
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.operators.jobs import JobsOperator
from airflow_calib_provider.triggers import ledger_wait
from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger
from tests.airflow_side.test_campaign_tasks import context
from tests.cli.conftest import calib, folder, world  # noqa: F401 - fixtures
from tests.cli.world import World, row
from tests.ledger.test_asking import SERVICE
from tests.outside.server import json_server


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of each test is at the same place: none that was opened before is it."""
    monkeypatch.setattr(hooks, "_open", {})


def with_lock(world: World, kind: str, parameters: dict[str, Any]) -> int:  # noqa: F811
    """A group whose task ``skim`` has a lock."""
    world.inject(row(2), row(3))
    group = world.group("run-r2").id
    values = {"group_id": group, "task": "skim", "position": 7, "kind": kind, "parameters": parameters}
    with world.ledger.write() as connection:
        connection.execute(insert(tables.lock).values(**values, deadline=None))
    return int(group)


def test_a_task_that_was_started_waits_for_a_lock_that_is_shut_again(world: World, tmp_path: Path) -> None:  # noqa: F811
    path = str(tmp_path / "laser.json")
    group = with_lock(world, "file", {"path": path, "what": path, "stable_for": 0, "every": 0})
    world.open_dag_runs()
    operator = JobsOperator(task_id="skim", workflow=world.workflows["demo"], task="skim")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context("demo__run", "prompt__run-r2"))
    assert deferred.value.trigger.serialize()[1] == {"group_id": group, "task": "skim", "back": True}
    with world.ledger.read() as connection:
        assert connection.execute(select(tables.generation.c.id)).all() == [], "nothing was begun"


def test_a_trigger_asks_through_the_connection_and_opens(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def url() -> str:
        return str(world.ledger.url.render_as_string(hide_password=False))

    async def push(trigger: object, key: str, value: object) -> None:
        told.append(str(value))

    async def leads(self: object, url: str) -> None: ...

    told: list[str] = []
    monkeypatch.setattr(ledger_wait, "trigger_url", url)
    monkeypatch.setattr(ledger_wait, "push", push)
    monkeypatch.setattr(LedgerWaitTrigger, "_lead_on", leads)
    monkeypatch.setenv("CALIB_POLL_INTERVAL", "0.2")
    group = with_lock(world, "http", SERVICE)
    with json_server() as server:
        connection = {"conn_type": "calib_http", "host": server.url}
        monkeypatch.setenv("AIRFLOW_CONN_QUALITY", json.dumps(connection))
        server.answer = lambda asked: asked.reply({"status": "good" if len(server.asked) > 2 else "bad"})

        async def events() -> list[Any]:
            return [event async for event in LedgerWaitTrigger(group, "skim").run()]

        (event,) = asyncio.run(asyncio.wait_for(events(), 60))
    assert type(event).__name__ == "TaskSuccessEvent"
    assert told[0] == "http quality/runs: was not asked yet"
    assert "http quality/runs: is not so yet: status is the text 'bad'" in told
    with world.ledger.read() as connection_:
        (answer,) = connection_.execute(select(tables.outside_answer)).all()
    assert answer.opens
    assert answer.answered_at <= datetime.now(UTC)
