"""The ledger that a benchmark measures, on either database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from airflow_calib_provider.ledger.engine import Ledger

L = TypeVar("L", bound=Ledger)


@contextmanager
def new_ledger(kind: type[L], *, postgres: bool) -> Iterator[tuple[L, Path, str]]:
    """An empty ledger, a folder beside it, and the name of its database; all of it ends with the block.

    :param kind: its class.
    :param postgres: on a PostgreSQL of its own, instead of SQLite.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not postgres:
            ledger = kind(f"sqlite:///{folder}/ledger.db")
            yield ledger, folder, "SQLite"
            ledger.close()
            return
        from tests.postgres.server import Postgres

        server = Postgres().start()
        try:
            server.create("ledger")
            ledger = kind(server.url("ledger"))
            yield ledger, folder, "PostgreSQL"
            ledger.close()
        finally:
            server.remove()
