"""``actions`` of ``messages.yaml``: what it says, every mistake with its place, and what the trigger makes of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.ledger import campaigns, chat_actions
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.plugins.plugin import CalibPlugin
from airflow_calib_provider.spec.chat_keys import ActionsSpec
from airflow_calib_provider.spec.messages_file import load_declared
from tests.chat.conftest import ANNA, BEN, CHANNEL, SECRET, SPEC, Chat

TEXT = f"""\
apiVersion: calib/v1
link: https://airflow.example.org
channels:
  shift:
    mattermost: {{connection: chat}}
actions:
  connection: calib_buttons
  people:
    {ANNA}: {{person: anna, role: expert}}
    {BEN}: {{person: ben, role: shifter}}
  channels: [{CHANNEL}]
  expire: 1h
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "messages.yaml"
    made.write_text(TEXT)
    return made


def test_what_it_says(file: Path) -> None:
    found = load_declared(file).actions
    assert found == replace(SPEC, channels=(CHANNEL,))
    assert ActionsSpec.of_json(json.loads(json.dumps(found.as_json()))) == found


def test_without_it_nothing_is_declared(file: Path) -> None:
    file.write_text(TEXT.partition("actions:")[0])
    assert load_declared(file).actions == ActionsSpec()


def test_of_a_team(file: Path) -> None:
    (file.parent / "sources.yaml").write_text("apiVersion: calib/v1\nteam: ecal\n")
    assert load_declared(file).actions.team == "ecal"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  connection: calib_buttons\n", "", "the key 'connection' is missing in actions"),
        ("connection: calib_buttons", "connection: s3cr/t", "connection is 's3cr/t'"),
        ("connection: calib_buttons", "conection: calib_buttons", "unknown key 'conection' in actions"),
        (f"{ANNA}: {{", "anna: {", "the user id is 'anna'; expected an id of Mattermost's"),
        ("role: expert", "role: admin", "role is 'admin'; expected one of shifter, expert"),
        ("person: ben, ", "", "the key 'person' is missing in"),
        (CHANNEL, "town-square", "a channel is 'town-square'"),
        ("expire: 1h", "expire: 8d", "expire is 8d; expected 1m to 7d"),
        ("expire: 1h", "expire: 1s", "expire is 1s; expected 1m to 7d"),
    ],
)
def test_mistakes(file: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(SpecErrors) as caught:
        load_declared(file)
    assert said in str(caught.value)


def test_the_plugin_brings_the_endpoint_only_when_it_is_asked_for() -> None:
    assert [one["url_prefix"] for one in CalibPlugin.fastapi_apps] == ["/calib", "/calib-chat"]
    said = "import sys, airflow_calib_provider.plugins.plugin; print([n for n in sys.modules if '_provider.chat' in n])"
    made = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-1] == "[]"


def run(endpoint: Chat, monkeypatch: pytest.MonkeyPatch, actions: ActionsSpec | None, seconds: float) -> None:
    """Let the trigger look for a while, without an Airflow."""
    from airflow_calib_provider.triggers import messages

    async def url() -> str:
        return endpoint.ledger.engine.url.render_as_string(hide_password=False)

    async def push(*_: object) -> None: ...

    monkeypatch.setattr(messages, "trigger_url", url)
    monkeypatch.setattr(messages, "push", push)
    declared = actions.as_json() if actions is not None else None
    trigger = messages.MessagesTrigger([], "", time.time() + seconds, declared)
    assert trigger.serialize()[1]["actions"] == declared
    asyncio.run(trigger._act())


def test_the_trigger_declares_and_carries_out(endpoint: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint.press(endpoint.wanted("pause")).status_code == 404
    run(endpoint, monkeypatch, SPEC, 0.3)
    assert endpoint.said(endpoint.wanted("pause")).startswith("It will be done")
    run(endpoint, monkeypatch, SPEC, 0.3)
    with endpoint.ledger.read() as connection:
        assert campaigns.get(connection, "prompt").state == "paused"
    run(endpoint, monkeypatch, ActionsSpec(), 5.0)
    assert chat_actions.declared_of(endpoint.ledger, "", datetime.now(UTC)) is None
    assert endpoint.press(endpoint.wanted("resume")).status_code == 404


def test_messages_go_on_where_the_secret_is_of_no_use(endpoint: Chat, caplog: pytest.LogCaptureFixture) -> None:
    from airflow_calib_provider.triggers.messages import _offers

    url = endpoint.ledger.engine.url.render_as_string(hide_password=False)
    good = OutsideConnection("calib_buttons", "generic", password=SECRET)
    assert _offers(url, SPEC.as_json(), good) is not None
    assert _offers(url, SPEC.as_json(), None) is None
    assert _offers(url, SPEC.as_json(), replace(good, password="short-one")) is None
    assert _offers(url, ActionsSpec().as_json(), good) is None
    assert "messages have no buttons" in caplog.text
    assert "short-one" not in caplog.text
