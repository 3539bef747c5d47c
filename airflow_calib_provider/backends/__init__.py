"""Places where jobs run, by name.

A backend is imported only when it is asked for: those that are not used need not be installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_calib_provider.errors import BackendError, KindError

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend


def get_backend(name: str, **options: Any) -> Backend:
    """A backend by its name.

    :param name: one of :data:`airflow_calib_provider.kinds.BACKENDS`, for backends with connections also
        ``<backend>:<connection id>``.
    :param options: passed on to the class of the backend: the settings of its connection.
    :raises BackendError: there is no such backend, or what it needs is not installed.
    """
    # Not at the top: a supervisor, and the helper that talks to a pool, are imported without the language.
    from airflow_calib_provider.kinds import load
    from airflow_calib_provider.spec.kinds import backend_kind

    try:
        kind = backend_kind(name)
    except KindError as error:
        raise BackendError(error.message, error.hint) from error
    _, colon, connection = name.partition(":")
    if colon and not (connection and kind.connection):
        raise BackendError(f"the backend {name!r} names no connection that can be used", f"write {kind.name!r}")
    try:
        backend = load(kind.loader)
    except ImportError as error:
        raise BackendError(f"the backend {name!r} cannot be loaded: {error}", "is its extra installed?") from error
    return cast("Backend", backend(**options))
