"""What a channel is given, and what it answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.kinds import load
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.kinds import channel_kind
from airflow_calib_provider.spec.messages_file import ChannelSpec

CONTEXT = "calib"
"""Where the signed text stands in what a press of a button brings."""


class AboutTask(NamedTuple):
    """The task of a group that a message is about."""

    campaign: str
    workflow: str
    group: str
    task: str


@dataclass(frozen=True)
class Button:
    """What a person can press in a message.

    :ivar action: of :data:`~airflow_calib_provider.domain.chat_actions.ACTIONS`; :ivar label: in words.
    :ivar url: that is told of the press, :ivar context: with this; it is a secret.
    """

    action: str
    label: str
    url: str
    context: str = field(repr=False)


@dataclass(frozen=True)
class Message:
    """What a person is told, as plain text: whatever is in it, no character of it means anything to a channel.

    :ivar key: tells it from any other; the same message that is sent twice has the same one.
    :ivar topic: of :data:`~airflow_calib_provider.domain.topics.TOPICS`; empty: a digest.
    :ivar event: the last event that it tells of; the cursor moves there once it is sent.
    :ivar at: when that was.
    :ivar title: what has happened, in a line.
    :ivar where: workflow, group, runs, campaign.
    :ivar why: the ledger's reason, in words.
    :ivar to_do: what a person can do; empty: nothing.
    :ivar lines: what a digest tells of.
    :ivar link: an address in Airflow's UI; empty: there is none.
    :ivar thread: messages with the same one belong together.
    :ivar about: a task that has failed.
    :ivar buttons: for channels that have such.
    """

    key: str
    topic: str
    event: int
    at: datetime
    title: str
    where: str = ""
    why: str = ""
    to_do: str = ""
    lines: Sequence[str] = field(default=())
    link: str = ""
    thread: str = ""
    about: AboutTask | None = None
    buttons: Sequence[Button] = field(default=())


class ChannelTrouble(CalibError):
    """A message cannot be sent now: it is tried again.

    :param retry_after: seconds that the other side asks us to wait.
    """

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, retry_after)
        self.retry_after = retry_after


class MessageRefused(CalibError):
    """The other side will not have this message as it is; it may have others."""


class Channel(Protocol):
    """A way by which messages reach people; made for some messages, then closed.

    Made of the channel's block and of the connection that it names. Within 30 seconds :meth:`send` has sent, or raises.
    Errors hold no secret of the connection.
    """

    def __init__(self, block: Mapping[str, Any], connection: OutsideConnection | None) -> None: ...

    def send(self, message: Message, *, plain: bool = False) -> None:
        """Send one message.

        :param plain: with as little as possible in it: it was refused before.
        :raises ChannelTrouble: it cannot be sent now.
        :raises MessageRefused: the other side will not have it as it is.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def open_channel(spec: ChannelSpec, connection: OutsideConnection | None) -> Channel:
    """The channel of a declaration.

    :raises ChannelTrouble: the connection is not what it should be.
    :raises KindError: there is no such kind of channel here.
    """
    if connection is not None and not connection.kind:
        raise ChannelTrouble(f"there is no connection {connection.name}", "create it in Airflow")
    made: Channel = load(channel_kind(spec.kind).loader)(spec.block, connection)
    return made
