"""The endpoint in front of a small ledger, without Airflow, asked as Mattermost asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from airflow_calib_provider.chat.app import make_app
from airflow_calib_provider.domain.chat_actions import WantedAction, new_nonce, signed
from airflow_calib_provider.ledger import chat_actions, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.chat_keys import ActionsSpec
from tests.messages.conftest import chat, ledger
from tests.messages.histories import LINK, fail, take_runs

__all__ = ["chat", "ledger"]

SECRET, PREVIOUS = "s3cret" * 8, "0ld-s3cret" * 5
ANNA, BEN, EVE, CHANNEL = "a" * 26, "b" * 26, "e" * 26, "c" * 26
SPEC = ActionsSpec(
    connection="calib_buttons",
    people={ANNA: {"person": "anna", "role": "expert"}, BEN: {"person": "ben", "role": "shifter"}},
    expire=3600.0,
    link=LINK,
)


class Chat:
    """Mattermost, as the endpoint sees it.

    :ivar connection: what Airflow has; ``None``: nothing.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.connection: OutsideConnection | None = OutsideConnection("calib_buttons", "generic", password=SECRET)
        self.client = TestClient(make_app(lambda: self.ledger, lambda name: self.connection))

    def declare(self, spec: ActionsSpec = SPEC) -> None:
        chat_actions.declare(self.ledger, spec.team, spec.as_json(), datetime.now(UTC))

    def wanted(self, action: str = "retry", **more: Any) -> WantedAction:
        """What the button of the failed task says, or of its campaign."""
        place = ("prompt", "ecal", "run-r1", "skim") if action in ("retry", "skip") else ("prompt", "", "", "")
        with self.ledger.read() as connection:
            found = chat_actions.standing(connection, *place)
        expires = int(datetime.now(UTC).timestamp()) + 60
        made = WantedAction(action, *place, found.state, found.since, expires, new_nonce())
        return replace(made, **more)

    def press(self, wanted: WantedAction | str, user_id: str = ANNA, secret: str = SECRET, **more: Any) -> Any:
        text = wanted if isinstance(wanted, str) else signed(wanted, secret)
        body = {"user_id": user_id, "user_name": "anna", "channel_id": CHANNEL, "context": {"calib": text}, **more}
        return self.client.post("/actions", json=body)

    def said(self, *arguments: Any, **more: Any) -> str:
        answer = self.press(*arguments, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ephemeral_text"])

    def rows(self) -> list[tuple[str, str, str]]:
        """Action, state and person of all that was taken."""
        table = tables.chat_action
        with self.ledger.read() as connection:
            found = connection.execute(select(table).order_by(table.c.at)).all()
        return [(row.action, row.state, row.person) for row in found]

    def audit(self) -> list[tuple[str, str, str]]:
        """What, to which state or outcome, and who, of all presses."""
        table = tables.event
        with self.ledger.read() as connection:
            found = connection.execute(
                select(table.c.to_state, table.c.data).where(table.c.entity == "chat_action").order_by(table.c.id)
            ).all()
        return [
            (row.data["action"], row.data.get("outcome", row.to_state), row.data["person"] or row.data["user_id"])
            for row in found
        ]


@pytest.fixture
def endpoint(ledger: Ledger) -> Iterator[Chat]:
    """Where a task has failed; nothing is declared yet."""
    take_runs(ledger, range(1, 4))
    fail(ledger, 1)
    made = Chat(ledger)
    yield made
    made.client.close()


@pytest.fixture
def open_endpoint(endpoint: Chat) -> Chat:
    """And it is declared."""
    endpoint.declare()
    return endpoint
