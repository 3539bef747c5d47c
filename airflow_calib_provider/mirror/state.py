"""How far each target is, and who carries to it: rows of ``mirror_target``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from sqlalchemy import Connection, delete, exc, insert, select, update

from airflow_calib_provider.ledger import leases, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import MirrorTarget, Sample, first_row, read_rows, select_of

LEASE = timedelta(seconds=60)
"""How long a target belongs to whoever carries to it, after it was heard of last."""

REBUILD = " (rebuild)"
"""The end of the name under which a rebuild keeps its own cursor."""

target = tables.mirror_target


def find(connection: Connection, name: str) -> MirrorTarget | None:
    """A target; ``None`` if nothing was ever carried there."""
    return first_row(connection, select_of(MirrorTarget, target).where(target.c.name == name), MirrorTarget)


def listed(connection: Connection) -> list[MirrorTarget]:
    """All targets, rebuilds aside."""
    rows = read_rows(connection, select_of(MirrorTarget, target).order_by(target.c.name), MirrorTarget)
    return [row for row in rows if not row.name.endswith(REBUILD)]


def acquire(ledger: Ledger, name: str, place: str, holder: str, *, cursor: int = 0) -> MirrorTarget | None:
    """Take a target for this carrier, or keep it.

    :param place: where it is, for people.
    :param cursor: where to begin if nothing was ever carried there.
    :returns: its row; ``None`` if another carrier has it.
    """
    now = datetime.now(UTC)
    values: dict[str, object] = {"holder": holder, "held_until": now + LEASE, "place": place}
    try:
        with ledger.write() as connection:
            before = find(connection, name)
            if before is not None and before.place != place and before.cursor:
                said = f"the events up to {before.cursor} were carried to {before.place}: `calib mirror rebuild`"
                values |= {"note": f"{said} brings them here", "note_at": now}
            if before is None:
                fresh = {"name": name, "cursor": cursor, "holes": [], "skipped_by_retention": 0}
                connection.execute(insert(target).values(**fresh, **values))
            elif not leases.take(connection, target, name, holder, now, values):
                return None
            return find(connection, name)
    except exc.IntegrityError:
        return None  # another carrier made the row at this moment


def release(ledger: Ledger, name: str, holder: str) -> None:
    """Let another carrier have the target at once."""
    leases.release(ledger, target, name, holder)


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
    now = datetime.now(UTC)
    values: dict[str, object] = {"cursor": cursor, "holes": holes, "held_until": now + LEASE}
    if success:
        values["last_success_at"] = now
    if too_old:
        values["skipped_by_retention"] = target.c.skipped_by_retention + too_old
    if note:
        values |= {"note": note, "note_at": now}
    here = (target.c.name == name, target.c.holder == holder, target.c.cursor == before)
    return bool(connection.execute(update(target).where(*here).values(values)).rowcount == 1)


def note_trouble(ledger: Ledger, name: str, text: str, note: str = "") -> None:
    """Keep what is in the way, for those who ask; the same text once a minute.

    :param note: what stays to be said when it is over.
    """
    now = datetime.now(UTC)
    with ledger.read() as connection:
        known = find(connection, name)
    if known is None or not leases.is_news(known, text, now):
        return
    with ledger.write() as connection:
        values: dict[str, object] = {"last_error": text[:2000], "last_error_at": now}
        values |= {"note": note, "note_at": now} if note else {}
        connection.execute(update(target).where(target.c.name == name).values(values))


def is_in_trouble(row: MirrorTarget) -> bool:
    """Whether the last thing heard of a target was an error."""
    return leases.is_in_trouble(row)


def is_held(row: MirrorTarget) -> bool:
    """Whether a carrier works for a target now."""
    return row.holder is not None and row.held_until is not None and row.held_until > datetime.now(UTC)


def remove(ledger: Ledger, name: str) -> None:
    """Forget a target, such as a rebuild that is over."""
    with ledger.write() as connection:
        connection.execute(delete(target).where(target.c.name == name))


# figures of the system


def last_sample(connection: Connection) -> tuple[Sample, datetime | None]:
    """The last figures that were appended as events, for whichever target, and when."""
    query = select(target.c.sample, target.c.sampled_at).where(target.c.sampled_at.is_not(None))
    row = connection.execute(query.order_by(target.c.sampled_at.desc()).limit(1)).first()
    return ({}, None) if row is None else (cast("Sample", row.sample or {}), row.sampled_at)


def note_sample(connection: Connection, name: str, sample: Sample, now: datetime) -> None:
    """Remember figures that were looked at."""
    connection.execute(update(target).where(target.c.name == name).values(sample=dict(sample), sampled_at=now))
