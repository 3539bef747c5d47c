"""Posts by an incoming webhook, to a server that answers as documented."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_calib_provider.messages import mattermost as module
from airflow_calib_provider.messages.base import ChannelTrouble, MessageRefused
from airflow_calib_provider.messages.markdown import inert, shortened, with_code
from airflow_calib_provider.messages.mattermost import Mattermost, text_of
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.messages.chat import (
    BUSY,
    DOWN,
    INVALID,
    KEY,
    LONGEST,
    UNPARSED,
    Answer,
    FakeMattermost,
    certificate,
    mattermost,
    refusal,
)
from tests.messages.conformance import ChannelConformance
from tests.messages.conftest import message, webhook


class TestMattermost(ChannelConformance):
    @pytest.fixture
    def block(self) -> str:
        return "mattermost: {connection: chat, channel: town-square}"

    @pytest.fixture
    def connection(self, chat: FakeMattermost) -> OutsideConnection:
        return webhook(chat.url)

    @pytest.fixture
    def arrived(self, chat: FakeMattermost) -> Callable[[], Sequence[str]]:
        return lambda: chat.posts

    @pytest.fixture
    def break_it(self, chat: FakeMattermost) -> Callable[[], None]:
        return chat.server_close


def send(chat: FakeMattermost, **more: object) -> None:
    channel = Mattermost({}, webhook(chat.url))
    channel.send(message(1, **more))
    channel.close()


def test_a_button_opens_the_page_without_an_endpoint_of_ours(chat: FakeMattermost) -> None:
    channel = Mattermost({"channel": "calib", "username": "shift"}, webhook(chat.url))
    channel.send(message(1, link="https://airflow.example.org/dags/zee__run/runs/prompt__run-r1"))
    (body,) = chat.bodies
    assert (body["channel"], body["username"]) == ("calib", "shift")
    (button,) = body["props"]["mm_blocks"]
    action = body["props"]["mm_blocks_actions"][button["action_id"]]
    assert action == {"type": "openURL", "url": "https://airflow.example.org/dags/zee__run/runs/prompt__run-r1"}
    assert "context" not in json.dumps(body)
    assert body["text"].endswith("[Open in Airflow](https://airflow.example.org/dags/zee__run/runs/prompt__run-r1)")


@pytest.mark.parametrize(
    ("answer", "said", "retry_after"),
    [
        (BUSY, "HTTP 429: limit exceeded", 2.0),
        (DOWN, "HTTP 503: made up by the test", None),
        (Answer(200, "<html>login</html>", posts=False), "which is not Mattermost", None),
        (Answer(302, "", {"Location": "http://127.0.0.1:1/hooks/other"}, posts=False), "HTTP 302", None),
        (INVALID, "HTTP 400: Invalid webhook.", None),
        (refusal(403, "web.incoming_webhook.channel_locked.app_error", "locked"), "HTTP 403: locked", None),
        (refusal(404, "web.incoming_webhook.channel.app_error", "Couldn't find the channel."), "find the chan", None),
        (Answer(cut=True), "cannot be reached", None),
        (Answer(500, f"/hooks/{KEY} failed", posts=False), "HTTP 500: *** failed", None),
    ],
)
def test_trouble_of_the_place_is_no_message_s(
    chat: FakeMattermost, answer: Answer, said: str, retry_after: float | None
) -> None:
    chat.answers = [answer]
    with pytest.raises(ChannelTrouble) as caught:
        send(chat)
    assert said in str(caught.value)
    assert caught.value.retry_after == retry_after
    assert KEY not in f"{caught.value!r} {caught.value.__context__!r}"
    assert chat.asked == 1, "a redirect would take the secret elsewhere"


def test_what_the_server_does_not_like_of_a_message_is_told_apart(chat: FakeMattermost) -> None:
    chat.answers = [UNPARSED]
    with pytest.raises(MessageRefused, match="HTTP 400: Unable to parse"):
        send(chat)


def test_a_server_that_hangs_is_given_up(chat: FakeMattermost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    chat.always = Answer(pause=30.0)
    with pytest.raises(ChannelTrouble, match="cannot be reached"):
        send(chat)


def test_certificates_are_verified(tmp_path: Path) -> None:
    right, wrong = certificate(tmp_path), certificate(tmp_path, "chat.elsewhere.org")
    with mattermost(wrong) as chat:
        for trusted in ({}, {"ca_file": str(wrong)}, {"ca_file": str(right)}):
            channel = Mattermost({}, webhook(chat.url, **trusted))
            with pytest.raises(ChannelTrouble, match="ertificate") as caught:
                channel.send(message())
            assert "ca_file" in caught.value.hint
            assert KEY not in str(caught.value)
        assert chat.asked == 0
    with mattermost(right) as chat:
        channel = Mattermost({}, webhook(chat.url, ca_file=str(right)))
        channel.send(message())
        assert len(chat.posts) == 1


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (OutsideConnection("chat", "http", password="https://chat/hooks/x1y2"), "has the type 'http'"),
        (OutsideConnection("chat", "calib_mattermost"), "the password of the connection chat is no address"),
        (OutsideConnection("chat", "calib_mattermost", password="chat/hooks/x1y2"), "is no address"),
        (OutsideConnection("chat", "calib_mattermost", password="https://chat/a b x1y2"), "is no address"),
        (OutsideConnection("chat", "calib_mattermost", password="http://chat/hooks/x1y2"), "is not https"),
        (
            OutsideConnection("chat", "calib_mattermost", password="https://chat/hooks/x1y2", extra={"verify": False}),
            "the unknown field 'verify'",
        ),
        (None, "names no connection"),
    ],
)
def test_a_connection_that_cannot_be_used(connection: OutsideConnection | None, said: str) -> None:
    with pytest.raises(ChannelTrouble) as caught:
        Mattermost({}, connection)
    assert said in str(caught.value)
    assert "x1y2" not in repr(caught.value)


def test_nothing_in_run_data_has_a_meaning() -> None:
    text = inert("@channel @here **b** [x](http://evil.example) ![i](x) # h ~town `c` <b> \x1b[31m _u_ > q | t\n# two")
    assert "@" not in text
    assert "http://" not in text
    assert "\x1b" not in text
    for sign in ("**", "[x]", "](", "![", " #", "~t", "`c", "_u", "> q", "| t"):
        assert sign not in text.replace("\\" + sign[:1], "")
    assert text.count("\n") == 1
    assert with_code("`calib retry a@b`, or **wait**") == "`calib retry a＠b`, or \\*\\*wait\\*\\*"
    assert with_code("one ` only @all") == "one \\` only ＠all"


def test_a_long_message_is_one_post(chat: FakeMattermost) -> None:
    send(chat, title="*" * 9_000, why="`" * 9_000, lines=("[" * 500,) * 30, link="https://a.example/x")
    (post,) = chat.posts
    assert len(post) <= LONGEST
    assert post.endswith("[Open in Airflow](https://a.example/x)")
    for length in range(2, 12):
        cut = shortened("\\*" * 20, length).removesuffix(" …")
        assert (len(cut) - len(cut.rstrip("\\"))) % 2 == 0


def test_a_link_ends_where_it_should() -> None:
    text = text_of(message(1, link="https://a.example/x)[y](z\\"))
    assert text.endswith("[Open in Airflow](https://a.example/x%29[y]%28z%5C)")
