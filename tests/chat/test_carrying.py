"""What was asked for is done, once, in whatever process, and told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.api.chatting import CARRIES, carry_out
from airflow_calib_provider.domain.chat_actions import WantedAction, new_nonce
from airflow_calib_provider.ledger import campaigns, chat_actions, steering, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.preview import preview
from airflow_calib_provider.spec import chat_keys
from tests.chat.conftest import ANNA, BEN, Chat
from tests.cli.conftest import busy, database, folder, world
from tests.cli.test_airflow import CLEAR, FakeAirflow, airflow, opened
from tests.cli.world import World
from tests.messages.histories import fail, spec

__all__ = ["airflow", "busy", "database", "folder", "opened", "world"]


def take(ledger: Ledger, action: str, *place: str) -> WantedAction:
    """Let somebody have asked for something, and confirmed it."""
    campaign, *rest = place
    where = (campaign, *(rest or ("", "", "")))
    with ledger.read() as connection:
        found = chat_actions.standing(connection, *where)
    wanted = WantedAction(action, *where, found.state, found.since, 2**40, new_nonce())
    now = datetime.now(UTC)
    outcome = chat_actions.press(ledger, wanted, "anna", ANNA, now - timedelta(seconds=3))
    if outcome == "asked":
        outcome = chat_actions.press(ledger, wanted, "anna", ANNA, now)
    assert outcome == "wanted"
    return wanted


def state_of(ledger: Ledger, campaign: str = "prompt") -> str:
    with ledger.read() as connection:
        return campaigns.get(connection, campaign).state


def outcome_of(ledger: Ledger, wanted: WantedAction) -> tuple[str, str | None]:
    table = tables.chat_action
    with ledger.read() as connection:
        row = connection.execute(select(table).where(table.c.nonce == wanted.nonce)).one()
    return row.state, row.outcome


def test_a_campaign_is_paused_and_goes_on(open_endpoint: Chat) -> None:
    ledger = open_endpoint.ledger
    open_endpoint.said(open_endpoint.wanted("pause"))
    assert (state_of(ledger), carry_out(ledger), state_of(ledger)) == ("open", 1, "paused")
    open_endpoint.said(open_endpoint.wanted("resume"))
    assert (carry_out(ledger), state_of(ledger), carry_out(ledger)) == (1, "open", 0)
    assert open_endpoint.audit() == [
        ("pause", "wanted", "anna"),
        ("pause", "carrying", "anna"),
        ("pause", "paused", "anna"),
        ("resume", "wanted", "anna"),
        ("resume", "carrying", "anna"),
        ("resume", "open", "anna"),
    ]


def test_runs_are_skipped(open_endpoint: Chat) -> None:
    ledger = open_endpoint.ledger
    wanted = take(ledger, "skip", "prompt", "ecal", "run-r1", "skim")
    assert (carry_out(ledger), outcome_of(ledger, wanted)) == (1, ("done", "skipped 1 runs"))
    with ledger.read() as connection:
        (row,) = connection.execute(select(tables.skip)).all()
    assert (row.run, row.workflow, row.task, row.person) == (1, "ecal", "skim", "anna")


def test_what_has_changed_meanwhile_is_not_done(open_endpoint: Chat) -> None:
    ledger = open_endpoint.ledger
    wanted = take(ledger, "skip", "prompt", "ecal", "run-r1", "skim")
    fail(ledger, 1)
    with ledger.write() as connection:
        connection.execute(update(tables.group_task).values(since=datetime.now(UTC)))
    assert (carry_out(ledger), outcome_of(ledger, wanted)) == (0, ("refused", "stale"))
    with ledger.read() as connection:
        assert connection.execute(select(tables.skip)).all() == []


def test_what_cannot_be_done_is_told_and_keeps_no_other_back(open_endpoint: Chat) -> None:
    ledger = open_endpoint.ledger
    retry = take(ledger, "retry", "prompt", "ecal", "run-r1", "skim")
    broken, pause = take(ledger, "resume", "prompt"), take(ledger, "pause", "prompt")

    def is_a_bug(*_: object) -> str:
        raise ZeroDivisionError("with a secret in its words")

    assert carry_out(ledger, carries={**CARRIES, "resume": is_a_bug}) == 3
    state, said = outcome_of(ledger, retry)
    assert (state, "has no DAG run yet" in str(said)) == ("failed", True)
    assert outcome_of(ledger, broken) == ("failed", "ZeroDivisionError")
    assert outcome_of(ledger, pause) == ("done", "paused")
    assert carry_out(ledger) == 0


@pytest.mark.parametrize("before", [True, False])
def test_a_process_that_dies_loses_nothing(open_endpoint: Chat, before: bool) -> None:
    ledger, now = open_endpoint.ledger, datetime.now(UTC)
    wanted = take(ledger, "pause", "prompt")

    def dies(ledger: Ledger, wanted: WantedAction, person: str) -> str:
        if not before:
            steering.pause(ledger, "prompt", now, person=person)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(ledger, carries={"pause": dies})
    assert outcome_of(ledger, wanted) == ("carrying", None)
    assert carry_out(ledger) == 0  # it may be at work still
    later = datetime.now(UTC) + chat_actions.CARRIED_WITHIN + timedelta(seconds=1)
    assert carry_out(ledger, later) == 1
    assert (outcome_of(ledger, wanted), state_of(ledger)) == (("done", "paused"), "paused")


def test_who_presses_once_more_is_told_what_became_of_it(open_endpoint: Chat) -> None:
    ledger = open_endpoint.ledger
    pause, retry = open_endpoint.wanted("pause"), open_endpoint.wanted()
    open_endpoint.said(pause)
    open_endpoint.said(retry, BEN)
    assert open_endpoint.said(pause) == "This button was used already. What anna asked for is being done."
    assert carry_out(ledger) == 2
    assert open_endpoint.said(pause) == "This button was used already. What anna asked for is done: paused"
    said = open_endpoint.said(retry)
    assert said.startswith("This button was used already. What ben asked for was not done: ")
    assert "has no DAG run yet" in said
    told = [one.title for one in preview(ledger, spec(topics=("from_chat",)), datetime.now(UTC) - timedelta(hours=1))]
    assert sorted(told) == ["Pause of prompt by anna: done", "Retry of ecal.skim run-r1 by ben: not done"]


def test_what_is_over_for_long_is_forgotten_and_what_is_to_be_done_is_not(open_endpoint: Chat) -> None:
    ledger, now = open_endpoint.ledger, datetime.now(UTC)
    done, waits, fresh = (take(ledger, action, "prompt") for action in ("pause", "resume", "pause"))
    asked = open_endpoint.wanted("skip")
    open_endpoint.said(asked)
    table = tables.chat_action
    old = now - chat_actions.KEPT - timedelta(seconds=1)
    with ledger.write() as connection:
        for nonce in (done.nonce, fresh.nonce):
            connection.execute(update(table).where(table.c.nonce == nonce).values(state="done"))
        connection.execute(update(table).where(table.c.nonce != fresh.nonce).values(at=old))
    assert chat_actions.forget(ledger, now) == 2
    assert chat_actions.forget(ledger, now) == 0
    with ledger.read() as connection:
        assert set(connection.execute(select(table.c.nonce)).scalars()) == {waits.nonce, fresh.nonce}
    assert len(open_endpoint.audit()) >= 4, "the events stay"


def test_no_button_is_good_for_longer_than_its_use_is_known() -> None:
    assert chat_keys.LONGEST < chat_actions.KEPT


def test_two_that_look_at_one_moment_do_it_once(open_endpoint: Chat) -> None:
    ledger, now = open_endpoint.ledger, datetime.now(UTC)
    take(ledger, "pause", "prompt")
    (row,) = chat_actions.due(ledger, now)
    assert chat_actions.take(ledger, row, now)
    assert not chat_actions.take(ledger, row, now)


def test_a_failed_task_runs_again(opened: World, airflow: FakeAirflow) -> None:
    ledger = opened.ledger
    opened.end(opened.begin("run-r2", "skim"), "failed", {"code": "killed", "airflow_state": "failed"})
    airflow.task({"task_id": "skim", "state": "failed", "pool": "default_pool"})
    airflow.set(CLEAR, {"task_instances": [{"task_id": "skim"}], "total_entries": 1})
    wanted = take(ledger, "retry", "prompt", "demo", "run-r2", "skim")
    assert carry_out(ledger) == 1
    assert outcome_of(ledger, wanted) == ("done", "cleared skim")
    assert [body["task_ids"] for method, path, body in airflow.asked if path == CLEAR] == [["skim"]]
