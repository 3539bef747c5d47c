"""The backends of this Airflow, by the names that specs give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.backends.base import Backend
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.spec.kinds import ConnectionType

_fetched: dict[str, Any] = {}
"""What :func:`prepare` had of the connection of each backend: its settings, or why it had none."""


def backend_of(name: str) -> Backend:
    """A backend by its name, for code in a task, and for the watcher's thread after :func:`prepare`.

    :param name: as in ``generation.backend``: the backend's name, or ``<name>:<connection id>``.
    :raises BackendError: there is none of this name, or it cannot be used.
    """
    from airflow_calib_provider.backends import get_backend
    from airflow_calib_provider.errors import BackendError, CalibError

    connection = _connection_type(name)
    if connection is None:
        return get_backend(name)
    settings = _fetched.get(name) or _fetch(name, connection)
    if isinstance(settings, CalibError):
        # Not itself, which would keep everything that each of its raises passed.
        raise BackendError(settings.message, settings.hint)
    return get_backend(name, settings=settings)


def _connection_type(name: str) -> ConnectionType | None:
    """The type of a backend's connection; what is wrong with the name is told by who makes the backend."""
    from airflow_calib_provider.errors import KindError
    from airflow_calib_provider.spec.kinds import backend_kind

    try:
        return backend_kind(name).connection
    except KindError:
        return None


def _connection_id(name: str, connection: ConnectionType) -> str:
    return name.partition(":")[2] or connection.default


def _missing(connection_id: str, connection: ConnectionType) -> CalibError:
    from airflow_calib_provider.errors import BackendError

    return BackendError(
        f"Airflow has no connection {connection_id!r}", f"create it under Admin → Connections, type {connection.name}"
    )


def _settings(connection: ConnectionType, found: Connection) -> Any:
    from airflow_calib_provider.kinds import load

    return load(connection.settings)(found)


def _fetch(name: str, connection: ConnectionType) -> Any:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    connection_id = _connection_id(name, connection)
    try:
        return _settings(connection, BaseHook.get_connection(connection_id))
    except AirflowNotFoundException:
        raise _missing(connection_id, connection) from None


async def prepare(name: str) -> None:
    """Fetch what :func:`backend_of` needs in a triggerer, where connections can be had in its event loop only."""
    connection = _connection_type(name)
    if connection is None:
        return
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from airflow_calib_provider.errors import CalibError

    connection_id = _connection_id(name, connection)
    try:
        _fetched[name] = _settings(connection, await BaseHook.aget_connection(connection_id))
    except AirflowNotFoundException:
        _fetched[name] = _missing(connection_id, connection)
    except CalibError as error:
        _fetched[name] = error
