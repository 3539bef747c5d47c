"""The backends of this Airflow, by the names that specs give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend


def backend_of(name: str) -> Backend:
    """A backend by its name, for code in a task, and for the watcher's thread after :func:`prepare`.

    :param name: as in ``generation.backend``: ``local``, ``condor``, ``condor:<connection id>``.
    :raises BackendError: there is none of this name, or it cannot be used.
    """
    from airflow_calib_provider.backends import get_backend

    return get_backend(name)


async def prepare(name: str) -> None:
    """Fetch what :func:`backend_of` needs in a triggerer, where connections can be had in its event loop only."""
