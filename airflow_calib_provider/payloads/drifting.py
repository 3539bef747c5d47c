"""Whether outside stores have what the ledger says that they have: nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.placing import drift
from airflow_calib_provider.payloads.outgoing import writable

UNCHECKED = "unchecked"
"""It was not compared."""


@dataclass(frozen=True)
class StoreDrift:
    """A difference, or that nobody can tell whether there is one.

    :ivar store: as ``kind:place``.
    :ivar tag: as it is called there.
    :ivar said: what is different, or why nobody can tell.
    :ivar what: ``drift``, or ``unchecked`` where nobody can tell.
    """

    store: str
    tag: str
    said: str
    what: str = "drift"


def check_stores(ledger: Ledger, tag: str | None = None, campaign: str | None = None) -> Iterator[StoreDrift]:
    """Ask each store for each tag that is written there, and compare: intervals, and contents where a store keeps them.

    Where a publication is under way nothing is compared; it is told as ``unchecked``.

    :param tag: only this one, as it is called in the ledger or in stores.
    :param campaign: only what this one writes.
    """
    with ledger.read() as connection:
        under_way = {
            (row.store, one): row.key
            for key in publications.on_their_way(connection)
            for row in publications.of_set(connection, key)
            for one in publications.tags_of(row)
        }
        written = {(row.store, row.tag): row.campaign for row in publications.tags_written(connection)}
        named = names_there(connection) if tag is not None else {}
    # That of a tag which was never written has only its key to say whose it is.
    whose = {**{place: key.partition("/")[0] for place, key in under_way.items()}, **written}
    meant = None if tag is None else {tag, *(there for there, here in named.items() if here == tag)}
    for store, of_tag in sorted(whose):
        if (meant is not None and of_tag not in meant) or campaign not in (None, whose[store, of_tag]):
            continue
        if (key := under_way.get((store, of_tag))) is not None:
            yield StoreDrift(store, of_tag, f"a publication is under way: {key}", UNCHECKED)
            continue
        try:
            for said in _differs(ledger, store, of_tag):
                yield StoreDrift(store, of_tag, said)
        except CalibError as error:
            yield StoreDrift(store, of_tag, f"cannot be asked: {error.message}", UNCHECKED)


def names_there(connection: Connection) -> dict[str, str]:
    """Each tag as stores call it → as the ledger does: a campaign may have its own there (rule 54)."""
    items = publications.first_items(connection)
    payload = tables.payload
    query = select(payload.c.id, payload.c.tag).where(tables.one_of(payload.c.id, items.values()))
    known = {row.id: row.tag for row in connection.execute(query)}
    return {there: known[number] for there, number in items.items() if number in known}


def _differs(ledger: Ledger, store: str, tag: str) -> list[str]:
    with ledger.read() as connection:
        expected = publications.expected(connection, store, tag) or []
    outside = writable(store)
    listing = outside.current(tag)
    return [*drift(expected, listing), *outside.altered(tag, listing)]
