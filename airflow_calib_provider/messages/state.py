"""How far each channel is, and who sends there: rows of ``message_channel``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, exc, insert, select, update

from airflow_calib_provider.ledger import leases, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import first_row, read_rows, select_of
from airflow_calib_provider.messages import outbox

LEASE = timedelta(seconds=90)
"""How long a channel belongs to whoever sends there, after it was heard of last: more than a message may take."""

channel = tables.message_channel


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel, as the ledger has it."""

    name: str
    cursor: int
    holder: str | None
    held_until: datetime | None
    sent: int
    last_sent_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None

    @property
    def is_in_trouble(self) -> bool:
        """Whether the last thing heard of it was an error."""
        return leases.is_in_trouble(self)


def find(connection: Connection, name: str) -> ChannelRow | None:
    """A channel; ``None`` if nobody ever looked what to send there."""
    return first_row(connection, select_of(ChannelRow, channel).where(channel.c.name == name), ChannelRow)


def listed(connection: Connection) -> list[ChannelRow]:
    """All channels."""
    return read_rows(connection, select_of(ChannelRow, channel).order_by(channel.c.name), ChannelRow)


def acquire(ledger: Ledger, name: str, holder: str) -> ChannelRow | None:
    """Take a channel for this sender, or keep it. A new one begins with what happens from now on.

    :returns: its row; ``None`` if another sender has it.
    """
    now = datetime.now(UTC)
    values: dict[str, object] = {"holder": holder, "held_until": now + LEASE}
    try:
        with ledger.write() as connection:
            if find(connection, name) is None:
                fresh = {"name": name, "cursor": outbox.last_id(connection), "sent": 0}
                connection.execute(insert(channel).values(**fresh, **values))
            elif not leases.take(connection, channel, name, holder, now, values):
                return None
            return find(connection, name)
    except exc.IntegrityError:
        return None  # another sender made the row at this moment


def release(ledger: Ledger, name: str, holder: str) -> None:
    """Let another sender have the channel at once."""
    leases.release(ledger, channel, name, holder)


def advance(ledger: Ledger, name: str, holder: str, before: int, cursor: int, *, sent: int) -> bool:
    """What lies up to the cursor has been told, or is not to be.

    :param before: the cursor as this sender believes it to be.
    :param sent: messages.
    :returns: False if another sender has taken over; nothing is written then.
    """
    now = datetime.now(UTC)
    values: dict[str, object] = {"cursor": cursor, "held_until": now + LEASE, "last_success_at": now}
    if sent:
        values |= {"sent": channel.c.sent + sent, "last_sent_at": now}
    here = (channel.c.name == name, channel.c.holder == holder, channel.c.cursor == before)
    with ledger.write() as connection:
        return bool(connection.execute(update(channel).where(*here).values(values)).rowcount == 1)


def note_trouble(ledger: Ledger, name: str, text: str) -> None:
    """Keep what is in the way, for those who ask; the same text once a minute."""
    now = datetime.now(UTC)
    with ledger.read() as connection:
        known = find(connection, name)
    if known is None or not leases.is_news(known, text, now):
        return
    with ledger.write() as connection:
        values = {"last_error": text[:2000], "last_error_at": now}
        connection.execute(update(channel).where(channel.c.name == name).values(values))


def behind(connection: Connection, row: ChannelRow) -> int:
    """Events that were not looked through yet."""
    query = select(tables.event.c.id).where(tables.event.c.id > row.cursor).limit(1)
    if connection.execute(query).first() is None:
        return 0
    return max(0, outbox.last_id(connection) - row.cursor)
