"""The keys of ``condor`` in a spec."""

from __future__ import annotations

from pydantic import Field

from airflow_calib_provider.domain.model import Model


class CondorOptions(Model):
    """What a task says about its jobs on an HTCondor pool. ``files`` are templates.

    :ivar transfer: file transfer instead of a shared file system; ``None``: as the connection says.
    :ivar attributes: of the jobs' ads.
    :ivar commands: further submit commands.
    """

    transfer: bool | None = None
    files: tuple[str, ...] = ()
    container_image: str | None = None
    max_materialize: int | None = None
    max_idle: int | None = None
    requirements: str | None = None
    accounting_group: str | None = None
    accounting_group_user: str | None = None
    priority: int | None = None
    attributes: dict[str, str | bool | int | float] = Field(default_factory=dict)
    commands: dict[str, str] = Field(default_factory=dict)
