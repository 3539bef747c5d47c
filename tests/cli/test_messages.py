"""``calib messages``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.cli import hooks
from airflow_calib_provider.messages.sender import Sender
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.cli.conftest import Calib
from tests.cli.world import World
from tests.messages.chat import DOWN, KEY, FakeMattermost
from tests.messages.conftest import chat, webhook  # noqa: F401
from tests.messages.histories import spec

TEXT = """\
apiVersion: calib/v1
link: https://airflow.example.org
channels:
  shift: {mattermost: {connection: chat}, tell: [failed]}
  mail: {email: {connection: nowhere, to: [a@example.org]}, tell: [published]}
"""


@pytest.fixture
def specs(busy: World, chat: FakeMattermost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    def ask(hook: str, function: str, name: str) -> OutsideConnection | None:
        assert (hook, function) == ("connections", "task_connection")
        return webhook(chat.url) if name == "chat" else None

    monkeypatch.setattr(hooks, "ask_airflow", ask)
    file = Path("workflow_specs/messages.yaml")
    before = file.parent.is_dir()
    file.parent.mkdir(exist_ok=True)
    file.write_text(TEXT)
    yield file
    file.unlink()
    if not before:
        os.rmdir(file.parent)


def test_from_a_preview_to_a_message(busy: World, specs: Path, chat: FakeMattermost, calib: Calib) -> None:  # noqa: F811
    shown = calib.plain("messages", "preview", "shift")
    assert "Failed: demo.skim run-r5" in shown
    assert "2 of 2 jobs failed after all retries" in shown
    assert (
        "https://airflow.example.org/plugin/calib/calib/group?campaign=prompt&workflow=demo&name=run-r5#task-skim"
        in shown
    )
    found = calib.json("messages", "preview", "--since", "2h")
    assert [(one["channel"], one["topic"]) for one in found] == [("shift", "failed"), ("mail", "published")]
    assert "nothing would have been told" in calib.plain("messages", "preview", "--since", "2100-01-01")
    assert "a message was sent" in calib.plain("messages", "test", "shift")
    assert "A trial of shift" in chat.posts[0]
    failed = calib("messages", "test")
    assert failed.exit_code == 1
    assert "mail: there is no connection 'nowhere'" in failed.stdout


def test_how_channels_stand(busy: World, specs: Path, chat: FakeMattermost, calib: Calib) -> None:  # noqa: F811
    shift, mail = calib.json("messages", "status")
    assert (shift["place"], shift["sent"], shift["in_trouble"]) == ("mattermost by chat", 0, False)
    assert mail["place"] == "email by nowhere, to 1 address"
    sender = Sender(busy.ledger, spec(), webhook(chat.url))
    sender.step()
    failed = busy.begin("run-r6", "skim")
    busy.end(failed, "failed", {"code": "error", "message": "x"})
    chat.answers = [DOWN]
    sender.step()
    told = calib("messages", "status")
    assert told.exit_code == 1
    assert "HTTP 503" in told.stdout
    assert KEY not in told.stdout
    sender.step()
    assert "last error, which is over" in calib.plain("messages", "status")
    specs.write_text(TEXT.replace("shift:", "night:"))
    assert "shift: is not in workflow_specs/messages.yaml any more" in calib.plain("messages", "status")


def test_a_campaign_that_is_not_there_is_warned_of_and_may_come(busy: World, specs: Path, calib: Calib) -> None:
    specs.write_text(TEXT.replace("tell: [failed]", "tell: [failed], campaigns: [promt, prompt, rereco-2027]"))
    assert calib("spec", "check", str(specs)).exit_code == 0
    told = calib.plain("messages", "status")
    assert "shift: warning: there is no campaign 'promt' yet, so that nothing of it is told; did you mean" in told
    assert "no campaign 'rereco-2027' yet" in told
    assert "no campaign 'prompt'" not in told
    assert "warning: shift: there is no campaign 'promt'" in calib("messages", "preview", "shift").stderr
    assert calib("messages", "preview", "mail").stderr == ""


def test_what_cannot_be_meant(busy: World, specs: Path, calib: Calib) -> None:
    wrong = calib("messages", "preview", "shif")
    assert wrong.exit_code == 2
    assert "there is no channel 'shif'" in wrong.stderr
    assert "did you mean 'shift'?" in wrong.stderr
    specs.write_text(TEXT.replace("tell", "tel"))
    assert calib("messages", "preview").exit_code == 2
    assert calib("spec", "check", str(specs)).exit_code == 2
    nowhere = calib("messages", "test", "--specs", "/nowhere")
    assert "there is no /nowhere/messages.yaml" in nowhere.stderr
    assert calib.json("messages", "status", "--specs", "/nowhere") == []
