"""The local backend, as specs know it."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.spec.kinds import BackendKind


class LocalKind(BackendKind):
    """Jobs on this machine: neither a connection nor keys of its own."""

    name = "local"
    awaited = "a slot of its machine (CALIB_LOCAL_SLOTS)"
    loader = "airflow_calib_provider.backends.local.backend:LocalBackend"

    def reserves(self, block: Mapping[str, object]) -> str:
        """It is one machine."""
        return ""


KIND = LocalKind()
