"""Messages from a real Airflow: what fails is told in chat, by the connection that a person made, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation
from tests.messages.chat import DOWN, KEY, FakeMattermost, mattermost

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

WORKFLOW, FIRST, SECOND = "telling", 7101, 7102

TEXT = f"""\
apiVersion: calib/v1
channels:
  shift:
    mattermost: {{connection: chat_of_shift}}
    tell: [failed]
    workflows: [{WORKFLOW}]
    every: 5s
"""


@pytest.fixture(scope="module")
def chat(installation: Installation) -> Iterator[FakeMattermost]:
    with mattermost() as server:
        installation.add_workflow(WORKFLOW)
        installation.edit(installation.specs / "messages.yaml", TEXT)
        installation.airflow.wait_for_dags("calib_messages")
        yield server
        installation.edit(installation.specs / "messages.yaml", "")
        (installation.specs / "messages.yaml").unlink()


def status(installation: Installation) -> dict[str, object]:
    done = installation.run_calib("messages", "status", "--specs", str(installation.specs), "--json")
    return dict(json.loads(done.stdout)[0])


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


@pytest.mark.long
def test_a_chat_that_is_away_holds_up_nothing(installation: Installation, chat: FakeMattermost) -> None:
    chat.always = DOWN
    installation.control_job(SECOND, "always")
    installation.add_runs([SECOND])
    assert installation.inject() == "success"
    installation.wait(lambda: status(installation)["in_trouble"], 300, "the channel to be in trouble")
    assert installation.task_states()[f"{WORKFLOW}/run-r{SECOND}", "work"] == "failed", "nothing waits for the channel"
    installation.kill("triggerer")
    chat.always = None
    posts = installation.wait(lambda: len(chat.posts) >= 3 and chat.posts, 300, "the message that was held up")
    assert f"run-r{SECOND}" in posts[2].replace("\\", "")
    assert len(chat.posts) == 3


def test_the_address_is_nowhere(installation: Installation, chat: FakeMattermost) -> None:
    assert len(chat.posts) >= 2
    logs = [file for file in (installation.folder / "airflow").rglob("*.log") if file.is_file()]
    assert logs
    assert [file for file in logs if KEY in file.read_text(errors="replace")] == []
    for file in (installation.folder / "by-connection").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    for run in installation.airflow_runs("calib_messages"):
        path = f"/api/v2/dags/calib_messages/dagRuns/{run['dag_run_id']}/taskInstances/messages/xcomEntries/reason"
        try:
            assert KEY not in json.dumps(installation.airflow.call("GET", path))
        except OSError:
            continue  # it has said nothing yet
