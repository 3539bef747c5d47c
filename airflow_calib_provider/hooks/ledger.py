"""The ledger of this Airflow: the connection ``calib_ledger``, else the environment, else SQLite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.ledger.engine import Ledger

CONNECTION_ID = "calib_ledger"

_open: dict[str, Ledger] = {}


def ledger_url(connection: Connection | None) -> str:
    """An SQLAlchemy URL from Airflow's connection; the default one without.

    :raises LedgerError: the connection has no host (of SQLite: no file), and no URL in its extra field ``url``.
    """
    from airflow_calib_provider.errors import LedgerError
    from airflow_calib_provider.ledger.engine import default_url

    if connection is None:
        return default_url()
    if url := connection.extra_dejson.get("url"):
        return str(url)
    from sqlalchemy import URL

    kind = connection.conn_type
    if kind == "sqlite":
        if not (file := connection.host or connection.schema):
            hint = "put the absolute path of the ledger's file into host, or a URL into the extra field url"
            raise LedgerError(f"the connection {CONNECTION_ID} is of SQLite, but names no file", hint)
        return f"sqlite:///{file}"
    if not connection.host:
        raise LedgerError(f"the connection {CONNECTION_ID} has no host", "fill in host, schema, login and password")
    driver = "postgresql+psycopg" if kind in ("postgres", "postgresql", "calib_ledger") else str(kind)
    made = URL.create(
        driver, connection.login, connection.password, connection.host, connection.port, connection.schema
    )
    return made.render_as_string(hide_password=False)


def open_ledger(url: str) -> Ledger:
    """The ledger at this address, opened and checked once per process.

    :raises LedgerError: it is not there, or its version does not fit.
    """
    from airflow_calib_provider.ledger import schema
    from airflow_calib_provider.ledger.engine import Ledger

    key = f"{os.getpid()} {url}"
    if key not in _open:
        ledger = Ledger(url)
        schema.check(ledger)
        _open[key] = ledger
    return _open[key]


def task_ledger() -> Ledger:
    """The ledger, for code in a worker's task."""
    try:
        connection = BaseHook.get_connection(CONNECTION_ID)
    except AirflowNotFoundException:
        connection = None
    return open_ledger(ledger_url(connection))


async def trigger_url() -> str:
    """The ledger's address, for code in a trigger; :func:`open_ledger` blocks and belongs into a thread."""
    try:
        connection = await BaseHook.aget_connection(CONNECTION_ID)
    except AirflowNotFoundException:
        connection = None
    return ledger_url(connection)
