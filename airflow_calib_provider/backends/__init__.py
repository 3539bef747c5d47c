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
    "local": f"{_PACKAGE}.local.backend:LocalBackend",
}
"""Name → ``module:class``."""


def get_backend(name: str, **options: Any) -> Backend:
    """A backend by its name.

    :param name: one of :data:`BACKENDS`.
    :param options: passed on to the class of the backend.
    :raises BackendError: there is no such backend, or what it needs is not installed.
    """
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}", f"the backends are {', '.join(sorted(BACKENDS))}")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        backend = getattr(import_module(module), attribute)
    except ImportError as error:
        raise BackendError(f"the backend {name!r} cannot be loaded: {error}", "is its extra installed?") from error
    return cast("Backend", backend(**options))
