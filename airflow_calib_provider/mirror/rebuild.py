"""Filling an InfluxDB anew from the events, beside the mirror that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import aside, outbox, state
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient, Kind
from airflow_calib_provider.mirror.schema import MEASUREMENTS


@dataclass(frozen=True)
class RebuildProgress:
    """How far a rebuild is.

    :ivar first: the event before the first.
    :ivar done: the last event that was carried.
    :ivar last: the newest event now.
    :ivar trouble: what is in the way; it goes on by itself.
    """

    first: int
    done: int
    last: int
    points: int
    trouble: str = ""


def rebuild(
    ledger: Ledger,
    client: InfluxClient,
    since: int | None = None,
    *,
    tell: Callable[[RebuildProgress], None] | None = None,
) -> RebuildProgress:
    """Write the points of all events once more, those that were set aside, too.

    It goes on until it has reached the newest event: an older value that it writes over a newer one, which the mirror
    wrote meanwhile, is overwritten in its turn.

    :param since: a time in nanoseconds; events before it are left out.
    :param tell: called after each step.
    :raises MirrorError: another rebuild of this target goes on; a place that is written to is not there at the start,
        or may not be written.
    """
    for route in client.target.routes_of():
        answer = client.try_route(route)
        if not answer.ok and answer.kind is not Kind.BUSY:
            raise client.trouble(answer)
    with ledger.read() as connection:
        first = 0 if since is None else outbox.first_since(connection, since) - 1
        last = outbox.last_id(connection)
    name = client.target.name + state.REBUILD
    carrier = Carrier(ledger, client, name=name, set_aside_as=client.target.name)
    _begin(ledger, carrier, first)
    points = 0
    try:
        with ledger.write() as connection:
            # What is refused again is set aside again.
            aside.remove_from(connection, client.target.name, first + 1, last)
        while True:
            step = carrier.step()
            points += step.points
            with ledger.read() as connection:
                last = outbox.last_id(connection)
            progress = RebuildProgress(first, carrier.cursor, last, points, step.trouble)
            if tell is not None:
                tell(progress)
            if carrier.cursor >= last and not step.trouble:
                break
            time.sleep(step.pause if step.trouble else 0.0)
    finally:
        carrier.release()
    state.remove(ledger, name)
    return progress


def _begin(ledger: Ledger, carrier: Carrier, first: int) -> None:
    with ledger.read() as connection:
        row = state.find(connection, carrier.name)
    if row is not None:
        if state.is_held(row):
            raise MirrorError(
                f"another rebuild of {carrier.client.target.name} goes on",
                "wait for its end; one that was killed counts for another minute",
            )
        state.remove(ledger, carrier.name)  # one that was interrupted
    carrier.begin_at(first)


def delete_all(client: InfluxClient) -> list[str]:
    """Delete the mirror's measurements, whoever wrote the points in them.

    :returns: what was deleted.
    :raises MirrorError: the server refused it.
    """
    deleted = []
    for route, names in client.target.routes_of().items():
        there = {row[0] for series in client.query("SHOW MEASUREMENTS", route) for row in series.get("values", ())}
        for name in names:
            if name in there & MEASUREMENTS.keys():
                # DROP MEASUREMENT would need an administrator of 1.x.
                client.query(f'DELETE FROM "{name}"', route, change=True)  # noqa: S608 - a name of ours
                deleted.append(name)
    return deleted
