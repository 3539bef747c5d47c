"""Places where jobs run, by name.

A backend is imported only when it is asked for: those that are not used need not be installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from airflow_calib_provider.errors import BackendError

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend

_PACKAGE = "airflow_calib_provider.backends"

BACKENDS = {
    "condor": f"{_PACKAGE}.condor.backend:CondorBackend",
    "local": f"{_PACKAGE}.local.backend:LocalBackend",
}
"""Name → ``module:class``."""

CONNECTED = frozenset({"condor"})
"""The backends of which there may be several, told apart by an Airflow connection: ``condor:<connection id>``."""


def get_backend(name: str, **options: Any) -> Backend:
    """A backend by its name.

    :param name: one of :data:`BACKENDS`, for backends with connections also ``<backend>:<connection id>``.
    :param options: passed on to the class of the backend: the settings of its connection.
    :raises BackendError: there is no such backend, or what it needs is not installed.
    """
    kind, colon, connection = name.partition(":")
    if kind not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}", f"the backends are {', '.join(sorted(BACKENDS))}")
    if colon and (not connection or kind not in CONNECTED):
        raise BackendError(f"the backend {name!r} names no connection that can be used", f"write {kind!r}")
    module, _, attribute = BACKENDS[kind].partition(":")
    try:
        backend = getattr(import_module(module), attribute)
    except ImportError as error:
        raise BackendError(f"the backend {name!r} cannot be loaded: {error}", "is its extra installed?") from error
    return cast("Backend", backend(**options))
