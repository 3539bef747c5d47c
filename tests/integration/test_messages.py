"""Messages from a real Airflow, and actions from chat: what fails is told, by the connection that a person made; what a
signed button asks for is done, and told; and no secret is anywhere."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.chat_actions import new_nonce, read_signed, signed
from airflow_calib_provider.ledger import chat_actions, tables
from tests.chat.conftest import ANNA, BEN, EVE, SECRET
from tests.integration.harness import Installation
from tests.messages.chat import DOWN, KEY, FakeMattermost, mattermost
from tests.test_secrets import PLAIN, Parrot, forms, parroting

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

WORKFLOW, FIRST, SECOND, GUARDED = "telling", 7101, 7102, 7103

TEXT = f"""\
apiVersion: calib/v1
link: LINK
channels:
  shift:
    mattermost: {{connection: chat_of_shift}}
    tell: [failed, from_chat]
    workflows: [{WORKFLOW}]
    every: 5s
  post:
    email: {{connection: planted_mail, to: [a@example.org], from: c@example.org}}
    workflows: [{WORKFLOW}]
    every: 5s
actions:
  connection: chat_buttons
  people:
    {ANNA}: {{person: anna, role: expert}}
    {BEN}: {{person: ben, role: shifter}}
"""

LOCKED = """\
  guarded:
    group_by: run
    locks: [{http: {connection: planted_http, path: ready, fields: {ok: bool}, when: "answer.ok"}}]
    jobs: {command: ["true"]}
"""
"""A task that waits for a service which lets nobody in, and repeats what it was sent."""


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    with parroting() as server:
        server.status = 403
        yield server


@pytest.fixture(scope="module")
def chat(installation: Installation, parrot: Parrot) -> Iterator[FakeMattermost]:
    with mattermost() as server:
        installation.add_workflow(WORKFLOW)
        spec = installation.specs / f"{WORKFLOW}.yaml"
        installation.edit(spec, spec.read_text().rstrip("\n") + "\n" + LOCKED)
        for made in planted(parrot):
            installation.airflow.call("POST", "/api/v2/connections", made)
        installation.edit(installation.specs / "messages.yaml", TEXT.replace("LINK", installation.airflow.url))
        installation.airflow.wait_for_dags("calib_messages")
        yield server
        installation.edit(installation.specs / "messages.yaml", "")
        (installation.specs / "messages.yaml").unlink()


def planted(parrot: Parrot) -> list[dict[str, Any]]:
    """Connections with a secret each: of buttons, of a service, of a mail server that is not there."""
    plain = json.dumps({"plain_http": True})
    mail = {"host": "127.0.0.1", "port": parrot.server_port, "login": "calib"}
    mail["extra"] = json.dumps({"disable_ssl": True, "disable_tls": True, "timeout": 1})
    return [
        {"connection_id": "chat_buttons", "conn_type": "generic", "password": SECRET, "extra": plain},
        {"connection_id": "planted_http", "conn_type": "calib_http", "host": parrot.url, "password": PLAIN},
        {"connection_id": "planted_mail", "conn_type": "smtp", "password": PLAIN, **mail},
    ]


def status(installation: Installation) -> dict[str, object]:
    done = installation.run_calib("messages", "status", "--specs", str(installation.specs), "--json")
    return dict(next(one for one in json.loads(done.stdout) if one["name"] == "shift"))


def button(chat: FakeMattermost, action: str) -> dict[str, Any]:
    """What Mattermost keeps of a button of the last post that has such."""
    posts = [body for body in chat.bodies if body.get("attachments")]
    (found,) = [one for one in posts[-1]["attachments"][0]["actions"] if one["id"] == action]
    return dict(found["integration"])


def press(integration: dict[str, Any], user_id: str = ANNA, context: Any = None) -> tuple[int, str]:
    """Let Mattermost tell of a press, which has no login to Airflow."""
    body = {"user_id": user_id, "user_name": "anna", "channel_id": "c" * 26, "post_id": "p" * 26}
    body["context"] = integration["context"] if context is None else context
    data = json.dumps(body).encode()
    request = urllib.request.Request(integration["url"], data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, str(json.load(answer)["ephemeral_text"])
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def last_post(chat: FakeMattermost) -> str:
    return chat.posts[-1].replace("\\", "")


def test_what_fails_is_told(installation: Installation, chat: FakeMattermost) -> None:
    extra = json.dumps({"plain_http": True})
    connection = {
        "connection_id": "chat_of_shift",
        "conn_type": "calib_mattermost",
        "password": chat.url,
        "extra": extra,
    }
    said = installation.airflow.call("POST", "/api/v2/connections/test", connection)
    assert said == {"status": True, "message": "a message was posted"}
    installation.airflow.call("POST", "/api/v2/connections", connection)

    known = select(tables.message_channel.c.name)
    installation.wait(lambda: installation.rows(known), 120, "the channel to begin")
    installation.control_job(FIRST, "always")
    installation.add_runs([FIRST])
    assert installation.inject() == "success"
    posts = installation.wait(lambda: len(chat.posts) >= 2 and chat.posts, 300, "the message")
    text = posts[1].replace("\\", "")
    assert text.startswith(f"**Failed: {WORKFLOW}.work run-r{FIRST}**")
    assert "jobs failed after all retries" in text
    assert f"/plugin/calib/calib/group?campaign=prompt&workflow={WORKFLOW}&name=run-r{FIRST}#task-work" in text


def test_what_nobody_may_ask_for_is_not_done(installation: Installation, chat: FakeMattermost) -> None:
    skip, retry = button(chat, "skip"), button(chat, "retry")
    assert skip["url"] == f"{installation.airflow.url}/calib-chat/actions"
    installation.wait(lambda: press(skip, context={})[0] == 403, 120, "the endpoint to be declared")
    text = skip["context"]["calib"]
    payload, _, signature = text.rpartition(".")
    forged = f"{payload}.{'0' * len(signature)}"
    wanted = read_signed(text, [SECRET])
    for context in ({}, {"calib": forged}, {"calib": signed(wanted, "f" * 40)}):
        assert press(skip, context=context)[0] == 403
    expired = signed(replace(wanted, expires=int(time.time()) - 1, nonce=new_nonce()), SECRET)
    assert press(skip, context={"calib": expired}) == (200, "Nothing is done: this button is too old. Open Airflow.")
    stale = signed(replace(wanted, since="2026-01-01T00:00:00+00:00", nonce=new_nonce()), SECRET)
    assert "something has happened" in press(skip, context={"calib": stale})[1]
    assert "you are not one" in press(retry, EVE)[1]
    assert "your role does not allow this" in press(skip, BEN)[1]
    for path in ("/", "/actions", "/actions/other", "/openapi.json", "/docs"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{installation.airflow.url}/calib-chat{path}", timeout=30)
        assert caught.value.code == 404
    assert installation.rows(select(tables.chat_action)) == []
    assert installation.task_states()[f"{WORKFLOW}/run-r{FIRST}", "work"] == "failed"


def test_a_signed_press_is_carried_out_once_and_told(installation: Installation, chat: FakeMattermost) -> None:
    retry, skip = button(chat, "retry"), button(chat, "skip")
    before = len(chat.posts)
    # Its triggerer has no token for Airflow's REST API.
    assert press(retry, BEN) == (200, "It will be done within a minute.")
    installation.wait(lambda: len(chat.posts) > before, 200, "the outcome of the retry")
    assert last_post(chat).startswith(f"**Retry of {WORKFLOW}.work run-r{FIRST} by ben: not done**")
    assert press(skip)[1].startswith("Skip all runs of")
    time.sleep(chat_actions.CONFIRM_AFTER.total_seconds() + 0.5)
    assert press(skip) == (200, "It will be done within a minute.")
    key = (f"{WORKFLOW}/run-r{FIRST}", "work")
    installation.wait(lambda: installation.task_states()[key] == "skipped", 200, "the skip")
    installation.wait(lambda: len(chat.posts) > before + 1, 200, "the outcome of the skip")
    assert last_post(chat).startswith(f"**Skip of {WORKFLOW}.work run-r{FIRST} by anna: done**")
    assert press(skip)[1].startswith("This button was used already. What anna asked for is done: skipped 1 run")
    table = tables.chat_action
    rows = installation.rows(select(table.c.action, table.c.state, table.c.person))
    assert sorted(map(tuple, rows)) == [("retry", "failed", "ben"), ("skip", "done", "anna")]


@pytest.mark.long
def test_a_chat_that_is_away_holds_up_nothing(installation: Installation, chat: FakeMattermost) -> None:
    before = len(chat.posts)
    chat.always = DOWN
    installation.control_job(SECOND, "always")
    installation.add_runs([SECOND])
    assert installation.inject() == "success"
    installation.wait(lambda: status(installation)["in_trouble"], 300, "the channel to be in trouble")
    assert installation.task_states()[f"{WORKFLOW}/run-r{SECOND}", "work"] == "failed", "nothing waits for the channel"
    installation.kill("triggerer")
    chat.always = None
    installation.wait(lambda: len(chat.posts) > before, 300, "the message that was held up")
    assert f"run-r{SECOND}" in last_post(chat)
    assert len(chat.posts) == before + 1


def test_no_secret_is_anywhere(installation: Installation, chat: FakeMattermost, parrot: Parrot) -> None:
    """Of a webhook, of buttons, of a service, of a mail server: not in logs, ledger, XCom, page, messages."""
    installation.add_runs([GUARDED])
    assert installation.inject() == "success"
    installation.wait(lambda: any(PLAIN in one for one in parrot.heard), 200, "the service to be asked")
    installation.wait(lambda: "HTTP 403" in explained(installation), 200, "what it has said")
    secrets = {KEY, SECRET, *forms(PLAIN)}
    files = [file for file in (installation.folder / "airflow").rglob("*.log") if file.is_file()]
    assert files
    files += [file for file in (installation.folder / "by-connection").rglob("*") if file.is_file()]
    files += [file for file in installation.home.rglob("*") if file.is_file()]
    assert [(file, one) for file in files for one in secrets if one.encode() in file.read_bytes()] == []
    said = {"page": shown(installation), "chat": json.dumps([one["text"] for one in chat.bodies])}
    said |= {"xcom": in_xcom(installation), "explain": explained(installation)}
    said["messages"] = installation.run_calib("messages", "status", "--specs", str(installation.specs)).stdout
    assert "planted_mail" in said["messages"], "the mail server is in trouble, and that is said"
    assert [(where, one) for where, text in said.items() for one in secrets if one in text] == []


def explained(installation: Installation) -> str:
    return installation.calib("explain", f"run-r{GUARDED}", "--workflow", WORKFLOW, "--task", "guarded")


def shown(installation: Installation) -> str:
    """What the page says of the group, and of what needs a person."""
    token = installation.airflow.token()
    texts = []
    for view in (f"group?workflow={WORKFLOW}&name=run-r{GUARDED}", "people", f"runs?workflow={WORKFLOW}"):
        address = f"{installation.airflow.url}/calib/{view}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            texts.append(answer.read().decode())
    assert "HTTP 403" in texts[0]
    return "".join(texts)


def in_xcom(installation: Installation) -> str:
    """All that tasks of these DAGs have left for others."""
    texts = []
    for dag in ("calib_messages", f"{WORKFLOW}__run", "calib_inject"):
        path = f"/api/v2/dags/{dag}/dagRuns/~/taskInstances/~/xcomEntries?limit=500"
        for entry in installation.airflow.call("GET", path)["xcom_entries"]:
            where = f"/api/v2/dags/{dag}/dagRuns/{entry['run_id']}/taskInstances/{entry['task_id']}"
            texts.append(json.dumps(installation.airflow.call("GET", f"{where}/xcomEntries/{entry['key']}")))
    assert texts
    return "".join(texts)
