"""The folder of one round in the spool."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.local.processes import Host, all_marked
from airflow_calib_provider.domain import lengths
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError, SubmissionRefused

NEW = ".new-"
"""Names of folders that are being written begin so."""
FORGOTTEN = ".forgotten-"
"""Names of folders that are being deleted begin so."""
_STALE = 3600.0


@dataclass(frozen=True)
class Submission:
    """The content of ``jobs.json``.

    :ivar token: tells processes of this round from those of a round of the same name elsewhere.
    :ivar slots: the concurrency limit of the host, as the submitter saw it.
    :ivar grace: seconds between SIGTERM and SIGKILL.
    """

    token: str
    slots: int
    grace: float
    jobs: tuple[JobSubmission, ...]

    def mark(self, index: int, folder: Path) -> str:
        """The value of ``CALIB_LOCAL_JOB`` of a job.

        :param folder: the round's, by which its processes are found even when the folder is gone.
        """
        return f"{self.token}:{index}:{folder.absolute()}"


@dataclass(frozen=True)
class RoundFolder:
    """Paths and content of a round's folder.

    :ivar path: ``spool/<key>``.
    """

    path: Path

    @property
    def events(self) -> Path:
        """What the supervisor writes: an event a line."""
        return self.path / "events.jsonl"

    @property
    def starts(self) -> Path:
        """One byte for each attempt to start a supervisor."""
        return self.path / "starts"

    @property
    def output(self) -> Path:
        """What the supervisor itself printed."""
        return self.path / "supervisor.out"

    @property
    def _requests(self) -> Path:
        return self.path / "requests"

    @property
    def _jobs(self) -> Path:
        return self.path / "jobs.json"

    @classmethod
    def create(cls, path: Path, submission: Submission, host: Host) -> RoundFolder:
        """Write a round's folder, all at once, or find the one that exists.

        :raises OSError: it cannot be written; then nothing is left of it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        new = cls(path.with_name(NEW + uuid.uuid4().hex))
        try:
            # For the user only: the jobs' environment may hold what is nobody else's business.
            new.path.mkdir(mode=0o700)
            new._requests.mkdir()
            created = log.event(log.CREATED, jobs=len(submission.jobs))
            _write(new._jobs, json.dumps(_encode(submission)))
            _write(new.events, json.dumps(created) + "\n")
            _write(new.path / "host", json.dumps({"name": host.name, "boot": host.boot}))
            _write(new.path / "supervisor.lock", "")
            _write(new.starts, "")
            _sync(new.path)
            new.path.rename(path)
        except OSError:
            shutil.rmtree(new.path, ignore_errors=True)
            # Somebody else's folder of the same round: a folder with content is never replaced by a rename.
            if not path.is_dir():
                raise
        else:
            # The round is there for everybody from now on, whatever becomes of this call.
            with contextlib.suppress(OSError):
                _sync(path.parent)
        return cls(path)

    def submission(self) -> Submission:
        """What was submitted.

        :raises BackendError: ``jobs.json`` is damaged.
        """
        try:
            return _decode(json.loads(self._jobs.read_text()))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise self._damaged(self._jobs, error) from error

    def host(self) -> Host:
        """Where it was submitted.

        :raises BackendError: the file ``host`` is damaged.
        """
        try:
            return Host(**json.loads((self.path / "host").read_text()))
        except (ValueError, TypeError, OSError) as error:
            raise self._damaged(self.path / "host", error) from error

    def _damaged(self, file: Path, error: Exception) -> BackendError:
        return BackendError(
            f"{file} is damaged ({error!r})",
            f"end the round's supervisor if one runs (its process id is in {self.events}) and move {self.path} "
            "out of the spool; then its jobs are unknown to the backend",
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the round's lock if it is free; yields whether it was.

        :raises OSError: there is no such round, or its lock may not be used.
        """
        file = os.open(self.path / "supervisor.lock", os.O_RDWR)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(file)

    def request_removal(self, indices: Iterable[int]) -> None:
        """Ask durably that these jobs be removed.

        :raises OSError: the request cannot be written.
        """
        name = uuid.uuid4().hex
        draft = self.path / f"{NEW}{name}"
        try:
            _write(draft, json.dumps(sorted(indices)))
            draft.rename(self._requests / name)
            _sync(self._requests)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def requests(self) -> list[Path]:
        """The requests for removal.

        :raises OSError: the folder is gone.
        """
        return list(self._requests.iterdir())

    def requested(self) -> set[int]:
        """The indices of all jobs whose removal was requested."""
        return {index for path in self.requests() for index in read_request(path)}


def read_request(path: Path) -> list[int]:
    """The indices that one request for removal names; a request is complete as soon as it is seen."""
    return [int(index) for index in json.loads(path.read_text())]


def keys(spool: Path) -> list[RoundKey]:
    """The keys of all rounds in a spool, in order.

    :raises OSError: the spool cannot be read.
    """
    found = []
    if spool.is_dir():
        for entry in os.scandir(spool):
            # Slots, and folders that are being written or deleted.
            with contextlib.suppress(ValueError):
                found.append(RoundKey.parse(entry.name))
    return sorted(found)


def marked_rounds(spool: Path) -> dict[RoundKey, set[str]]:
    """The marks that processes of this machine carry now, by round of this spool; the round itself may be gone."""
    found: dict[RoundKey, set[str]] = {}
    for mark in set(all_marked().values()):
        path = Path(mark.split(":", 2)[-1])
        if path.parent == spool:
            with contextlib.suppress(ValueError):
                found.setdefault(RoundKey.parse(path.name), set()).add(mark)
    return found


def forget(path: Path) -> None:
    """Delete a round's folder; to others it is gone at once.

    :raises OSError: it cannot be deleted.
    """
    grave = path.with_name(FORGOTTEN + uuid.uuid4().hex)
    path.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)
    for entry in path.parent.iterdir():
        if entry.name.startswith((NEW, FORGOTTEN)):
            # What somebody left who died over it; an hour is more than anybody needs to write or delete a folder.
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > _STALE:
                    shutil.rmtree(entry, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def check(jobs: Sequence[JobSubmission]) -> None:
    """Refuse what no process could ever be started with.

    :raises BackendError: two jobs have one index, or a command or a variable is impossible.
    :raises SubmissionRefused: a command or a variable is longer than a process may be given.
    """
    if len({job.index for job in jobs}) != len(jobs):
        raise BackendError("two jobs of a round have the same index")
    for job in jobs:
        texts = [*job.command, *job.environment.keys(), *job.environment.values()]
        if not job.command or not job.command[0]:
            raise BackendError(f"job {job.index} has an empty command")
        if any("\0" in text for text in texts):
            raise BackendError(f"the command or a variable of job {job.index} contains a null character")
        if any(not name or "=" in name for name in job.environment):
            raise BackendError(f"job {job.index} has a variable whose name is empty or contains '='")
        if job.resources.cpus < 1:
            raise BackendError(f"job {job.index} asks for {job.resources.cpus} cpus")
        if said := lengths.too_long(job.command, job.environment):
            raise SubmissionRefused(f"{said} (job {job.index})", lengths.HINT)


class _WrittenJob(TypedDict):
    index: int
    attempt: int
    command: list[str]
    environment: dict[str, str]
    folder: str
    cpus: int
    memory: int | None
    disk: int | None
    gpus: NotRequired[int]
    timeout: float | None
    products: NotRequired[list[str]]


class _Written(TypedDict):
    """A submission as JSON."""

    version: int
    token: str
    slots: int
    grace: float
    jobs: list[_WrittenJob]


def _encode(submission: Submission) -> _Written:
    return {
        "version": 1,
        "token": submission.token,
        "slots": submission.slots,
        "grace": submission.grace,
        "jobs": [
            {
                "index": job.index,
                "attempt": job.attempt,
                "command": list(job.command),
                "environment": dict(job.environment),
                "folder": str(job.folder.absolute()),
                "cpus": job.resources.cpus,
                "memory": job.resources.memory,
                "disk": job.resources.disk,
                "gpus": job.resources.gpus,
                "timeout": job.timeout,
                "products": list(job.products),
            }
            for job in submission.jobs
        ],
    }


def _decode(value: _Written) -> Submission:
    jobs = tuple(
        JobSubmission(
            index=job["index"],
            attempt=job["attempt"],
            command=tuple(job["command"]),
            environment=job["environment"],
            folder=Path(job["folder"]),
            resources=Resources(job["cpus"], job["memory"], job["disk"], job.get("gpus", 0)),
            timeout=job["timeout"],
            products=tuple(job.get("products", ())),
        )
        for job in value["jobs"]
    )
    return Submission(value["token"], value["slots"], value["grace"], jobs)
