"""The folder of one round in the spool.

::

    spool/kubernetes/<connection>/<key of the round>/
        round.json        its Jobs as they are created, and which index of which is which attempt of which job
        start.sh          what every pod runs, where the image has a shell
        <part>/items/     lines for the jobs of one Job, in order
        <part>/records/   what pods tell: of each index that it has begun, and how it ended
        events.jsonl      what was seen, by whoever held the lock
        lock              flocked while somebody looks
        tried             a Job may have been created
        submitted         all Jobs are created: their uids, and what the server warned of
        ends.json         what was decided about indexes whose pods were to be removed, before they were
        removed/          a file for each index that is not to run
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.kubernetes import starting
from airflow_calib_provider.backends.left import write_durably
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError


class Created(TypedDict):
    """A Job as it was created: its uid, and what the server warned of."""

    uid: str
    warnings: list[str]


class End(TypedDict):
    """What was decided about an index before its pod was removed."""

    state: str
    reason: str
    failure: str | None


ALL = "*"
"""In place of an index: all of them."""


@dataclass(frozen=True)
class Part:
    """One Job of a round, and the attempts that its indexes are.

    :ivar number: its place among the Jobs of the round.
    :ivar name: of the Job.
    :ivar jobs: (job, attempt, folder) by index.
    :ivar timeout: of each, in seconds.
    """

    number: int
    name: str
    jobs: Sequence[tuple[int, int, Path]]
    timeout: float | None = None

    def indexes_of(self, jobs: Iterable[int]) -> list[int]:
        """The indexes of these jobs."""
        wanted = set(jobs)
        return [n for n, (job, _, _) in enumerate(self.jobs) if job in wanted]


@dataclass(frozen=True)
class Plan:
    """What was submitted, or is to be.

    :ivar namespace: where.
    :ivar start_within: seconds in which a pod must start on its node.
    :ivar host: the API server.
    """

    parts: Sequence[Part]
    manifests: Sequence[Mapping[str, Any]]
    namespace: str
    start_within: float
    host: str = ""


@dataclass(frozen=True)
class RoundFolder:
    """Paths and content of a round's folder.

    :ivar path: ``spool/kubernetes/<connection>/<key>``.
    """

    path: Path

    @property
    def events(self) -> Path:
        """What was seen: an event a line."""
        return self.path / "events.jsonl"

    def records(self, part: int) -> Path:
        """Where the pods of a Job leave their records."""
        return self.path / str(part) / "records"

    # Submission

    def prepare(self, plan: Plan, jobs: Sequence[Sequence[JobSubmission]], *, shell: bool) -> None:
        """Write all that a submission needs, at once, or find that it is there.

        :param jobs: of each part, as the pods are to have them.
        :param shell: whether a shell starts them.
        :raises OSError: it cannot be written; then nothing is left of it.
        :raises SubmissionRefused: a job is too long to be passed on.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = RoundFolder(self.path.with_name(f".new-{uuid.uuid4().hex}"))
        try:
            new.path.mkdir()
            (new.path / "removed").mkdir()
            for part, submissions in zip(plan.parts, jobs, strict=True):
                new.records(part.number).mkdir(parents=True)
                items = new.path / str(part.number) / "items"
                items.mkdir()
                for number, text in enumerate(starting.items(submissions, shell=shell)):
                    (items / str(number)).write_text(text)
            if shell:
                (new.path / "start.sh").write_text(starting.START_SH)
            (new.path / "lock").touch()
            created = log.event(log.CREATED, jobs=sum(len(part.jobs) for part in plan.parts))
            new.events.write_text(json.dumps(created) + "\n")
            write_durably(new.path / "round.json", json.dumps(_written(plan)))
            new.path.rename(self.path)
        except BaseException as error:
            shutil.rmtree(new.path, ignore_errors=True)
            # Somebody else's folder of the same round: one with content is never replaced by a rename.
            if not (isinstance(error, OSError) and self.path.is_dir()):
                raise

    def plan(self) -> Plan:
        """:raises BackendError: the file is damaged."""
        try:
            return _read(json.loads((self.path / "round.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged("round.json", error) from error

    def submitted(self) -> Mapping[str, Created] | None:
        """Its Jobs by name; ``None`` if they are not known to be created.

        :raises BackendError: the file is damaged.
        """
        try:
            found: dict[str, Created] = json.loads((self.path / "submitted").read_text())
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self.damaged("submitted", error) from error

    def submitted_at(self) -> float:
        """When it was submitted, in seconds since 1970; 0 if it was not."""
        with contextlib.suppress(OSError):
            return (self.path / "submitted").stat().st_mtime
        return 0.0

    def note_submitted(self, jobs: Mapping[str, Created]) -> None:
        """:raises OSError: it cannot be written."""
        write_durably(self.path / "submitted", json.dumps(jobs))

    def age(self) -> float:
        """Seconds since it was prepared.

        :raises OSError: it is not there.
        """
        return time.time() - (self.path / "round.json").stat().st_mtime

    def tried(self) -> bool:
        """Whether a Job may have been created."""
        return (self.path / "tried").exists()

    def note_tried(self) -> None:
        """:raises OSError: it cannot be written."""
        write_durably(self.path / "tried", "")

    # What is known

    @contextlib.contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[bool]:
        """Hold the round's lock if it is free, or when it is; yields whether it is held.

        :raises OSError: there is no such round, or its lock may not be used.
        """
        file = os.open(self.path / "lock", os.O_RDWR)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(file)

    def ends(self) -> dict[str, End]:
        """``part.index`` → what was decided, with :data:`ALL` as index for what was decided of all.

        :raises BackendError: the file is damaged.
        """
        try:
            found: dict[str, End] = json.loads((self.path / "ends.json").read_text())
            return found
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self.damaged("ends.json", error) from error

    def decide(self, part: int, indexes: Iterable[int] | None, end: End) -> None:
        """Remember how these indexes (all without a list) end, and that they are not to run; the first word stays.

        :raises OSError: it cannot be written.
        """
        names = [f"{part}.{ALL}"] if indexes is None else [f"{part}.{n}" for n in indexes]
        known = self.ends()
        write_durably(self.path / "ends.json", json.dumps({**dict.fromkeys(names, end), **known}))
        if indexes is not None:
            for name in names:
                (self.path / "removed" / name).touch()

    def delete(self) -> None:
        """:raises OSError: it cannot be deleted."""
        doomed = self.path.with_name(f".forgotten-{uuid.uuid4().hex}")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)

    def damaged(self, name: str, error: Exception) -> BackendError:
        """What to say of a file that is not what it should be."""
        return BackendError(
            f"{self.path / name} is damaged ({error!r})",
            f"delete the Jobs of the round and move {self.path} out of the spool; then it is unknown to the backend",
        )


def _written(plan: Plan) -> dict[str, Any]:
    folders = [str(folder) for part in plan.parts for _, _, folder in part.jobs]
    root = os.path.commonpath({folder.rpartition("/")[0] or "/" for folder in folders}) if folders else "/"
    below = len(root) if root.endswith("/") else len(root) + 1
    parts = [
        {
            "name": part.name,
            "jobs": [(job, attempt, str(folder)[below:]) for job, attempt, folder in part.jobs],
            "timeout": part.timeout,
        }
        for part in plan.parts
    ]
    return {
        "root": root,
        "parts": parts,
        "manifests": list(plan.manifests),
        "namespace": plan.namespace,
        "start_within": plan.start_within,
        "host": plan.host,
    }


def _read(content: Mapping[str, Any]) -> Plan:
    root = Path(content["root"])
    parts = [
        Part(number, str(part["name"]), [(int(a), int(b), root / c) for a, b, c in part["jobs"]], part["timeout"])
        for number, part in enumerate(content["parts"])
    ]
    return Plan(
        parts, content["manifests"], str(content["namespace"]), float(content["start_within"]), str(content["host"])
    )
