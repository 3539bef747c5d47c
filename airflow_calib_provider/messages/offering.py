"""The buttons of a message: what can be done about it from chat, signed (rule 68)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from airflow_calib_provider.domain.chat_actions import SHORTEST_SECRET, WantedAction, new_nonce, signed
from airflow_calib_provider.domain.page_addresses import CHAT_MOUNT
from airflow_calib_provider.ledger import chat_actions
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.base import AboutTask, Button, ChannelTrouble, Message
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.chat_keys import ActionsSpec

PATH = "actions"
"""Of the endpoint's one address; behind it stands the team."""

OF_DAGS = "dags"
"""The campaign of hand-written DAGs, which takes no runs: nothing of it can be skipped or paused."""

_PAUSABLE = ("open", "grouping", "closed")


def secrets_of(connection: OutsideConnection | None, link: str) -> tuple[str, ...]:
    """The secrets that sign buttons: the first signs, all are good.

    :param link: Airflow's address, by which Mattermost reaches the endpoint.
    :raises ChannelTrouble: there is none that is of use, or whoever listens could read what it signs.
    """
    if connection is None or not connection.kind:
        name = connection.name if connection is not None else ""
        raise ChannelTrouble(f"there is no connection {name} with the secret of actions from chat", "create it")
    name = f"the connection {connection.name}"
    found = [connection.password.strip(), str(connection.extra.get("previous_secret") or "").strip()]
    kept = tuple(secret for secret in found if secret)
    if not found[0] or any(len(secret) < SHORTEST_SECRET for secret in kept):
        said = f"a secret of {name} has fewer than {SHORTEST_SECRET} characters"
        raise ChannelTrouble(said, "make one with `openssl rand -hex 32`; it is the connection's password")
    if not link.startswith("https:") and connection.extra.get("plain_http") not in (True, "true", "True"):
        said = "Airflow's address is not https: whoever listens could press the buttons"
        raise ChannelTrouble(said, f"or allow it with the extra field plain_http of {name}")
    return kept


class Offers:
    """Makes the buttons of messages.

    :param secret: that signs them.
    :param link: Airflow's address.
    """

    def __init__(self, ledger: Ledger, spec: ActionsSpec, secret: str, link: str) -> None:
        self._ledger = ledger
        self._spec = spec
        self._secret = secret
        self._url = "/".join(part for part in (link.rstrip("/"), CHAT_MOUNT, PATH, spec.team) if part)

    def to(self, message: Message, now: datetime) -> Message:
        """The message with the buttons that make sense now."""
        return message if message.about is None else replace(message, buttons=self._made(message.about, now))

    def _made(self, about: AboutTask, now: datetime) -> Sequence[Button]:
        with self._ledger.read() as connection:
            task = chat_actions.standing(connection, *about)
            campaign = chat_actions.standing(connection, about.campaign)
        of_task = {"workflow": about.workflow, "group": about.group, "task": about.task}
        of_campaign = {"workflow": "", "group": "", "task": ""}
        labels: list[tuple[str, str, chat_actions.StateSince, dict[str, str]]] = []
        if task.state == "failed":
            labels.append(("retry", "Retry", task, of_task))
            if about.campaign != OF_DAGS:
                labels.append(("skip", f"Skip {about.group}", task, of_task))
        if about.campaign != OF_DAGS and campaign.state in _PAUSABLE:
            labels.append(("pause", f"Pause {about.campaign}", campaign, of_campaign))
        if campaign.state == "paused":
            labels.append(("resume", f"Resume {about.campaign}", campaign, of_campaign))
        expires = int(now.timestamp() + self._spec.expire)
        return tuple(
            self._button(
                label, WantedAction(action, about.campaign, **where, **_as(found), expires=expires, nonce=new_nonce())
            )
            for action, label, found, where in labels
        )

    def _button(self, label: str, wanted: WantedAction) -> Button:
        return Button(wanted.action, label, self._url, signed(wanted, self._secret))


def _as(found: chat_actions.StateSince) -> dict[str, str]:
    return {"state": found.state, "since": found.since}
