"""The folder of one round in the spool: see :mod:`airflow_calib_provider.backends.condor`."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from airflow_calib_provider.backends.condor.calls import Submit
from airflow_calib_provider.backends.condor.cursor import Numbers
from airflow_calib_provider.backends.condor.outcomes import Proc
from airflow_calib_provider.backends.condor.submission import JOB_SH
from airflow_calib_provider.backends.left import write_durably
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError


class Procs(Sequence[Proc]):
    """The attempts of a round by proc, in little memory: a triggerer may watch very many."""

    def __init__(self, root: str, listed: Iterable[tuple[int, int, str]]) -> None:
        self._root = Path(root)
        self._index = array("q")
        self._attempt = array("q")
        self._names: list[str] = []
        for index, attempt, name in listed:
            self._index.append(index)
            self._attempt.append(attempt)
            self._names.append(name)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, number: int) -> Proc: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Proc]: ...
    def __getitem__(self, number: int | slice) -> Proc | Sequence[Proc]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        return Proc(number, self._index[number], self._attempt[number], self._root / self._names[number])

    def of_jobs(self, indices: Iterable[int]) -> list[int]:
        """The procs of these jobs."""
        wanted = set(indices)
        return [number for number, index in enumerate(self._index) if index in wanted]


@dataclass(frozen=True)
class RoundFolder:
    """Paths and content of a round's folder.

    :ivar path: ``spool/condor/<connection>/<key>``.
    """

    path: Path

    @property
    def log(self) -> Path:
        """HTCondor's event log of the cluster."""
        return self.path / "log"

    def prepare(self, jobs: Sequence[JobSubmission], submit: Submit, items: str) -> None:
        """Write everything that a submission needs. Doing it again changes nothing that matters.

        :param items: the lines of the item data.
        :raises OSError: it cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        folders = [str(job.folder) for job in jobs]
        # Of what they lie in, which is mostly one: every path would be taken apart for it.
        root = os.path.commonpath({folder.rpartition("/")[0] or "/" for folder in folders}) if folders else "/"
        # Not relpath, which asks for the current folder each time.
        below = len(root) if root.endswith("/") else len(root) + 1
        listed = [(job.index, job.attempt, folder[below:]) for job, folder in zip(jobs, folders, strict=True)]
        write_durably(self.path / "jobs.json", json.dumps({"root": root, "jobs": listed}))
        write_durably(self.path / "job.sh", JOB_SH, 0o755)
        self._write("items", items)
        self._write("submit.json", json.dumps(submit))

    def _write(self, name: str, text: str) -> None:
        """Write what only the submission needs, before which it is written again: a machine that dies may lose it."""
        part = self.path / f".{name}-{uuid.uuid4().hex}"
        try:
            part.write_text(text)
            part.replace(self.path / name)
        finally:
            part.unlink(missing_ok=True)

    def cluster(self) -> int | None:
        """The cluster's number; ``None`` if the round is not known to be submitted.

        :raises BackendError: the file is damaged.
        """
        try:
            return int((self.path / "cluster").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged("cluster", error) from error

    def submitted_at(self) -> float:
        """When it was submitted, in seconds since 1970.

        :raises OSError: it was not.
        """
        return (self.path / "cluster").stat().st_mtime

    def schedd(self) -> str:
        """The name of the schedd that has the cluster; empty if it is not known."""
        try:
            return (self.path / "schedd").read_text().strip()
        except OSError:
            return ""

    def check_schedd(self, asked: str) -> None:
        """:raises BackendError: the connection names another schedd by now, which knows nothing of this round."""
        submitted = self.schedd()
        if submitted and asked and submitted != asked:
            raise BackendError(
                f"the jobs of {self.path.name} are on the schedd {submitted}, and the connection leads to {asked}",
                f"let it lead back until they have ended; delete {self.path / 'schedd'} if both are the same",
            )

    def procs(self) -> Procs:
        """:raises BackendError: the list of jobs is damaged."""
        try:
            content = json.loads((self.path / "jobs.json").read_text())
            return Procs(content["root"], [(int(a), int(b), str(c)) for a, b, c in content["jobs"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged("jobs.json", error) from error

    def _damaged(self, name: str, error: Exception) -> BackendError:
        return BackendError(
            f"{self.path / name} is damaged ({error!r})",
            f"remove the round's cluster with condor_rm and move {self.path} out of the spool",
        )

    def removed(self) -> Numbers:
        """The procs whose removal was asked for before they were materialized."""
        try:
            return Numbers.parse((self.path / "removed").read_text())
        except (FileNotFoundError, ValueError):
            return Numbers()

    def note_removed(self, procs: Iterable[int]) -> None:
        """Remember that these are not to run.

        :raises OSError: that cannot be written.
        """
        noted = self.removed()
        for number in procs:
            noted.add(number)
        write_durably(self.path / "removed", str(noted))

    def delete(self) -> None:
        """:raises OSError: it cannot be deleted."""
        doomed = self.path.with_name(f".forgotten-{uuid.uuid4().hex}")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)
