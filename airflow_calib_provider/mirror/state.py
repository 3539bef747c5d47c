"""How far each target is, and who carries to it: rows of ``mirror_target``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, exc, insert, or_, select, update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import now

LEASE = timedelta(seconds=60)
"""How long a target belongs to whoever carries to it, after it was heard of last."""

TOLD_AGAIN = timedelta(seconds=60)
"""How old the time of the same error may become in the ledger."""

REBUILD = " (rebuild)"
"""The end of the name under which a rebuild keeps its own cursor."""

target = tables.mirror_target


def find(connection: Connection, name: str) -> Any:
    """The row of a target; ``None`` if nothing was ever carried there."""
    return connection.execute(select(target).where(target.c.name == name)).first()


def listed(connection: Connection) -> list[Any]:
    """The rows of all targets, rebuilds aside."""
    rows = connection.execute(select(target).order_by(target.c.name)).all()
    return [row for row in rows if not row.name.endswith(REBUILD)]


def acquire(ledger: Ledger, name: str, place: str, holder: str, *, cursor: int = 0) -> Any:
    """Take a target for this carrier, or keep it.

    :param place: where it is, for people.
    :param cursor: where to begin if nothing was ever carried there.
    :returns: its row; ``None`` if another carrier has it.
    """
    at = now()
    free = or_(target.c.holder.is_(None), target.c.holder == holder, target.c.held_until < at)
    taken = update(target).where(target.c.name == name, free)
    values: dict[str, Any] = {"holder": holder, "held_until": at + LEASE, "place": place}
    try:
        with ledger.write() as connection:
            before = find(connection, name)
            if before is not None and before.place != place and before.cursor:
                said = f"the events up to {before.cursor} were carried to {before.place}: `calib mirror rebuild`"
                values |= {"note": f"{said} brings them here", "note_at": at}
            if before is None:
                fresh = {"name": name, "cursor": cursor, "holes": [], "skipped_by_retention": 0}
                connection.execute(insert(target).values(**fresh, **values))
            elif connection.execute(taken.values(**values)).rowcount != 1:
                return None
            return find(connection, name)
    except exc.IntegrityError:
        return None  # another carrier made the row at this moment


def release(ledger: Ledger, name: str, holder: str) -> None:
    """Let another carrier have the target at once."""
    with ledger.write() as connection:
        here = (target.c.name == name, target.c.holder == holder)
        connection.execute(update(target).where(*here).values(holder=None, held_until=None))


def advance(
    connection: Connection,
    name: str,
    holder: str,
    before: int,
    cursor: int,
    holes: list[list[float]],
    *,
    success: bool = True,
    too_old: int = 0,
    note: str = "",
) -> bool:
    """What lies up to the cursor has been carried.

    :param before: the cursor as this carrier believes it to be.
    :param too_old: points that were older than the target's retention.
    :param note: what is odd about the events.
    :returns: False if another carrier has taken over; nothing is written then.
    """
    at = now()
    values: dict[str, Any] = {"cursor": cursor, "holes": holes, "held_until": at + LEASE}
    if success:
        values["last_success_at"] = at
    if too_old:
        values["skipped_by_retention"] = target.c.skipped_by_retention + too_old
    if note:
        values |= {"note": note, "note_at": at}
    here = (target.c.name == name, target.c.holder == holder, target.c.cursor == before)
    return bool(connection.execute(update(target).where(*here).values(values)).rowcount == 1)


def note_trouble(ledger: Ledger, row: Any, text: str, note: str = "") -> None:
    """Keep what is in the way, for those who ask; the same text once a minute.

    :param note: what stays to be said when it is over.
    """
    at = now()
    with ledger.read() as connection:
        known = find(connection, row.name)
    if known is None or (known.last_error == text and at - known.last_error_at < TOLD_AGAIN):
        return
    with ledger.write() as connection:
        values: dict[str, Any] = {"last_error": text[:2000], "last_error_at": at}
        values |= {"note": note, "note_at": at} if note else {}
        connection.execute(update(target).where(target.c.name == row.name).values(values))


def is_in_trouble(row: Any) -> bool:
    """Whether the last thing heard of a target was an error."""
    return row.last_error_at is not None and (row.last_success_at is None or row.last_error_at > row.last_success_at)


def is_held(row: Any) -> bool:
    """Whether a carrier works for a target now."""
    return row.holder is not None and row.held_until is not None and row.held_until > now()


def remove(ledger: Ledger, name: str) -> None:
    """Forget a target, such as a rebuild that is over."""
    with ledger.write() as connection:
        connection.execute(delete(target).where(target.c.name == name))


# figures of the system


def last_sample(connection: Connection) -> tuple[Mapping[str, Any], datetime | None]:
    """The last figures that were appended as events, for whichever target, and when."""
    query = select(target.c.sample, target.c.sampled_at).where(target.c.sampled_at.is_not(None))
    row = connection.execute(query.order_by(target.c.sampled_at.desc()).limit(1)).first()
    return ({}, None) if row is None else (row.sample or {}, row.sampled_at)


def note_sample(connection: Connection, name: str, sample: Mapping[str, Any], at: datetime) -> None:
    """Remember figures that were looked at."""
    connection.execute(update(target).where(target.c.name == name).values(sample=dict(sample), sampled_at=at))
