"""Sending: each message once, whatever is in the way; twice only where a process died between sending and recording."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages import outbox, state
from airflow_calib_provider.messages import sender as module
from airflow_calib_provider.messages.base import MessageRefused
from airflow_calib_provider.messages.sender import Sender
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.messages.chat import BUSY, DOWN, KEY, UNPARSED, Answer, FakeMattermost
from tests.messages.conftest import webhook
from tests.messages.histories import LINK, fail, sender, spec, take_runs


def row_of(ledger: Ledger, name: str = "shift") -> state.ChannelRow:
    with ledger.read() as connection:
        row = state.find(connection, name)
    assert row is not None
    return row


def titles(chat: FakeMattermost) -> list[str]:
    return [post.splitlines()[0].replace("\\", "").strip("*") for post in chat.posts]


def test_a_new_channel_begins_now_and_tells_each_thing_once(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, range(1, 6))
    fail(ledger, 1)
    one = sender(ledger, webhook(chat.url))
    assert chat.posts == [], "what was before is nobody's news"
    fail(ledger, 2)
    fail(ledger, 3)
    assert one.step().messages == 2
    assert one.step().messages == 0
    assert titles(chat) == ["Failed: ecal.skim run-r2", "Failed: ecal.skim run-r3"]
    text = chat.posts[0].replace("\\", "")
    assert "ecal · skim · run-r2 · run 2" in text
    assert "1 of 2 jobs failed after all retries (job 0: exit code 1)" in text
    assert "calib retry" in text
    assert f"{LINK}/plugin/calib/calib/group?campaign=prompt&workflow=ecal&name=run-r2#task-skim" in text
    one.release()
    assert Sender(ledger, spec(), webhook(chat.url)).step().messages == 0
    assert (row_of(ledger).sent, len(chat.posts)) == (2, 2)


def test_only_what_the_channel_is_for(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, range(1, 4))
    connection = webhook(chat.url)
    mine = sender(ledger, connection, name="mine", workflows=("ecal",), campaigns=("prompt",), topics=("failed",))
    others = [
        sender(ledger, connection, name="other", workflows=("hcal",)),
        sender(ledger, connection, name="redo", campaigns=("redo",)),
        sender(ledger, connection, name="news", topics=("published",)),
    ]
    fail(ledger, 1)
    assert [one.step().messages for one in (mine, *others)] == [1, 0, 0, 0]


def test_many_are_folded(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, range(1, 60))
    one = sender(ledger, webhook(chat.url))
    for run in range(1, 41):
        fail(ledger, run)
    assert one.step().messages == 1
    (post,) = chat.posts
    text = post.replace("\\", "")
    assert text.startswith("**40 messages since ")
    assert "40 × a task has failed for good" in text
    assert text.count("Failed: ecal.skim run-r") == 20
    assert "and 20 more" in text
    fail(ledger, 50)
    assert one.step().messages == 1
    assert titles(chat)[1] == "Failed: ecal.skim run-r50"


def test_long_trouble_becomes_one_message_and_fails_nothing(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, range(1, 40))
    one = sender(ledger, webhook(chat.url))
    chat.always = DOWN
    pauses = []
    for run in range(1, 12):
        fail(ledger, run)
        pauses.append(one.step().pause)
    assert 0.5 <= pauses[0] <= 1.0
    assert pauses[-1] >= 128
    assert max(pauses) <= module.LONGEST_BACK_OFF
    row = row_of(ledger)
    assert row.is_in_trouble
    assert "HTTP 503" in (row.last_error or "")
    chat.always = None
    assert one.step().messages == 1
    assert not row_of(ledger).is_in_trouble
    assert len(chat.posts) == 1
    assert chat.posts[0].startswith("**11 messages since ")


def test_a_server_that_is_busy_is_left_alone_for_as_long_as_it_asks(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, [1])
    one = sender(ledger, webhook(chat.url))
    fail(ledger, 1)
    chat.answers = [BUSY]
    assert one.step().pause >= 2.0
    assert one.step().messages == 1


def test_a_message_that_is_refused_keeps_no_other_back(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, [1, 2])
    one = sender(ledger, webhook(chat.url))
    fail(ledger, 1)
    fail(ledger, 2)
    chat.answers = [UNPARSED]
    assert one.step().messages == 2
    assert titles(chat) == ["Failed: ecal.skim run-r1", "Failed: ecal.skim run-r2"]
    assert len(chat.posts[0].splitlines()) == 1
    fail(ledger, 1, name="scale")
    chat.answers = [UNPARSED, UNPARSED]
    assert "HTTP 400" in one.step().trouble, "not even its title: nothing is wrong with the message"
    assert one.step().messages == 1


def test_quiet_hours_gather(ledger: Ledger, chat: FakeMattermost, monkeypatch: pytest.MonkeyPatch) -> None:
    take_runs(ledger, range(1, 10))
    now = datetime.now(UTC)
    begin, until = (f"{now + timedelta(minutes=minutes):%H:%M}" for minutes in (-60, 60))
    one = sender(ledger, webhook(chat.url), quiet=(begin, until, "UTC"))
    for run in range(1, 8):
        fail(ledger, run)
    step = one.step()
    assert (step.messages, step.trouble) == (0, "")
    assert 0 < step.pause <= 61
    one.spec = replace(one.spec, quiet=(until, begin, "UTC"))
    assert one.step().messages == 1
    assert chat.posts[0].startswith("**7 messages since ")


def test_of_two_senders_one_works(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, [1, 2])
    first, second = sender(ledger, webhook(chat.url)), Sender(ledger, spec(), webhook(chat.url))
    fail(ledger, 1)
    assert second.step().trouble == "another sender works for this channel"
    assert first.step().messages == 1
    first.release()
    fail(ledger, 2)
    assert second.step().messages == 1
    assert first.step().messages == 0
    assert len(chat.posts) == 2


def test_a_sender_that_was_overtaken_stops(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, [1, 2, 3])
    slow = sender(ledger, webhook(chat.url))
    fail(ledger, 1)
    fail(ledger, 2)
    with ledger.write() as connection:  # the lease ends while it is held up
        connection.execute(update(tables.message_channel).values(held_until=datetime.now(UTC) - timedelta(1)))
    other = Sender(ledger, spec(), webhook(chat.url))
    assert other.step().messages == 2
    assert slow.step().trouble == "another sender took over"
    assert len(chat.posts) == 3, "what it was sending when it was overtaken, and no more"


def test_a_ledger_that_was_put_back_is_followed(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, [1, 2])
    one = sender(ledger, webhook(chat.url))
    one.release()
    with ledger.write() as connection:
        connection.execute(update(tables.message_channel).values(cursor=10**6))
    one.step()
    fail(ledger, 1)
    assert one.step().messages == 1


def test_of_a_long_history_only_what_may_be_told_is_read(
    ledger: Ledger, chat: FakeMattermost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "AT_ONCE", 7)
    monkeypatch.setattr(module, "AT_ONCE", 3)
    take_runs(ledger, [1])
    one = sender(ledger, webhook(chat.url))
    take_runs(ledger, range(2, 30))
    fail(ledger, 29)
    steps = 0
    while not one.step().messages:
        steps += 1
        assert steps < 100
    assert steps >= 3
    assert len(chat.posts) == 1


class Leaking:
    """A channel of another package that says what it should not."""

    def __init__(self, *_: Any) -> None: ...

    def send(self, message: Any, *, plain: bool = False) -> None:
        raise RuntimeError(f"cannot post to https://chat/hooks/{KEY}")

    def close(self) -> None: ...


def test_no_secret_gets_anywhere(
    ledger: Ledger, chat: FakeMattermost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    take_runs(ledger, [1, 2, 3])
    connection = webhook(chat.url)
    one = sender(ledger, connection)
    said: list[Any] = []
    for number, answer in enumerate([Answer(500, chat.url, posts=False), Answer(cut=True), UNPARSED, Answer()]):
        fail(ledger, number % 3 + 1, f"x{number}", name="skim" if number < 3 else "scale")
        chat.answers = [answer]
        said.append(one.step())
    one.release()
    chat.server_close()
    said.append(Sender(ledger, spec(), connection).step())
    leaky = Sender(ledger, spec("leaky"), connection, open_=Leaking)
    leaky.step()
    fail(ledger, 2, name="scale")
    said.append(leaky.step())
    assert "RuntimeError" in said[-1].trouble
    told = [repr(said), repr(connection), caplog.text, repr(spec().as_json())]
    with ledger.read() as reading:
        for table in tables.metadata.sorted_tables:
            told += [repr(tuple(row)) for row in reading.execute(table.select())]
    assert not [text for text in told if KEY in text]


SCRIPT = """
import sys
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.sender import Sender
from tests.messages.conftest import webhook
from tests.messages.histories import spec
sender = Sender(Ledger(sys.argv[1]), spec(), webhook(sys.argv[2]))
for _ in range(3):
    sender.step()
"""

POINTS = ("message.before_send", "message.after_send", "message.after_record")


def test_killed_at_every_point(ledger: Ledger, chat: FakeMattermost, tmp_path: Path) -> None:
    take_runs(ledger, range(1, 4))
    one = sender(ledger, webhook(chat.url))
    one.release()
    for run in (1, 2, 3):
        fail(ledger, run)
    environment = {**os.environ, "CALIB_CRASH_AT": ",".join(POINTS), "CALIB_CRASH_FOLDER": str(tmp_path)}
    ends = []
    while len(ends) < 6:
        with ledger.write() as connection:  # the lease of a dead one ends
            connection.execute(update(tables.message_channel).values(held_until=datetime.now(UTC) - timedelta(1)))
        url = ledger.engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-c", SCRIPT, url, chat.url]
        ends.append(subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], timeout=60).returncode)
        if ends[-1] == 0:
            break
    assert ends == [-signal.SIGKILL] * 3 + [0]
    assert titles(chat) == [f"Failed: ecal.skim run-r{run}" for run in (1, 1, 2, 3)]
    assert row_of(ledger).sent == 3


def test_a_refusal_of_everything_is_no_end(ledger: Ledger, chat: FakeMattermost) -> None:
    class Refusing(Leaking):
        def send(self, message: Any, *, plain: bool = False) -> None:
            raise MessageRefused("no")

    take_runs(ledger, [1])
    one = Sender(ledger, spec(), OutsideConnection("x", "y"), open_=Refusing)
    one.step()
    fail(ledger, 1)
    before = row_of(ledger).cursor
    assert one.step().trouble == "no"
    assert row_of(ledger).cursor == before


def test_nothing_to_tell_is_cheap(ledger: Ledger, chat: FakeMattermost) -> None:
    take_runs(ledger, range(1, 200))
    one = sender(ledger, webhook(chat.url))
    begun = time.monotonic()
    for _ in range(20):
        assert one.step().pause == 30.0
    assert time.monotonic() - begun < 2.0
