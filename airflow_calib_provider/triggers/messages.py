"""The deferred half of MessagesOperator: sends messages, all the time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_calib_provider.hooks.connections import trigger_connection
from airflow_calib_provider.hooks.ledger import open_ledger, trigger_url
from airflow_calib_provider.triggers.xcom import push

if TYPE_CHECKING:
    from airflow_calib_provider.messages.offering import Offers
    from airflow_calib_provider.messages.sender import Sender
    from airflow_calib_provider.outside.connections import OutsideConnection
    from airflow_calib_provider.spec.messages_file import ChannelSpec

log = logging.getLogger(__name__)

CARRY_AGAIN = 5.0
"""Seconds between two looks at what was asked for from chat."""

LOOK_AGAIN = 30.0
"""Seconds between two looks at a connection, and at what is amiss."""


class MessagesTrigger(BaseTrigger):
    """Sends to all channels until it is time for the next DAG run. Whatever happens, it goes on.

    :param channels: as declared, without secrets.
    :param link: Airflow's address, where a channel names none.
    :param until: seconds since 1970.
    :param actions: what may be done from chat, as declared, without secrets.
    """

    def __init__(
        self,
        channels: Sequence[Mapping[str, Any]],
        link: str,
        until: float,
        actions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.channels = [dict(channel) for channel in channels]
        self.link = link
        self.until = until
        self.actions = dict(actions) if actions is not None else None
        self._troubles: dict[str, str] = {}
        self._said = ""

    def serialize(self) -> tuple[str, dict[str, object]]:
        """With these arguments a triggerer makes it again."""
        arguments = {"channels": self.channels, "link": self.link, "until": self.until, "actions": self.actions}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send until the time is up; each channel by itself, so that a slow one delays no other."""
        from airflow_calib_provider.spec.messages_file import ChannelSpec

        tasks = [self._tell(ChannelSpec.of_json(channel)) for channel in self.channels]
        await asyncio.gather(self._watch(), self._act(), *tasks)
        yield TriggerEvent({"state": "ended"})  # type: ignore[no-untyped-call]

    async def _watch(self) -> None:
        """Look what is amiss that is no state of a task."""
        while time.time() < self.until:
            try:
                await asyncio.to_thread(_watch, await trigger_url())
                await self._say("", "")
            except Exception as error:  # noqa: BLE001 - such as a ledger that is down; it is looked again
                self.log.warning("what is amiss could not be looked at: %s", _said(error))
                await self._say("", f"what is amiss could not be looked at: {_said(error)}")
            await self._sleep(LOOK_AGAIN)

    async def _act(self) -> None:
        """Say what may be done from chat, and do what was asked for; where nothing is declared, say that once."""
        if self.actions is None:
            return
        declare_at = 0.0
        while time.time() < self.until:
            is_due = time.monotonic() >= declare_at
            try:
                await asyncio.to_thread(_act, await trigger_url(), self.actions, is_due)
                declare_at = time.monotonic() + 60.0 if is_due else declare_at
                await self._say("actions from chat", "")
                if not self.actions["connection"]:
                    return
            except Exception as error:  # noqa: BLE001 - such as a ledger that is down; what was asked for waits there
                self.log.warning("actions from chat: %s", _said(error))
                await self._say("actions from chat", _said(error))
            await self._sleep(CARRY_AGAIN)

    async def _tell(self, channel: ChannelSpec) -> None:
        """Send to one channel; when its connection is edited, by the new one."""
        sender: Sender | None = None
        known: OutsideConnection | None = None
        signing: OutsideConnection | None = None
        look_at = 0.0
        try:
            while time.time() < self.until:
                try:
                    if time.monotonic() >= look_at:
                        found, secret = await _connection(channel), await _signing(self.actions)
                        look_at = time.monotonic() + LOOK_AGAIN
                        if sender is not None and (found, secret) != (known, signing):
                            await asyncio.to_thread(sender.release)
                            sender = None
                        known, signing = found, secret
                    if sender is None:
                        url = await trigger_url()
                        offers = await asyncio.to_thread(_offers, url, self.actions, signing)
                        sender = await asyncio.to_thread(_sender, url, channel, known, self.link, offers)
                    step = await asyncio.to_thread(sender.step)
                    pause, trouble = step.pause, step.trouble
                except Exception as error:  # noqa: BLE001 - such as a ledger that is down; the events wait there
                    pause, trouble = 5.0, f"a step failed: {_said(error)}"
                    self.log.warning("%s: %s", channel.name, trouble)
                await self._say(channel.name, trouble)
                # A server may ask for a pause that is longer than people wait for an edited connection.
                await self._sleep(min(pause, LOOK_AGAIN) if trouble else pause)
        finally:
            if sender is not None:
                await asyncio.shield(asyncio.to_thread(_end, sender))

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self.until - time.time())))

    async def _say(self, channel: str, trouble: str) -> None:
        """Tell people, if it is something new."""
        self._troubles[channel] = trouble
        listed = [f"{name}: {said}" if name else said for name, said in sorted(self._troubles.items()) if said]
        text = "; ".join(listed) or "sends to " + ", ".join(str(channel["name"]) for channel in self.channels)
        if text != self._said:
            self._said = text
            self.log.info("messages: %s", text)
            await push(self, "reason", text)


async def _connection(channel: ChannelSpec) -> OutsideConnection | None:
    """The connection of a channel; one without a type: there is none of its name."""
    from airflow_calib_provider.outside.connections import OutsideConnection
    from airflow_calib_provider.spec.kinds import channel_kind

    name = channel_kind(channel.kind).connection(channel.block)
    if not name:
        return None
    return await trigger_connection(name) or OutsideConnection(name, "")


async def _signing(actions: Mapping[str, Any] | None) -> OutsideConnection | None:
    """The connection that holds the secret of buttons; ``None``: messages have none."""
    return await trigger_connection(actions["connection"]) if actions and actions["connection"] else None


def _offers(url: str, actions: Mapping[str, Any] | None, signing: OutsideConnection | None) -> Offers | None:
    """What makes buttons; ``None``: nothing is declared, or its secret is of no use: that silences nobody."""
    from airflow_calib_provider.messages.base import ChannelTrouble
    from airflow_calib_provider.messages.offering import Offers, secrets_of
    from airflow_calib_provider.spec.chat_keys import ActionsSpec

    if not actions or not actions["connection"]:
        return None
    spec = ActionsSpec.of_json(actions)
    try:
        secret = secrets_of(signing, spec.link)[0]
    except ChannelTrouble as error:
        log.warning("messages have no buttons: %s", error)
        return None
    return Offers(open_ledger(url), spec, secret, spec.link)


def _act(url: str, actions: Mapping[str, Any], is_due: bool) -> None:
    """:param is_due: whether what is declared is to be said once more."""
    from datetime import UTC, datetime

    from airflow_calib_provider.api.chatting import carry_out
    from airflow_calib_provider.ledger import chat_actions

    ledger = open_ledger(url)
    if is_due:
        declared = actions if actions["connection"] else None
        chat_actions.declare(ledger, actions["team"], declared, datetime.now(UTC))
    if actions["connection"]:
        carry_out(ledger)


def _sender(
    url: str, channel: ChannelSpec, connection: OutsideConnection | None, link: str, offers: Offers | None
) -> Sender:
    from airflow_calib_provider.messages.sender import Sender

    return Sender(open_ledger(url), channel, connection, link=link, offers=offers)


def _end(sender: Sender) -> None:
    from airflow_calib_provider.errors import LedgerError

    # Where the ledger cannot be written the lease ends by itself.
    with suppress(LedgerError):
        sender.release()


def _said(error: Exception) -> str:
    """An error in words; what others raise may hold a secret of a connection."""
    from airflow_calib_provider.errors import CalibError

    return f"{type(error).__name__}: {error}" if isinstance(error, CalibError) else type(error).__name__


def _watch(url: str) -> None:
    from datetime import UTC, datetime

    from airflow_calib_provider.ledger import publication_deadlines
    from airflow_calib_provider.ledger.alarms import watch
    from airflow_calib_provider.payloads.approvals import remind

    ledger, now = open_ledger(url), datetime.now(UTC)
    watch(ledger, now)
    publication_deadlines.watch(ledger, now)
    remind(ledger, now)
