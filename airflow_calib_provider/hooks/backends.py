"""The backends of this Airflow, by the names that specs give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend
    from airflow_calib_provider.backends.condor.settings import CondorSettings
    from airflow_calib_provider.errors import CalibError

_fetched: dict[str, CondorSettings | CalibError] = {}
"""What :func:`prepare` had of each connection, or why it had nothing."""


def backend_of(name: str) -> Backend:
    """A backend by its name, for code in a task, and for the watcher's thread after :func:`prepare`.

    :param name: as in ``generation.backend``: ``local``, ``condor``, ``condor:<connection id>``.
    :raises BackendError: there is none of this name, or it cannot be used.
    """
    from airflow_calib_provider.backends import get_backend
    from airflow_calib_provider.errors import BackendError, CalibError

    if name.partition(":")[0] != "condor":
        return get_backend(name)
    settings = _fetched.get(_connection_id(name)) or _fetch(_connection_id(name))
    if isinstance(settings, CalibError):
        # Not itself, which would keep everything that each of its raises passed.
        raise BackendError(settings.message, settings.hint)
    return get_backend(name, settings=settings)


def _connection_id(name: str) -> str:
    from airflow_calib_provider.backends.condor.settings import DEFAULT_CONNECTION

    return name.partition(":")[2] or DEFAULT_CONNECTION


def _missing(connection_id: str) -> CalibError:
    from airflow_calib_provider.errors import BackendError

    return BackendError(
        f"Airflow has no connection {connection_id!r}", "create it under Admin → Connections, type calib_condor"
    )


def _fetch(connection_id: str) -> CondorSettings:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from airflow_calib_provider.hooks.condor import condor_settings

    try:
        return condor_settings(BaseHook.get_connection(connection_id))
    except AirflowNotFoundException:
        raise _missing(connection_id) from None


async def prepare(name: str) -> None:
    """Fetch what :func:`backend_of` needs in a triggerer, where connections can be had in its event loop only."""
    if name.partition(":")[0] != "condor":
        return
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.hooks.condor import condor_settings

    connection_id = _connection_id(name)
    try:
        _fetched[connection_id] = condor_settings(await BaseHook.aget_connection(connection_id))
    except AirflowNotFoundException:
        _fetched[connection_id] = _missing(connection_id)
    except CalibError as error:
        _fetched[connection_id] = error
