"""Messages to people: how the channels stand, a trial, what would be told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.domain.advice import PROMPT
from airflow_calib_provider.errors import CalibError, CommandLineError
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.messages.base import Message
    from airflow_calib_provider.spec.messages_file import ChannelSpec


@dataclass(frozen=True)
class ChannelStatus:
    """How a channel stands.

    :ivar place: where it leads, without secrets; empty: it is not declared any more.
    :ivar sent: messages, since it began.
    :ivar events_behind: events that were not looked through yet.
    :ivar in_trouble: the last thing heard of it was ``last_error``.
    :ivar warnings: what it names and is not there yet: a campaign may be named before it is created.
    """

    channel: str
    place: str
    declared: bool
    sent: int
    last_sent_at: datetime | None
    events_behind: int
    in_trouble: bool
    last_error: str | None
    last_error_at: datetime | None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class TriedChannel:
    """What became of a trial message.

    :ivar error: why it could not be sent; ``None``: it was.
    """

    channel: str
    error: str | None

    @property
    def sent(self) -> bool:
        """Whether it was sent."""
        return self.error is None


def message_channels(ledger: Ledger, file: Path) -> list[ChannelStatus]:
    """How all channels stand: those that are declared, and those that were.

    :param file: the ``messages.yaml``; it need not be there.
    :raises SpecErrors: it has mistakes.
    """
    from sqlalchemy import select

    from airflow_calib_provider.ledger import tables
    from airflow_calib_provider.messages import state
    from airflow_calib_provider.spec.kinds import channel_kind

    declared = {channel.name: channel for channel in _declared(file)} if file.is_file() else {}
    with ledger.read() as connection:
        rows = {row.name: row for row in state.listed(connection)}
        behind = {name: state.behind(connection, row) for name, row in rows.items()}
        campaigns = set(connection.execute(select(tables.campaign.c.name)).scalars())
    found = []
    for name in [*declared, *(name for name in rows if name not in declared)]:
        row, spec = rows.get(name), declared.get(name)
        found.append(
            ChannelStatus(
                channel=name,
                place=channel_kind(spec.kind).place(spec.block) if spec is not None else "",
                declared=spec is not None,
                sent=row.sent if row is not None else 0,
                last_sent_at=row.last_sent_at if row is not None else None,
                events_behind=behind.get(name, 0),
                in_trouble=row is not None and row.is_in_trouble,
                last_error=row.last_error if row is not None else None,
                last_error_at=row.last_error_at if row is not None else None,
                warnings=_unknown(spec, campaigns) if spec is not None else (),
            )
        )
    return found


def _unknown(spec: ChannelSpec, campaigns: Collection[str]) -> tuple[str, ...]:
    """The campaigns that a channel names and that are not there (``prompt`` is made by the first injection)."""
    from airflow_calib_provider.spec.problems import nearest

    known = [PROMPT, *campaigns]
    return tuple(
        f"there is no campaign {name!r} yet, so that nothing of it is told" + (f"; {near}" if near else "")
        for name in spec.campaigns
        if name not in known
        for near in [nearest(name, known)]
    )


def try_channels(file: Path, channels: Sequence[str] = ()) -> list[TriedChannel]:
    """Send one message to each channel, by the Airflow connections that they name.

    :param channels: only these; empty: all.
    :raises CalibError: there is no file, it has mistakes, or it has no such channel.
    """
    from airflow_calib_provider.messages import folding
    from airflow_calib_provider.messages.base import open_channel
    from airflow_calib_provider.outside.connections import outside_connection
    from airflow_calib_provider.spec.kinds import channel_kind

    found = []
    for spec in _chosen(file, channels):
        error = None
        try:
            name = channel_kind(spec.kind).connection(spec.block)
            channel = open_channel(spec, outside_connection(name) if name else None)
            try:
                channel.send(folding.trial(spec.name, spec.link))
            finally:
                channel.close()
        except CalibError as trouble:
            error = str(trouble)
        found.append(TriedChannel(spec.name, error))
    return found


def preview_messages(
    ledger: Ledger, file: Path, since: datetime, channels: Sequence[str] = ()
) -> Iterator[tuple[str, Message]]:
    """What each channel would have been told since a time, with the channel's name; nothing is sent.

    :param channels: only these; empty: all.
    :raises CalibError: there is no file, it has mistakes, or it has no such channel.
    """
    from airflow_calib_provider.messages.preview import preview

    for spec in _chosen(file, channels):
        for message in preview(ledger, spec, since):
            yield spec.name, message


def _chosen(file: Path, names: Sequence[str]) -> list[ChannelSpec]:
    from airflow_calib_provider.domain.scalars import one_of
    from airflow_calib_provider.spec.problems import nearest

    declared = {channel.name: channel for channel in _declared(file)}
    for name in names:
        if name not in declared:
            near = nearest(name, declared)
            raise CommandLineError(f"there is no channel {name!r}", near or f"expected {one_of(declared)}")
    return [channel for name, channel in declared.items() if not names or name in names]


def _declared(file: Path) -> list[ChannelSpec]:
    from airflow_calib_provider.spec.messages_file import load_messages

    if not file.is_file():
        raise CalibError(f"there is no {file}", "write one: docs/messages.md has the shortest")
    return load_messages(file)
