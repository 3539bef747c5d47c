"""Sends what is new to one channel: every message at least once, and twice only if what follows it was not recorded."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.clocks import range_ends
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Event
from airflow_calib_provider.messages import outbox, state
from airflow_calib_provider.messages.base import Channel, ChannelTrouble, Message, MessageRefused, open_channel
from airflow_calib_provider.messages.folding import folded
from airflow_calib_provider.messages.making import made
from airflow_calib_provider.messages.offering import Offers
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.messages_file import ChannelSpec

log = logging.getLogger(__name__)

LONGEST_BACK_OFF = 300.0
"""Seconds between two tries while a channel is in trouble."""

RECORDED_AFTER = 60.0
"""Seconds after which it is recorded that there was nothing to tell."""

AT_ONCE = 20
"""Parts of a long history that one step looks through."""

Open = Callable[[ChannelSpec, OutsideConnection | None], Channel]


@dataclass(frozen=True)
class Sent:
    """What one step did.

    :ivar messages: that were sent.
    :ivar pause: seconds after which the next step is due.
    :ivar trouble: what is in the way, for people; empty: nothing.
    """

    messages: int = 0
    pause: float = 0.0
    trouble: str = ""


class Sender:
    """Sends to one channel; of several for the same channel one works, and the others wait.

    :param connection: that the channel needs; ``None``: it needs none.
    :param link: Airflow's address, where the declaration names none.
    :param offers: the buttons of messages; ``None``: they have none.
    """

    def __init__(
        self,
        ledger: Ledger,
        spec: ChannelSpec,
        connection: OutsideConnection | None,
        *,
        link: str = "",
        offers: Offers | None = None,
        open_: Open = open_channel,
    ) -> None:
        self.ledger = ledger
        self.spec = spec
        self.holder = uuid.uuid4().hex
        self._connection = connection
        self._link = spec.link or link
        self._offers = offers
        self._open = open_
        self._turn = threading.Lock()
        self._ending = False
        self._cursor: int | None = None
        self._recorded = 0
        self._renew_at = self._record_at = 0.0
        self._troubles = 0
        self._is_fine = False  # until the connection was looked at, and that is recorded

    def step(self) -> Sent:
        """Send what is new, if this sender has the channel.

        :raises LedgerError: the ledger cannot be used.
        """
        with self._turn:
            return self._step()

    def release(self) -> None:
        """Let another sender have the channel at once; a step that goes on in another thread is waited for."""
        self._ending = True
        with self._turn:
            self._ending = False
            if self._cursor is not None:
                if self._cursor > self._recorded:
                    self._advance(self._cursor, sent=0)
                state.release(self.ledger, self.spec.name, self.holder)
                self._cursor = None

    def _step(self) -> Sent:
        if not self._hold():
            return Sent(pause=state.LEASE.total_seconds() / 10, trouble="another sender works for this channel")
        if not self._is_fine:
            try:
                self._open(self.spec, self._connection).close()
            except Exception as error:  # noqa: BLE001 - as below
                return self._in_trouble(error, 0)
        now = datetime.now(UTC)
        if (ends := _quiet_until(self.spec, now)) is not None:
            return Sent(pause=min((ends - now).total_seconds(), 60.0) + 0.1)
        messages, up_to, is_all = self._next()
        if messages:
            return self._deliver(messages, up_to, is_all)
        if up_to < (self._cursor or 0):
            log.warning("%s: the ledger was put back to event %d: what follows is told", self.spec.name, up_to)
            return Sent() if self._advance(up_to, sent=0) else Sent(trouble="another sender took over")
        self._cursor = up_to
        is_due = self._cursor > self._recorded and time.monotonic() >= self._record_at
        if (is_due or not self._is_fine) and not self._advance(up_to, sent=0):
            return Sent(trouble="another sender took over")
        return Sent(pause=self.spec.every if is_all else 0.0)

    def _hold(self) -> bool:
        """Whether this sender has the channel; if it can, it takes it."""
        if self._cursor is not None and time.monotonic() < self._renew_at:
            return True
        row = state.acquire(self.ledger, self.spec.name, self.holder)
        self._renew_at = time.monotonic() + state.LEASE.total_seconds() / 3
        if row is None:
            self._cursor = None
            return False
        if self._cursor is None or row.cursor != self._recorded:
            self._cursor = self._recorded = row.cursor
            self._record_at = time.monotonic() + RECORDED_AFTER
        return True

    def _next(self) -> tuple[list[Message], int, bool]:
        """The next messages, up to which event they tell, and whether that is all."""
        assert self._cursor is not None
        cursor, events, is_all = self._cursor, list[Event](), False
        with self.ledger.read() as connection:
            newest = outbox.last_id(connection)
            if newest < cursor:
                return [], newest, True
            for _ in range(AT_ONCE):
                found = outbox.after(connection, cursor, self.spec)
                events += found.events
                cursor, is_all = found.up_to, found.is_all
                if is_all or len(events) >= outbox.MOST:
                    break
            groups = outbox.facts_of(connection, events)
        messages = [item for item in made(events, groups, self._link) if item.topic in self.spec.topics]
        return messages, cursor, is_all

    def _deliver(self, messages: list[Message], up_to: int, is_all: bool) -> Sent:
        """Send messages one by one, each recorded before the next one."""
        sent = 0
        wanted = folded(messages, self.spec.at_most, self._link)
        try:
            channel = self._open(self.spec, self._connection)
            try:
                for message in wanted:
                    if self._ending or not self._hold():
                        return Sent(sent, trouble="another sender took over")
                    crash_point("message.before_send", self.spec.name)
                    _send(channel, message if self._offers is None else self._offers.to(message, datetime.now(UTC)))
                    crash_point("message.after_send", self.spec.name)
                    if not self._advance(up_to if message is wanted[-1] else message.event, sent=1):
                        return Sent(sent + 1, trouble="another sender took over")
                    crash_point("message.after_record", self.spec.name)
                    sent += 1
            finally:
                with suppress(OSError):
                    channel.close()
        except Exception as error:  # noqa: BLE001 - a channel of another package may raise anything: it is tried again
            return self._in_trouble(error, sent)
        self._troubles = 0
        return Sent(sent, self.spec.every if is_all else 0.0)

    def _advance(self, cursor: int, *, sent: int) -> bool:
        """Record how far it is; False if another sender has the channel."""
        if not state.advance(self.ledger, self.spec.name, self.holder, self._recorded, cursor, sent=sent):
            self._cursor = None
            return False
        self._cursor = self._recorded = cursor
        self._record_at = time.monotonic() + RECORDED_AFTER
        self._renew_at = time.monotonic() + state.LEASE.total_seconds() / 3
        self._is_fine = True
        return True

    def _in_trouble(self, error: Exception, sent: int) -> Sent:
        """Keep what is in the way, and say when to try again."""
        self._troubles, self._is_fine = (1 if sent else self._troubles + 1), False
        asked = error.retry_after if isinstance(error, ChannelTrouble) else None
        if isinstance(error, ChannelTrouble | MessageRefused):
            text = str(error)
        else:
            # What is not foreseen may hold a secret: its kind is told, not its words.
            text = f"the channel could not be used: {type(error).__name__}"
            log.warning("%s: %s", self.spec.name, text)
        state.note_trouble(self.ledger, self.spec.name, text)
        longest = min(LONGEST_BACK_OFF, 2.0 ** min(self._troubles - 1, 10))
        return Sent(sent, max(longest * random.uniform(0.5, 1.0), asked or 0.0), text)


def _quiet_until(spec: ChannelSpec, now: datetime) -> datetime | None:
    """When the hours end in which nobody is told; ``None``: it is none of them."""
    if not spec.quiet:
        return None
    begin, until, zone = spec.quiet
    return range_ends(begin, until, zone, now)


def _send(channel: Channel, message: Message) -> None:
    """Send a message; one that is refused is sent with as little as possible in it.

    If even that is refused, nothing is wrong with the message.
    """
    try:
        channel.send(message)
    except MessageRefused:
        channel.send(message, plain=True)
