"""A backend: the jobs of this machine, in a folder of its own, as nice as the spec says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.settings import calib_home
from airflow_calib_provider.spec.kinds import BackendKind, ConnectionType, form_field


class ToyKeys(Keys):
    """The block ``toy``."""

    niceness: Annotated[int, Field(ge=0, le=19, description="how nice the jobs are")] = 0


class ToyBackend(LocalBackend):
    """Jobs of this machine."""

    name = "toy"

    def __init__(self, spool: Path | None = None, settings: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(spool or calib_home() / "toy_spool", **options)
        self.settings = settings or {}

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, Any] | None = None) -> None:
        niceness = (options or {}).get("niceness", self.settings.get("niceness", 0))
        nice = ("nice", "-n", str(niceness)) if niceness else ()
        super().submit(key, [replace(job, command=(*nice, *job.command)) for job in jobs])


def settings(connection: Any) -> Mapping[str, Any]:
    """What an Airflow connection says."""
    found: Mapping[str, Any] = connection.extra_dejson
    return found


class ToyKind(BackendKind):
    """Jobs of this machine."""

    name = "toy"
    loader = "calib_toys.backend:ToyBackend"
    keys = ToyKeys
    connection = ConnectionType(
        name="calib_toy",
        settings="calib_toys.backend:settings",
        hook="calib_toys.hook.ToyHook",
        title="Toys",
        behaviour={},
        fields={"niceness": form_field("Niceness", "integer", "How nice the jobs are.")},
    )


KIND = ToyKind()
