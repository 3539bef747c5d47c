"""Messages from Airflow's side: the DAG, its operator and trigger, the connection; nothing secret in any of them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException, TaskDeferred

from airflow_calib_provider.dags.system import system_dags
from airflow_calib_provider.hooks.mattermost import MattermostHook
from airflow_calib_provider.hooks.told import ToldTrouble
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.operators.messages import MessagesOperator
from airflow_calib_provider.triggers import messages as module
from airflow_calib_provider.triggers.messages import MessagesTrigger
from tests.messages.chat import KEY, FakeMattermost, wait_for
from tests.messages.conftest import chat, ledger  # noqa: F401
from tests.messages.histories import fail, take_runs

TEXT = """\
apiVersion: calib/v1
channels:
  shift: {mattermost: {connection: chat}, every: 5s}
  gone: {mattermost: {connection: nowhere}}
"""


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "messages.yaml").write_text(TEXT)
    return tmp_path / "specs"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, chat: FakeMattermost) -> dict[str, Connection]:  # noqa: F811
    known = {
        "chat": Connection(
            conn_id="chat", conn_type="calib_mattermost", password=chat.url, extra=json.dumps({"plain_http": True})
        )
    }

    def get(name: str) -> Connection:
        if name not in known:
            raise AirflowNotFoundException(name)
        return known[name]

    async def aget(name: str) -> Connection:
        return get(name)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(get))
    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(aget))
    return known


def deferred(specs: Path) -> MessagesTrigger:
    with pytest.raises(TaskDeferred) as caught:
        MessagesOperator(task_id="messages", specs=str(specs)).execute({})  # type: ignore[typeddict-item]
    trigger = caught.value.trigger
    assert isinstance(trigger, MessagesTrigger)
    return trigger


def test_there_is_a_dag_only_where_there_is_a_file(specs: Path, tmp_path: Path) -> None:
    stub = str(tmp_path / "dags" / "calib_system.py")
    dag = system_dags(stub, "../specs")["calib_messages"]
    assert [task.task_id for task in dag.tasks] == ["messages"]
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    (specs / "sources.yaml").write_text("apiVersion: calib/v1\nteam: ecal\n")
    assert "calib_messages_ecal" in system_dags(stub, "../specs")
    (specs / "messages.yaml").unlink()
    assert not [name for name in system_dags(stub, "../specs") if "messages" in name]


def test_mistakes_end_the_try_and_say_where(specs: Path) -> None:
    (specs / "messages.yaml").write_text(TEXT.replace("shift", "7"))
    with pytest.raises(ToldTrouble, match=r"messages\.yaml:3:3: "):
        MessagesOperator(task_id="messages", specs=str(specs)).execute({})  # type: ignore[typeddict-item]


def test_the_trigger_tells_and_goes_on_and_keeps_the_secret(
    ledger: Ledger,  # noqa: F811
    chat: FakeMattermost,  # noqa: F811
    connections: dict[str, Connection],
    specs: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    said: list[Any] = []

    async def push(trigger: Any, key: str, value: str) -> None:
        said.append((key, value))

    async def url() -> str:
        return ledger.engine.url.render_as_string(hide_password=False)

    monkeypatch.setattr(module, "push", push)
    monkeypatch.setattr(module, "trigger_url", url)
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.1)
    take_runs(ledger, [1, 2])
    path, arguments = deferred(specs).serialize()
    arguments = json.loads(json.dumps(arguments))
    for channel in arguments["channels"]:
        channel["every"] = 0.05
    trigger = MessagesTrigger(**{**arguments, "until": time.time() + 60})

    async def run() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    async def all_of_it() -> list[Any]:
        running = asyncio.create_task(run())
        await asyncio.to_thread(wait_for, lambda: any("nowhere" in text for _, text in said))
        fail(ledger, 1)
        await asyncio.to_thread(wait_for, lambda: len(chat.posts) == 1)
        connections.pop("chat")  # somebody deletes it, and makes it anew
        await asyncio.to_thread(wait_for, lambda: any("no connection chat" in text for _, text in said))
        fail(ledger, 2)
        await asyncio.sleep(0.3)
        assert len(chat.posts) == 1
        extra = json.dumps({"plain_http": True})
        connections["chat"] = Connection(conn_id="chat", conn_type="calib_mattermost", password=chat.url, extra=extra)
        await asyncio.to_thread(wait_for, lambda: len(chat.posts) == 2)
        trigger.until = time.time()
        return await running

    assert asyncio.run(all_of_it()) == [{"state": "ended"}]
    assert KEY not in f"{path} {arguments} {said} {caplog.text}"


def test_the_connection_s_test_posts(connections: dict[str, Connection], chat: FakeMattermost) -> None:  # noqa: F811
    assert MattermostHook("chat").test_connection() == (True, "a message was posted")
    assert "A trial of chat" in chat.posts[0]
    connections["chat"] = Connection(conn_id="chat", conn_type="calib_mattermost", password="no address")
    worked, said = MattermostHook("chat").test_connection()
    assert not worked
    assert "is no address" in said
    assert "no address" not in said.replace("is no address", "")
