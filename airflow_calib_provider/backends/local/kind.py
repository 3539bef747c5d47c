"""The local backend, as specs know it."""

from __future__ import annotations

from airflow_calib_provider.spec.kinds import BackendKind


class LocalKind(BackendKind):
    """Jobs on this machine: neither a connection nor keys of its own."""

    name = "local"
    loader = "airflow_calib_provider.backends.local.backend:LocalBackend"


KIND = LocalKind()
