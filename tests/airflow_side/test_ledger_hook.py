"""The ledger's address from Airflow's connection."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.hooks.ledger import ledger_url


def connection(conn_type: str, **more: Any) -> Connection:
    return Connection(conn_id="calib_ledger", conn_type=conn_type, **more)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (connection("sqlite", schema="/data/ledger.db"), "sqlite:////data/ledger.db"),
        (connection("sqlite", host="/data/ledger.db"), "sqlite:////data/ledger.db"),
        (connection("sqlite", extra='{"url": "sqlite:////else.db"}'), "sqlite:////else.db"),
        (
            connection("postgres", host="db", schema="calib", login="me", password="p@"),
            "postgresql+psycopg://me:p%40@db/calib",
        ),
    ],
)
def test_address(given: Connection, url: str) -> None:
    assert ledger_url(given) == url


@pytest.mark.parametrize(("kind", "missing"), [("sqlite", "names no file"), ("postgres", "has no host")])
def test_a_connection_that_leads_nowhere(kind: str, missing: str) -> None:
    with pytest.raises(LedgerError, match=missing) as caught:
        ledger_url(connection(kind))
    assert caught.value.hint
