"""What messages offer to be done, and what pressing it does, from the post to the ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from airflow_calib_provider.domain.chat_actions import read_signed
from airflow_calib_provider.ledger import chat_actions, groups, steering
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.base import AboutTask, Button
from airflow_calib_provider.messages.mattermost import Mattermost
from airflow_calib_provider.messages.offering import Offers
from airflow_calib_provider.messages.sender import Sender
from tests.chat.conftest import ANNA, SECRET, SPEC, Chat
from tests.ledger.making import T0, group_ids
from tests.messages.chat import UNPARSED, FakeMattermost
from tests.messages.conftest import message, webhook
from tests.messages.histories import LINK, fail, spec

ABOUT = AboutTask("prompt", "ecal", "run-r1", "skim")


def offered(ledger: Ledger, about: AboutTask | None = ABOUT) -> dict[str, Button]:
    made = Offers(ledger, SPEC, SECRET, LINK).to(message(about=about), datetime.now(UTC))
    return {button.action: button for button in made.buttons}


def told(ledger: Ledger, chat: FakeMattermost, offers: Offers | None) -> Sender:
    made = Sender(ledger, spec(), webhook(chat.url), offers=offers)
    made.step()
    return made


def test_from_the_post_to_the_ledger(open_endpoint: Chat, chat: FakeMattermost) -> None:
    sender = told(open_endpoint.ledger, chat, Offers(open_endpoint.ledger, SPEC, SECRET, LINK))
    fail(open_endpoint.ledger, 2)
    assert sender.step().messages == 1
    (body,) = chat.bodies
    assert "props" not in body
    ((attachment,), text) = body["attachments"], body["text"]
    assert f"[Open in Airflow]({LINK}/" in text
    assert [action["name"] for action in attachment["actions"]] == ["Retry", "Skip run-r2", "Pause prompt"]
    assert {action["id"].isalnum() for action in attachment["actions"]} == {True}
    retry = attachment["actions"][0]["integration"]
    assert retry["url"] == f"{LINK}/calib-chat/actions"
    assert SECRET not in json.dumps(body)
    press = {"user_id": ANNA, "channel_id": "c" * 26, "context": retry["context"], "post_id": "p" * 26}
    assert open_endpoint.client.post("/actions", json=press).json() == {
        "ephemeral_text": "It will be done within a minute."
    }
    assert open_endpoint.rows() == [("retry", "wanted", "anna")]


def test_without_a_declaration_posts_have_no_such_buttons(endpoint: Chat, chat: FakeMattermost) -> None:
    sender = told(endpoint.ledger, chat, None)
    fail(endpoint.ledger, 2)
    sender.step()
    (body,) = chat.bodies
    assert "attachments" not in body
    assert list(body["props"]["mm_blocks_actions"]) == ["open_in_airflow"]


def test_a_refused_post_is_sent_without_buttons(open_endpoint: Chat, chat: FakeMattermost) -> None:
    sender = told(open_endpoint.ledger, chat, Offers(open_endpoint.ledger, SPEC, SECRET, LINK))
    fail(open_endpoint.ledger, 2)
    chat.answers = [UNPARSED]
    assert sender.step().messages == 1
    assert list(chat.bodies[0]) == ["text"]


def test_what_is_offered_is_what_makes_sense_now(endpoint: Chat) -> None:
    ledger = endpoint.ledger
    assert list(offered(ledger)) == ["retry", "skip", "pause"]
    steering.pause(ledger, "prompt", datetime.now(UTC))
    assert list(offered(ledger)) == ["retry", "skip", "resume"]
    groups_of = group_ids(ledger, "run")
    with ledger.write() as connection:
        groups.set_task_states(connection, groups_of["run-r1"], "processing", None, T0, task="skim")
    assert list(offered(ledger)) == ["resume"]
    assert offered(ledger, None) == {}
    assert offered(ledger, AboutTask("gone", "ecal", "run-r1", "skim")) == {}


def test_an_approval_is_no_button(endpoint: Chat) -> None:
    assert not {"approve", "reject", "publish"} & set(offered(endpoint.ledger))


def test_a_button_says_what_it_is_for(endpoint: Chat) -> None:
    before = int(datetime.now(UTC).timestamp())
    found = offered(endpoint.ledger)
    wanted = {action: read_signed(button.context, [SECRET]) for action, button in found.items()}
    assert (wanted["retry"].campaign, wanted["retry"].workflow, wanted["retry"].group) == ABOUT[:3]
    assert (wanted["retry"].task, wanted["retry"].state) == ("skim", "failed")
    assert (wanted["pause"].campaign, wanted["pause"].group, wanted["pause"].state) == ("prompt", "", "open")
    assert len({one.nonce for one in wanted.values()}) == 3
    assert before + SPEC.expire <= wanted["retry"].expires <= before + SPEC.expire + 5
    with endpoint.ledger.read() as connection:
        assert all(chat_actions.is_as_expected(connection, one) for one in wanted.values())
    assert all(button.context not in repr(button) for button in found.values())


def test_the_address_of_a_team(endpoint: Chat) -> None:
    made = Offers(endpoint.ledger, replace(SPEC, team="ecal"), SECRET, f"{LINK}/airflow/")
    (retry, *_) = made.to(message(about=ABOUT), datetime.now(UTC)).buttons
    assert retry.url == f"{LINK}/airflow/calib-chat/actions/ecal"


@pytest.mark.parametrize("plain", [True, False])
def test_a_title_in_a_post_with_buttons_has_no_meaning(chat: FakeMattermost, plain: bool) -> None:
    button = Button("retry", "Retry", f"{LINK}/calib-chat/actions", "x.y")
    channel = Mattermost({}, webhook(chat.url))
    channel.send(message(title="@channel", buttons=(button,)), plain=plain)
    channel.close()
    assert "@" not in json.dumps(chat.bodies)
    assert ("attachments" in chat.bodies[0]) is not plain
