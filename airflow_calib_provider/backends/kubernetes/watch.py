"""The one reader of all rounds of a connection in a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.kubernetes import numbering
from airflow_calib_provider.backends.kubernetes.client import Api, Object
from airflow_calib_provider.backends.kubernetes.folder import RoundFolder
from airflow_calib_provider.backends.kubernetes.state import RoundState
from airflow_calib_provider.backends.kubernetes.survey import Survey, of_installation
from airflow_calib_provider.backends.log import LogCursor
from airflow_calib_provider.domain.observation import RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.settings import installation_id, number

_REMEMBERED = 3600.0
"""Seconds for which a round is remembered that is not looked at."""

_ABSENT = 15.0
"""Seconds for which it is not asked again for a round without a folder."""


@dataclass
class _Look:
    folder: RoundFolder
    cursor: LogCursor
    state: RoundState | None = None


class JobWatch:
    """Looks at rounds: at the records of their pods always, at the cluster every few seconds, for all of them at once.

    What is new is written into the round's log by whoever holds its lock, and told from there: any number of processes
    may look, each tells the same, and after a restart it is told again.
    """

    def __init__(self, connection: str, api: Api) -> None:
        self._connection = numbering.connection_label(connection)
        self._api = api
        self._rounds: dict[Path, RoundState] = {}
        self._absent: dict[RoundKey, tuple[float, str]] = {}
        self._asked = float("-inf")
        self._trouble = ""
        self._lock = threading.Lock()

    def selector(self) -> str:
        """What labels the Jobs of this installation on this connection have.

        :raises BackendError: the installation has no name yet, and none can be written.
        """
        return f"{numbering.INSTALLATION}={self.installation()},{numbering.CONNECTION}={self._connection}"

    def installation(self) -> str:
        """What tells the Jobs of this installation from those of others.

        :raises BackendError: it has no name yet, and none can be written.
        """
        try:
            return installation_id()
        except OSError as error:
            raise BackendError(f"the name of this installation cannot be read: {error}") from error

    def look(self, wanted: Mapping[RoundKey, tuple[RoundFolder, LogCursor]]) -> dict[RoundKey, RoundObservations]:
        """Say what is new of these rounds.

        :param wanted: each round's folder, and how far its news were told.
        :raises BackendError: a round's folder is damaged, or cannot be looked at.
        """
        now = time.monotonic()
        with self._lock:
            looks = {key: _Look(folder, cursor) for key, (folder, cursor) in wanted.items()}
            for look in looks.values():
                if not look.cursor.finished:
                    look.state = self._state(look.folder, now)
            jobs = self._jobs(looks, now)
            for look in looks.values():
                if look.state is not None and look.state.open:
                    self._advance(look, look.state, jobs, now)
            absent = {key: one for key, one in looks.items() if one.state is None and not one.cursor.finished}
            told = self._without_folder(absent, now)
            self._rounds = {path: one for path, one in self._rounds.items() if now - one.looked_at < _REMEMBERED}
            return told | {key: self._tell(one) for key, one in looks.items() if key not in told}

    def _state(self, folder: RoundFolder, now: float) -> RoundState | None:
        known = self._rounds.get(folder.path)
        if known is not None and not folder.path.is_dir():
            del self._rounds[folder.path]
            return None
        if known is None:
            known = RoundState.of(folder, now) if folder.path.is_dir() else None
            if known is None:
                return None
            self._rounds[folder.path] = known
        known.looked_at = now
        with _known(folder):
            known.catch_up()
        return known

    def _jobs(self, looks: Mapping[RoundKey, _Look], now: float) -> dict[str, Object] | None:
        """All Jobs of the connection, if it is time to ask; ``None``: it is not, or there is no answer."""
        if now - self._asked < number("KUBERNETES_INTERVAL"):
            return None
        if not any(one.state is not None and one.state.open for one in looks.values()):
            return None
        self._asked = now
        self._trouble = ""
        try:
            return of_installation(self._api, self.selector())
        except BackendError as error:
            self._trouble = str(error)
        return None

    def _advance(self, look: _Look, state: RoundState, jobs: Mapping[str, Object] | None, now: float) -> None:
        """Write what is new into the round's log, unless somebody else does."""
        with _known(look.folder), look.folder.lock() as free:
            if not free:
                return
            state.catch_up()
            events: list[log.LogEvent] = []
            try:
                for part in state.parts:
                    if part.open:
                        events += part.from_records()
                if jobs is not None:
                    state.trouble = ""
                    decided = state.decided()
                    for part in state.parts:
                        survey = Survey(self._api, state, part, decided, now)
                        events += survey.news(jobs.get(part.part.name))
            except BackendError as error:
                state.trouble = str(error)
            finally:
                try:
                    append(state, events)
                except OSError:
                    # What could not be written is not known: it is seen again.
                    self._rounds.pop(look.folder.path, None)
                    raise

    def _tell(self, look: _Look) -> RoundObservations:
        cursor = look.cursor
        if look.state is None or (look.state.read == cursor.offset and cursor.finished):
            return RoundObservations([], str(cursor), cursor.finished)
        with _known(look.folder):
            lines = log.read(look.folder.events, cursor.offset)
            cursor.advance(lines)
            seen = [log.observation(line) for line in lines.events if log.is_of_job(line)]
            trouble = "" if cursor.finished else self._trouble or look.state.trouble
            return RoundObservations(seen, str(cursor), cursor.finished, trouble)
        return RoundObservations([], str(cursor), finished=False)

    def _without_folder(self, absent: Mapping[RoundKey, _Look], now: float) -> dict[RoundKey, RoundObservations]:
        """Say of rounds that the spool does not have that they are over, unless the cluster has Jobs of them.

        A spool may be away for a while, as a file system that is not mounted, and what runs must not be submitted again
        meanwhile.
        """
        due = [key for key in absent if now >= self._absent.get(key, (0.0, ""))[0]]
        if due:
            self._absent = {key: one for key, one in self._absent.items() if now < one[0]}
            found, trouble = self._found(due)
            for key in due:
                gone = f"{absent[key].folder.path} is gone, or empty, though Jobs of it are there: bring it back"
                self._absent[key] = now + _ABSENT, trouble or (gone if key in found else "")
        return {
            key: RoundObservations([], str(look.cursor), finished=not said, trouble=said)
            for key, look in absent.items()
            for said in [self._absent[key][1]]
        }

    def _found(self, keys: list[RoundKey]) -> tuple[set[RoundKey], str]:
        try:
            installation = self.installation()
            digests = {numbering.digest(installation, key): key for key in keys}
            selector = f"{self.selector()},{numbering.one_of(numbering.ROUND, digests)}"
            jobs = of_installation(self._api, selector).values()
            return {digests[job["metadata"]["labels"][numbering.ROUND]] for job in jobs}, ""
        except BackendError as error:
            return set(), str(error)


def append(state: RoundState, events: list[log.LogEvent]) -> None:
    """Write events into a round's log, for who holds its lock.

    :raises OSError: they cannot be written, and what is known of the round is to be read again.
    """
    if not events:
        return
    writer = log.Writer(state.folder.events)
    try:
        for event in events:
            writer.write(event)
        writer.sync()
    finally:
        writer.close()
    state.catch_up()


@contextmanager
def _known(folder: RoundFolder) -> Iterator[None]:
    """Leave the block if the round's folder is not there, or is forgotten by somebody meanwhile.

    :raises BackendError: it is there, and cannot be looked at.
    """
    try:
        yield
    except OSError as error:
        if folder.path.is_dir() or not isinstance(error, FileNotFoundError):
            raise BackendError(f"{folder.path} cannot be looked at: {error}") from error
