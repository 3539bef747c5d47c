"""The local backend: see :mod:`airflow_calib_provider.backends.local`."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from airflow_calib_provider import settings
from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.local import folder as folders
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.care import tend
from airflow_calib_provider.backends.local.folder import RoundFolder, Submission
from airflow_calib_provider.backends.local.processes import Host
from airflow_calib_provider.domain.observation import RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError, SettingError, SubmissionRefused

_REMOVAL_PATIENCE = 30.0


class _NotGoneError(BackendError):
    """Jobs whose removal was asked for are there still."""


class LocalBackend:
    """Runs jobs on this machine, at most ``slots`` cpus at a time over all rounds of one spool.

    :param spool: folder of the rounds; default :func:`settings.spool_folder`.
    :param slots: cpus that jobs may take together; default ``CALIB_LOCAL_SLOTS``, else the number of cpus.
    :param grace: seconds between SIGTERM and SIGKILL when a job is stopped; default ``CALIB_LOCAL_GRACE``, else 5.
    :param host: the machine, for which this one is the default; rounds of another are left alone.
    :raises BackendError: a number is impossible, or this is not Linux.
    """

    name = "local"

    def __init__(
        self,
        spool: Path | None = None,
        slots: int | None = None,
        *,
        grace: float | None = None,
        host: Host | None = None,
    ) -> None:
        self.spool = (spool or settings.spool_folder()).absolute()
        try:
            self.slots = int(settings.number("LOCAL_SLOTS")) if slots is None else slots
            self.grace = settings.number("LOCAL_GRACE") if grace is None else grace
            self.host = host or Host.here()
        except SettingError as error:
            raise BackendError(error.message, error.hint) from error
        except OSError as error:
            raise BackendError(f"the local backend needs Linux: {error}") from error
        if self.slots < 1:
            raise BackendError(f"the local backend needs at least one slot, not {self.slots}")

    def _folder(self, key: RoundKey) -> RoundFolder:
        return RoundFolder(self.spool / str(key))

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """Submit the jobs under this key, or find that they already are: the second call changes nothing.

        :param options: nothing can be said about this backend.
        :raises SubmissionRefused: they are reserved workers, and would take all of the machine.
        :raises BackendError: they cannot be submitted; nothing was.
        """
        folders.check(jobs)
        self._check_workers(key, jobs)
        folder = self._folder(key)
        try:
            if not folder.path.is_dir():
                submission = Submission(uuid.uuid4().hex, self.slots, self.grace, tuple(jobs))
                folder = RoundFolder.create(folder.path, submission, self.host)
        except OSError as error:
            hint = "is the disk full, or the folder not writable?"
            raise BackendError(f"{key} cannot be submitted to {self.spool}: {error}", hint) from error
        # The round is submitted. What fails from here on is for the next poll to repair or to report.
        with contextlib.suppress(OSError, BackendError):
            tend(folder, self.host)

    def _check_workers(self, key: RoundKey, jobs: Sequence[JobSubmission]) -> None:
        """Workers leave one slot to others (:class:`~airflow_calib_provider.backends.local.slots.WorkersSlots`)."""
        cpus = max((job.resources.cpus for job in jobs), default=1)
        if key.of_workers and cpus >= self.slots:
            said = f"a reserved worker takes {cpus} of {self.slots} slots of this machine, and one must stay for others"
            raise SubmissionRefused(said, f"reserve: false; or CALIB_LOCAL_SLOTS of at least {cpus + 1}")

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        """Look at several rounds at once; the cost of one without news is a look at its log's end and at its lock.

        :param rounds: the rounds of interest with the cursor of the last poll, ``""`` at the first.
        :returns: one entry for each round. A round that the spool does not have is finished, without observations.
        :raises BackendError: a round's folder is damaged or cannot be read.
        """
        return {key: self._poll(key, cursor) for key, cursor in rounds.items()}

    def _poll(self, key: RoundKey, cursor: str) -> RoundObservations:
        folder = self._folder(key)
        position = log.LogCursor.parse(cursor)
        events: list[log.LogEvent] = []
        try:
            with _known(folder):
                events += self._news(folder, position)
                # News that were read before the lock was found free may not be the last.
                if not position.finished and tend(folder, self.host):
                    events += self._news(folder, position)
                return RoundObservations(
                    [log.observation(line) for line in events if log.is_of_job(line)], str(position), position.finished
                )
        except OSError as error:
            raise BackendError(f"{folder.path} cannot be looked at: {error}") from error
        return RoundObservations([], cursor, finished=True)

    def _news(self, folder: RoundFolder, position: log.LogCursor) -> list[log.LogEvent]:
        if folder.events.stat().st_size == position.offset:
            return []
        lines = log.read(folder.events, position.offset)
        position.advance(lines)
        return lines.events

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        """Nothing is ever held here."""

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        """Remove these jobs (all without a list) of a round, and return when they are gone; what has ended stays.

        :raises BackendError: they were not gone after 30 s; the request stands.
        """
        self._remove(key, jobs, _REMOVAL_PATIENCE)

    def dismiss(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        """As :meth:`remove`, but what is not gone then is left to the supervisor.

        :raises BackendError: their removal could not be asked for.
        """
        with contextlib.suppress(_NotGoneError):
            self._remove(key, jobs, patience)

    def _remove(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        folder = self._folder(key)
        try:
            with _known(folder):
                known = {job.index for job in folder.submission().jobs}
                wanted = known if jobs is None else known & set(jobs)
                if not wanted <= log.Record.of(folder.events).ended:
                    folder.request_removal(wanted)
                    self._wait_until_gone(key, folder, wanted, patience)
        except OSError as error:
            raise BackendError(f"jobs of {key} cannot be removed: {error}") from error
        if jobs is None:
            self._end_what_is_left(key)

    def _end_what_is_left(self, key: RoundKey) -> None:
        """Processes of a round that has ended: whoever was to end them with it was killed."""
        marks = folders.marked_rounds(self.spool).get(key)
        if marks and not processes.kill_leftovers({}, marks):
            left = ", ".join(str(pid) for pid in processes.marked(marks))
            raise BackendError(f"processes of {key} cannot be killed: {left}", f"on host {self.host.name}")

    def _wait_until_gone(self, key: RoundKey, folder: RoundFolder, wanted: set[int], patience: float) -> None:
        deadline = time.monotonic() + patience
        offset = 0
        left = set(wanted)
        while True:
            tend(folder, self.host)
            lines = log.read(folder.events, offset)
            offset = lines.end
            seen = (log.observation(line) for line in lines.events if log.is_of_job(line))
            left -= {one.index for one in seen if one.state.final}
            if not left:
                return
            if time.monotonic() > deadline:
                raise _NotGoneError(
                    f"jobs {sorted(left)} of {key} are not gone after {patience:g} s",
                    f"see {folder.output} on host {folder.host().name}; the request stands",
                )
            time.sleep(0.05)

    def rounds(self) -> Sequence[RoundKey]:
        """All rounds of the spool that have jobs which have not ended, or of which processes live on this machine.

        :raises BackendError: the spool or a round in it cannot be read.
        """
        live: list[RoundKey] = []
        try:
            for key in folders.keys(self.spool):
                position = log.LogCursor()
                with _known(self._folder(key)):
                    self._news(self._folder(key), position)
                    if not position.finished:
                        live.append(key)
        except OSError as error:
            raise BackendError(f"the spool {self.spool} cannot be read: {error}") from error
        return sorted({*live, *folders.marked_rounds(self.spool)})

    def forget(self, key: RoundKey) -> None:
        """Delete the folder of a round whose jobs have all ended.

        :raises BackendError: jobs have not ended, or the folder cannot be deleted.
        """
        folder = self._folder(key)
        position = log.LogCursor()
        try:
            with _known(folder):
                self._news(folder, position)
                if not position.finished:
                    raise BackendError(
                        f"{key} cannot be forgotten: it has jobs that have not ended", "poll it, or remove them first"
                    )
                folders.forget(folder.path)
        except OSError as error:
            raise BackendError(f"{folder.path} cannot be deleted: {error}") from error


@contextlib.contextmanager
def _known(folder: RoundFolder) -> Iterator[None]:
    """Leave the block if the round's folder is not there, or is forgotten by somebody meanwhile."""
    try:
        yield
    except FileNotFoundError:
        if folder.path.is_dir():
            raise
    except BackendError as error:
        # A file that vanished together with its folder looks like a damaged one.
        if folder.path.is_dir() or not isinstance(error.__cause__, FileNotFoundError):
            raise
