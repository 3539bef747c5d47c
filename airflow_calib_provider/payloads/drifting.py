"""Whether outside stores have what the ledger says that they have: nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import publications
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.placing import drift
from airflow_calib_provider.payloads.publication import writable


@dataclass(frozen=True)
class StoreDrift:
    """A difference.

    :ivar store: as ``kind:place``.
    :ivar tag: as it is called there.
    :ivar said: what is different, or why nobody can tell.
    """

    store: str
    tag: str
    said: str


def check_stores(ledger: Ledger, tag: str | None = None) -> Iterator[StoreDrift]:
    """Ask each store for each tag that is written there, and compare; what is on its way is left out.

    :param tag: only this one.
    """
    with ledger.read() as connection:
        written = [row for row in publications.tags_written(connection) if tag in (None, row.tag)]
    for row in written:
        if row.publication is not None:
            continue
        with ledger.read() as connection:
            expected = publications.expected(connection, row.store, row.tag) or []
        try:
            said = drift(expected, writable(row.store).current(row.tag))
        except CalibError as error:
            said = [f"cannot be asked: {error.message}"]
        yield from (StoreDrift(row.store, row.tag, one) for one in said)
