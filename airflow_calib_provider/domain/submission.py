"""What is handed to a backend: one attempt of one job, fully rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """What one job asks for."""

    cpus: int = 1
    memory: int | None = None
    """Bytes; the address space of a local job is limited to it."""
    disk: int | None = None
    """Bytes."""
    gpus: int = 0


@dataclass(frozen=True)
class JobSubmission:
    """One attempt of one job, fully rendered.

    ``folder`` exists when it is submitted, ``folder/out`` inside it too; for a backend whose jobs make their folders
    (:class:`~airflow_calib_provider.backends.base.Frugal`) only what ``folder`` lies in.

    The backend writes ``folder/stdout`` and ``folder/stderr``; the job itself writes its products to ``CALIB_OUT``
    (``folder/out``, also its working directory) and JSON lines to ``CALIB_REPORT`` (``folder/report.jsonl``).
    """

    index: int
    attempt: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The job's own variables, the ``CALIB_*`` of the contract among them."""
    folder: Path
    resources: Resources = field(default_factory=Resources)
    timeout: float | None = None
    """Seconds of wall time after which the job is killed and has failed."""
    inputs: tuple[str, ...] = ()
    """Paths and URLs that the job reads."""
    files: tuple[str, ...] = ()
    """Files that the payload needs: transferred where there is no shared file system."""
    products: tuple[str, ...] = ()
    """What it is to leave, relative to ``folder/out``. Where it ends well, the backend may leave their checksums beside
    it (:mod:`airflow_calib_provider.checksums`); those that are missing are made later."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """Name → text of the files that are to be in ``folder`` before the command runs, and are not yet."""
    mailbox: str = ""
    """A folder of this side that it reads and writes while it runs; empty: none. A kind that carries files, and whose
    jobs cannot have that, reserves no workers."""
