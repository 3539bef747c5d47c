"""Backends for commands: those with a connection are had from Airflow."""

from __future__ import annotations

from os import environ
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend
    from airflow_calib_provider.spec.kinds import ConnectionType


def opened(name: str) -> Backend:
    """A backend; for one with a connection Airflow is asked, and only then imported, which takes seconds.

    :raises BackendError: there is none of this name, or it cannot be used.
    """
    from airflow_calib_provider.backends import get_backend

    if _connection_type(name) is None:
        return get_backend(name)
    from airflow_calib_provider.cli.hooks import ask_airflow

    found: Backend = ask_airflow("backends", "backend_of", name)
    return found


def not_seen(name: str) -> str:
    """Where a backend's connection was looked for; empty where it was found, or there is nothing to look for."""
    connection = _connection_type(name)
    if connection is None:
        return ""
    variable = f"AIRFLOW_CONN_{(name.partition(':')[2] or connection.default).upper()}"
    if variable in environ:
        return ""
    return f" (asked were {variable}, secrets backends, and Airflow's database as this machine is configured)"


def _connection_type(name: str) -> ConnectionType | None:
    """The type of a backend's connection; of one that is not known none."""
    from airflow_calib_provider.errors import KindError
    from airflow_calib_provider.spec.kinds import backend_kind

    try:
        return backend_kind(name).connection
    except KindError:
        return None
