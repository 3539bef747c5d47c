"""What comes by HTTP: what is let in, and what comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from airflow_calib_provider.chat import app, pressed
from airflow_calib_provider.domain.chat_actions import signed
from airflow_calib_provider.ledger import chat_actions, steering, tables
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.chat.conftest import ANNA, BEN, CHANNEL, EVE, PREVIOUS, SECRET, SPEC, Chat
from tests.messages.histories import fail

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def pass_time(endpoint: Chat, by: timedelta) -> None:
    """Let what was asked for have been asked for earlier."""
    table = tables.chat_action
    with endpoint.ledger.write() as connection:
        at = connection.execute(select(table.c.at)).scalar_one()
        connection.execute(update(table).values(at=at - by))


def test_a_press_is_taken(open_endpoint: Chat) -> None:
    assert open_endpoint.said(open_endpoint.wanted()) == "It will be done within a minute."
    assert open_endpoint.rows() == [("retry", "wanted", "anna")]
    assert open_endpoint.audit() == [("retry", "wanted", "anna")]


@pytest.mark.parametrize("method", METHODS)
def test_it_is_off_by_default(endpoint: Chat, method: str) -> None:
    unknown = endpoint.client.request(method, "/whatever")
    found = endpoint.client.request(method, "/actions", headers={"Content-Type": "application/json"})
    assert (found.status_code, found.content, dict(found.headers)) == (404, unknown.content, dict(unknown.headers))
    assert endpoint.press(endpoint.wanted()).status_code == 404
    assert endpoint.rows() == endpoint.audit() == []


def test_it_is_off_again(open_endpoint: Chat) -> None:
    wanted = open_endpoint.wanted()
    chat_actions.declare(open_endpoint.ledger, "", None, datetime.now(UTC))
    assert open_endpoint.press(wanted).status_code == 404
    long_ago = datetime.now(UTC) - chat_actions.SAID_WITHIN
    chat_actions.declare(open_endpoint.ledger, "", SPEC.as_json(), long_ago)
    assert open_endpoint.press(wanted).status_code == 404
    open_endpoint.declare()
    assert open_endpoint.press(wanted).status_code == 200


def test_what_is_declared_is_of_one_team(endpoint: Chat) -> None:
    endpoint.declare(replace(SPEC, team="ecal"))
    assert endpoint.press(endpoint.wanted()).status_code == 404
    body = {"user_id": ANNA, "context": {"calib": signed(endpoint.wanted(), SECRET)}}
    assert endpoint.client.post("/actions/hcal", json=body).status_code == 404
    assert endpoint.client.post("/actions/ecal/x", json=body).status_code == 404
    assert endpoint.client.post("/actions/ecal", json=body).status_code == 200


@pytest.mark.parametrize(
    "connection",
    [
        None,
        OutsideConnection("x", ""),
        OutsideConnection("x", "generic"),
        OutsideConnection("x", "generic", password="s" * 31),
        OutsideConnection("x", "generic", password=SECRET, extra={"previous_secret": "short"}),
    ],
)
def test_without_a_good_secret_it_is_off(open_endpoint: Chat, connection: OutsideConnection | None) -> None:
    open_endpoint.connection = connection
    assert open_endpoint.press(open_endpoint.wanted()).status_code == 404


def test_without_tls_it_is_off_unless_that_is_allowed(open_endpoint: Chat) -> None:
    open_endpoint.declare(replace(SPEC, link="http://airflow.example.org"))
    assert open_endpoint.press(open_endpoint.wanted()).status_code == 404
    open_endpoint.connection = OutsideConnection("x", "generic", password=SECRET, extra={"plain_http": True})
    assert open_endpoint.press(open_endpoint.wanted()).status_code == 200


def test_a_replay(open_endpoint: Chat) -> None:
    wanted = open_endpoint.wanted()
    assert open_endpoint.said(wanted).startswith("It will be done")
    assert open_endpoint.said(wanted).startswith("This button was used already.")
    assert open_endpoint.said(wanted, BEN).startswith("This button was used already.")
    assert open_endpoint.rows() == [("retry", "wanted", "anna")]
    assert [outcome for _, outcome, _ in open_endpoint.audit()] == ["wanted", "used", "used"]


def test_a_forged_signature(open_endpoint: Chat) -> None:
    text = signed(open_endpoint.wanted(), SECRET)
    payload, _, signature = text.rpartition(".")
    other = signed(open_endpoint.wanted("pause"), "f" * 40)
    for forged in (f"{payload}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}", f"{payload}.", payload):
        assert open_endpoint.press(forged).status_code == 403
    for forged in (f"{other.rpartition('.')[0]}.{signature}", other, "", "é.é", "x" * 5_000):
        assert open_endpoint.press(forged).status_code == 403
    for context in (None, [], "x", {}, {"calib": 1}):
        assert open_endpoint.press("", context=context).status_code == 403
    assert open_endpoint.rows() == []
    assert set(open_endpoint.audit()) == {("", "unsigned", ANNA)}


def test_signatures_are_compared_in_constant_time(open_endpoint: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: bool(compared.append(one)) or real(one, other))
    open_endpoint.connection = OutsideConnection("x", "generic", password=SECRET, extra={"previous_secret": PREVIOUS})
    open_endpoint.said(open_endpoint.wanted())
    assert len(compared) == 2  # with both secrets, also where the first fits


def test_a_forged_user(open_endpoint: Chat) -> None:
    said = open_endpoint.said(open_endpoint.wanted(), EVE, user_name="anna")
    assert said.startswith("Nothing is done: you are not one")
    for user_id in ("anna", "", None, 7, ANNA.upper(), f"{ANNA}\n", [ANNA]):
        assert open_endpoint.press(open_endpoint.wanted(), user_id=user_id).status_code == 400
    assert open_endpoint.rows() == []
    assert open_endpoint.audit() == [("retry", "unknown_person", EVE)]


@pytest.mark.parametrize("action", ["skip", "pause", "resume"])
def test_a_role_has_its_actions(open_endpoint: Chat, action: str) -> None:
    assert open_endpoint.said(open_endpoint.wanted(action), BEN) == "Nothing is done: your role does not allow this."
    assert open_endpoint.audit() == [(action, "no_right", "ben")]
    assert open_endpoint.said(open_endpoint.wanted("retry"), BEN).startswith("It will be done")


def test_a_stale_state(open_endpoint: Chat) -> None:
    old, pause = open_endpoint.wanted(), open_endpoint.wanted("pause")
    fail(open_endpoint.ledger, 1, "exit code 2")
    with open_endpoint.ledger.write() as connection:
        later = datetime.now(UTC) + timedelta(seconds=5)
        connection.execute(update(tables.group_task).where(tables.group_task.c.state == "failed").values(since=later))
    steering.pause(open_endpoint.ledger, "prompt", datetime.now(UTC))
    for wanted in (old, pause, open_endpoint.wanted(state="done"), open_endpoint.wanted(group="run-r99")):
        assert open_endpoint.said(wanted) == "Nothing is done: something has happened since this message was sent."
    assert open_endpoint.rows() == []
    assert {outcome for _, outcome, _ in open_endpoint.audit()} == {"stale"}
    assert open_endpoint.said(open_endpoint.wanted()).startswith("It will be done")


def test_an_expired_button(open_endpoint: Chat) -> None:
    now = int(datetime.now(UTC).timestamp())
    assert open_endpoint.said(open_endpoint.wanted(expires=now)).startswith("Nothing is done: this button is too old")
    assert open_endpoint.audit() == [("retry", "expired", "anna")]


def test_a_wrong_channel(open_endpoint: Chat) -> None:
    """A channel is no right: whoever is in it is asked who they are; and from others there may be nothing at all."""
    open_endpoint.declare(replace(SPEC, channels=(CHANNEL,)))
    assert open_endpoint.said(open_endpoint.wanted(), EVE).startswith("Nothing is done: you are not one")
    for other in ("d" * 26, None, [CHANNEL]):
        said = open_endpoint.said(open_endpoint.wanted(), channel_id=other)
        assert said == "Nothing is done: not from this channel."
    assert [outcome for _, outcome, _ in open_endpoint.audit()] == ["unknown_person"] + 3 * ["wrong_channel"]
    assert open_endpoint.said(open_endpoint.wanted()).startswith("It will be done")


@pytest.mark.parametrize("action", ["approve", "reject", "kill", "withdraw", "", "retry; rm -rf /"])
def test_an_unknown_action(open_endpoint: Chat, action: str) -> None:
    said = open_endpoint.said(open_endpoint.wanted(action))
    assert said == "Nothing is done: this is nothing that can be done from here."
    assert open_endpoint.rows() == []
    assert open_endpoint.audit() == [(action, "unknown_action", "anna")]


def test_a_skip_is_confirmed(open_endpoint: Chat) -> None:
    wanted = open_endpoint.wanted("skip")
    assert open_endpoint.said(wanted).startswith("Skip all runs of ecal\\.skim, group run\\-r1? It cannot be")
    assert open_endpoint.said(wanted).startswith("A moment")  # a double click is no confirmation
    assert open_endpoint.rows() == [("skip", "asked", "anna")]
    pass_time(open_endpoint, timedelta(seconds=3))
    assert open_endpoint.said(wanted).startswith("It will be done")
    assert open_endpoint.rows() == [("skip", "wanted", "anna")]
    assert open_endpoint.said(wanted).startswith("This button was used already.")
    assert [outcome for _, outcome, _ in open_endpoint.audit()] == ["asked", "too_soon", "wanted", "used"]


@pytest.mark.parametrize("other", [True, False])
def test_a_skip_is_confirmed_by_whom_was_asked_and_soon(open_endpoint: Chat, other: bool) -> None:
    people = {**SPEC.people, BEN: {"person": "ben", "role": "expert"}}
    open_endpoint.declare(replace(SPEC, people=people))
    wanted = open_endpoint.wanted("skip")
    open_endpoint.said(wanted)
    pass_time(open_endpoint, timedelta(seconds=3) if other else timedelta(minutes=3))
    assert open_endpoint.said(wanted, BEN if other else ANNA).startswith("Skip all runs")
    assert open_endpoint.rows() == [("skip", "asked", "ben" if other else "anna")]


def test_a_skip_is_not_confirmed_when_something_has_happened(open_endpoint: Chat) -> None:
    wanted = open_endpoint.wanted("skip")
    open_endpoint.said(wanted)
    pass_time(open_endpoint, timedelta(seconds=3))
    fail(open_endpoint.ledger, 1)
    with open_endpoint.ledger.write() as connection:
        connection.execute(update(tables.group_task).values(since=datetime.now(UTC)))
    assert open_endpoint.said(wanted).startswith("Nothing is done: something has happened")
    assert open_endpoint.rows() == [("skip", "asked", "anna")]


@pytest.mark.parametrize("says_how_long", [True, False])
def test_a_big_body(open_endpoint: Chat, says_how_long: bool) -> None:
    parts = (b" " * 1024 for _ in range(17))
    sent: Any = b" " * (app.LARGEST + 1) if says_how_long else parts
    found = open_endpoint.client.post("/actions", content=sent, headers={"Content-Type": "application/json"})
    assert found.status_code == 413
    text = signed(open_endpoint.wanted(), SECRET)
    fits = {"user_id": ANNA, "context": {"calib": text}, "padding": "x" * 15_000}
    assert open_endpoint.client.post("/actions", json=fits).status_code == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", "application/jsonp"])
def test_a_wrong_content_type(open_endpoint: Chat, kind: str) -> None:
    content = f'{{"user_id": "{ANNA}", "context": {{"calib": "{signed(open_endpoint.wanted(), SECRET)}"}}}}'
    found = open_endpoint.client.post("/actions", content=content, headers={"Content-Type": kind})
    assert (found.status_code, open_endpoint.rows()) == (415, [])
    kind = "Application/JSON; charset=utf-8"
    assert open_endpoint.client.post("/actions", content=content, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 16_000, b'{"user_id": NaN}'])
def test_what_is_not_understood(open_endpoint: Chat, content: bytes) -> None:
    found = open_endpoint.client.post("/actions", content=content, headers={"Content-Type": "application/json"})
    assert found.status_code == 400


def test_the_rate_of_a_person(open_endpoint: Chat) -> None:
    answers = [open_endpoint.press(open_endpoint.wanted(expires=0)).status_code for _ in range(pressed.PRESSES)]
    assert set(answers) == {200}
    refused = open_endpoint.press(open_endpoint.wanted())
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert open_endpoint.rows() == []
    assert open_endpoint.said(open_endpoint.wanted(), BEN).startswith("It will be done")


def test_a_flood_that_nobody_has_signed_fills_no_ledger(open_endpoint: Chat) -> None:
    codes = [open_endpoint.press("x.y").status_code for _ in range(pressed.UNSIGNED + 5)]
    assert codes == [403] * pressed.UNSIGNED + [429] * 5
    assert len(open_endpoint.audit()) == pressed.UNSIGNED
    assert open_endpoint.said(open_endpoint.wanted()).startswith("It will be done")


def test_secrets_can_be_changed(open_endpoint: Chat) -> None:
    old = signed(open_endpoint.wanted(), PREVIOUS)
    assert open_endpoint.press(old).status_code == 403
    rotating = OutsideConnection("x", "generic", password=SECRET, extra={"previous_secret": PREVIOUS})
    open_endpoint.connection = rotating
    assert open_endpoint.said(old).startswith("It will be done")
    assert open_endpoint.said(open_endpoint.wanted()).startswith("It will be done")
    still_old = signed(open_endpoint.wanted(), PREVIOUS)
    open_endpoint.connection = replace(rotating, extra={})
    assert open_endpoint.press(still_old).status_code == 403


def test_no_secret_is_logged_or_told(open_endpoint: Chat, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    text, bad = signed(open_endpoint.wanted(), SECRET), signed(open_endpoint.wanted(), "f" * 40)
    told = [open_endpoint.press(one).text for one in (text, text, bad)]
    open_endpoint.connection = OutsideConnection("x", "generic", password="short-secret")
    told.append(open_endpoint.press(text).text)
    with open_endpoint.ledger.read() as connection:
        for table in (tables.event, tables.chat_action, tables.chat_endpoint):
            told += [str(tuple(row)) for row in connection.execute(select(table))]
    log = caplog.text
    assert all(words in log for words in ("by anna", "used", "actions from chat are off"))
    for secret in (SECRET, "short-secret", text, bad, text.rpartition(".")[2], bad.rpartition(".")[2]):
        assert secret not in log
        assert all(secret not in one for one in told)


def test_no_address_of_a_request_is_asked(open_endpoint: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def connect(*_: Any) -> None:
        raise AssertionError("somebody is asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    more = {"response_url": "http://127.0.0.1:1/x", "data_source": "http://127.0.0.1:1/y"}
    assert open_endpoint.said(open_endpoint.wanted(), **more).startswith("It will be done")


def test_texts_are_escaped(open_endpoint: Chat) -> None:
    campaign = "@channel [x](http://evil)"
    said = pressed._asks(open_endpoint.wanted("skip", campaign=campaign))
    assert not [sign for sign in ("@", "](", "http://") if sign in said]


def test_a_slow_ledger_is_answered_in_time(open_endpoint: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    real = chat_actions.press

    def slow(*arguments: Any) -> str:
        time.sleep(0.5)
        return real(*arguments)

    monkeypatch.setattr(app, "ANSWERED_WITHIN", 0.1)
    monkeypatch.setattr(chat_actions, "press", slow)
    with open_endpoint.client as client:
        body = {"user_id": ANNA, "context": {"calib": signed(open_endpoint.wanted(), SECRET)}}
        begin = time.monotonic()
        found = client.post("/actions", json=body)
        assert (found.status_code, time.monotonic() - begin < 0.45) == (503, True)
        end = time.monotonic() + 5
        while not open_endpoint.rows():  # it goes on all the same
            assert time.monotonic() < end
            time.sleep(0.02)
    assert app.ANSWERED_WITHIN < 3


def test_use_and_audit_are_one_transaction(open_endpoint: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, real = open_endpoint.ledger, open_endpoint.ledger.write

    @contextmanager
    def dies() -> Iterator[Connection]:
        with real() as connection:
            yield connection
            raise KeyError("the process dies")

    wanted = open_endpoint.wanted()
    monkeypatch.setattr(ledger, "write", dies)
    with pytest.raises(KeyError):
        chat_actions.press(ledger, wanted, "anna", ANNA, datetime.now(UTC))
    monkeypatch.undo()
    assert (open_endpoint.rows(), open_endpoint.audit()) == ([], [])
    assert open_endpoint.said(wanted).startswith("It will be done")


def test_presses_at_one_moment_are_one(open_endpoint: Chat) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted, now = open_endpoint.wanted(), datetime.now(UTC)
    with ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(chat_actions.press, open_endpoint.ledger, wanted, "anna", ANNA, now) for _ in range(8)]
        outcomes = sorted(one.result() for one in taken)
    assert outcomes == ["used"] * 7 + ["wanted"]
    with open_endpoint.ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.chat_action)).scalar() == 1
