"""What a channel would have been told since a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby

from airflow_calib_provider.domain.clocks import range_ends
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages import outbox
from airflow_calib_provider.messages.base import Message
from airflow_calib_provider.messages.folding import folded
from airflow_calib_provider.messages.making import made
from airflow_calib_provider.spec.messages_file import ChannelSpec


def preview(ledger: Ledger, channel: ChannelSpec, since: datetime) -> Iterator[Message]:
    """The messages, folded as they would have been had nothing been in the way; the ledger is only read."""
    with ledger.read() as connection:
        cursor = outbox.first_since(connection, since)
    while True:
        with ledger.read() as connection:
            found = outbox.after(connection, cursor, channel)
            groups = outbox.facts_of(connection, found.events)
        messages = [one for one in made(found.events, groups, channel.link) if one.topic in channel.topics]
        yield from _as_looked(messages, channel)
        cursor = found.up_to
        if found.is_all:
            return


def _as_looked(messages: Iterable[Message], channel: ChannelSpec) -> Iterator[Message]:
    """Those that one look finds together, folded."""

    def told_at(message: Message) -> float:
        if channel.quiet:
            begin, until, zone = channel.quiet
            if (ends := range_ends(begin, until, zone, message.at)) is not None:
                return ends.timestamp()
        return message.at.timestamp() // channel.every * channel.every

    for _, together in groupby(messages, key=told_at):
        yield from folded(list(together), channel.at_most, channel.link)
