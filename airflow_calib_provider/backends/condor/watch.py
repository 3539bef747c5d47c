"""The one reader of all rounds of a connection in a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_calib_provider.backends.condor import eventlog, outcomes, submission, survey
from airflow_calib_provider.backends.condor.cursor import Cursor
from airflow_calib_provider.backends.condor.folder import Procs, RoundFolder
from airflow_calib_provider.backends.condor.helper import Helper
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.domain.observation import Observation, RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.settings import number

_LATE_LOG = 10.0
"""Seconds after the submission within which an event log need not be there yet."""


_REMEMBERED = 3600.0
"""Seconds for which a round is remembered that is not looked at."""


@dataclass
class _Round:
    """What is remembered of a round from look to look; nothing of it is needed after a restart.

    :ivar quiet_since: when there was news, or the schedd was asked, last (monotonic).
    :ivar looked_at: when it was looked at last (monotonic).
    :ivar distrusted: whether its event log failed once.
    """

    cluster: int
    procs: Procs
    submitted_at: float
    quiet_since: float
    looked_at: float
    missing_since: float | None = None
    distrusted: bool = False
    idle: bool = True
    removed: set[int] = field(default_factory=set)
    to_remove: set[int] = field(default_factory=set)


@dataclass
class _Look:
    """One look at one round."""

    folder: RoundFolder
    cursor: Cursor
    known: _Round
    news: eventlog.News
    trouble: str = ""


class Watch:
    """Looks at rounds: at event logs always, at the schedd where they do not suffice."""

    def __init__(self, settings: CondorSettings, helper: Helper) -> None:
        self._settings = settings
        self._helper = helper
        self._rounds: dict[RoundKey, _Round] = {}
        self._reasons = survey.IdleReasons()
        self._absent: dict[RoundKey, tuple[float, str]] = {}
        """Until when it need not be asked again for rounds without a folder, and what is wrong with them."""
        self._lock = threading.Lock()

    def look(self, wanted: Mapping[RoundKey, tuple[RoundFolder, Cursor]]) -> dict[RoundKey, RoundObservations]:
        """Say what is new of these rounds.

        :param wanted: each round's folder, and how far its news were told.
        :raises BackendError: a round's folder is damaged.
        """
        with self._lock:
            looks: dict[RoundKey, _Look] = {}
            unknown: dict[RoundKey, tuple[RoundFolder, Cursor]] = {}
            for key, (folder, cursor) in wanted.items():
                known = self._known(key, folder)
                if known is None:
                    unknown[key] = folder, cursor
                else:
                    looks[key] = _Look(folder, cursor, known, self._read(folder, cursor, known))
            told = self._without_folder(unknown)
            self._ask(looks)
            self._remove_late(looks)
            self._forget_others()
            return {**told, **{key: self._tell(key, one) for key, one in looks.items()}}

    def ask_soon(self, key: RoundKey) -> None:
        """Let the next look ask the schedd about a round, where no event log tells what becomes of its jobs."""
        known = self._rounds.get(key)
        if known is not None and (known.distrusted or not self._settings.event_log):
            known.quiet_since = float("-inf")

    def _known(self, key: RoundKey, folder: RoundFolder) -> _Round | None:
        if not folder.path.is_dir():
            self._rounds.pop(key, None)
            return None
        known = self._rounds.get(key)
        if known is None:
            cluster = folder.cluster()
            if cluster is None:
                return None
            try:
                at = folder.submitted_at()
            except OSError as error:
                raise BackendError(f"{folder.path} cannot be looked at: {error}") from error
            known = _Round(cluster, folder.procs(), at, time.monotonic(), time.monotonic())
            self._rounds[key] = known
        known.looked_at = time.monotonic()
        return known

    def _forget_others(self) -> None:
        """A round whose generation was ended without it is never asked about again."""
        before = time.monotonic() - _REMEMBERED
        self._rounds = {key: known for key, known in self._rounds.items() if known.looked_at > before}

    def _without_folder(
        self, unknown: Mapping[RoundKey, tuple[RoundFolder, Cursor]]
    ) -> dict[RoundKey, RoundObservations]:
        """Say of rounds that the spool does not have that they are over, unless the queue has jobs of them.

        A spool may be away for a while, as a file system that is not mounted, and what runs must not be submitted again
        meanwhile.
        """
        due = {key: folder for key, (folder, _) in unknown.items() if self._trouble_of(key) is None}
        if due:
            self._look_for(due)
        return {
            key: RoundObservations([], str(cursor), finished=not said, trouble=said)
            for key, (_, cursor) in unknown.items()
            if (said := self._trouble_of(key)) is not None
        }

    def _trouble_of(self, key: RoundKey) -> str | None:
        until, said = self._absent.get(key, (0.0, ""))
        return said if time.monotonic() < until else None

    def _look_for(self, absent: Mapping[RoundKey, RoundFolder]) -> None:
        wanted = " || ".join(f"({submission.this_round(key, folder.path.parent)})" for key, folder in absent.items())
        found, trouble = set(), ""
        try:
            found = set(self._helper.call("rounds", constraint=wanted))
        except BackendError as error:
            trouble = str(error)
        until = time.monotonic() + self._settings.query_interval
        self._absent = {key: one for key, one in self._absent.items() if time.monotonic() < one[0]}
        for key, folder in absent.items():
            said = trouble
            if str(key) in found:
                said = f"{folder.path} is gone, or empty, though jobs of it are in the queue: bring it back"
            self._absent[key] = until, said

    # The event log

    def _read(self, folder: RoundFolder, cursor: Cursor, known: _Round) -> eventlog.News:
        if len(cursor.ended) == len(known.procs):
            return eventlog.News()
        if not self._settings.event_log:
            return eventlog.News(doubt="the connection has no event log")
        news = eventlog.read(folder.log, cursor, known.procs)
        if news.missing and not cursor.offset and time.time() - known.submitted_at < _LATE_LOG:
            news.doubt = ""
        known.distrusted |= bool(news.doubt)
        if news.observations or news.materialized:
            known.missing_since = None
            if not known.distrusted:
                # Else what it tells of some jobs says nothing about the others.
                known.quiet_since = time.monotonic()
        # Whoever removes them may be another process.
        removed = set(folder.removed())
        known.to_remove |= (removed - known.removed) | (removed & set(news.materialized))
        known.removed = removed
        self._never_to_come(cursor, known, news)
        return news

    @staticmethod
    def _never_to_come(cursor: Cursor, known: _Round, news: eventlog.News) -> None:
        """Jobs that were removed before they were materialized have no event of their own."""
        # Those that were materialized have an event, or the schedd knows what became of them.
        never = () if news.gone_after is None else range(news.gone_after, len(known.procs))
        candidates = sorted({*known.removed, *never})
        if not candidates:
            return
        now = datetime.now(UTC)
        for proc in candidates:
            if proc not in cursor.ended:
                reason = "removed before it was materialized"
                news.observations.append(outcomes.removed(known.procs[proc], now, reason))
                cursor.ended.add(proc)

    # The schedd

    def _ask(self, looks: Mapping[RoundKey, _Look]) -> None:
        """Ask about all rounds that have been quiet for some time, if one of them for long enough."""
        now = time.monotonic()
        open_looks = {key: one for key, one in looks.items() if len(one.cursor.ended) < len(one.known.procs)}
        if not any(now - one.known.quiet_since >= self._interval(one) for one in open_looks.values()):
            return
        asked = {key: one for key, one in open_looks.items() if now - one.known.quiet_since >= self._interval(one) / 2}
        subjects = {
            key: survey.SurveyedRound(
                key,
                one.known.cluster,
                one.known.procs,
                one.cursor,
                one.known.submitted_at,
                trusted=self._settings.event_log and not one.known.distrusted,
            )
            for key, one in asked.items()
        }
        trouble = ""
        try:
            survey.ask(self._helper, list(subjects.values()), self._reasons, now)
        except BackendError as error:
            trouble = str(error)
        for key, one in asked.items():
            subject = subjects[key]
            one.trouble = trouble or one.trouble
            one.news.observations += subject.observations
            if not trouble:
                one.known.quiet_since = now
                one.known.idle = subject.idle
                one.news.paused = subject.paused or one.news.paused
                self._missing(one, subject, now)

    def _interval(self, one: _Look) -> float:
        if one.news.doubt or one.known.distrusted:
            return self._settings.query_interval
        verify = number("CONDOR_VERIFY_INTERVAL")
        return verify if one.known.idle else 5 * verify

    def _missing(self, one: _Look, subject: survey.SurveyedRound, now: float) -> None:
        if not subject.missing:
            one.known.missing_since = None
        elif one.known.missing_since is None:
            one.known.missing_since = now
            # To be asked again soon.
            one.known.quiet_since = now - self._interval(one) + survey.SETTLE
        elif now - one.known.missing_since >= survey.SETTLE:
            before = len(subject.observations)
            try:
                one.folder.check_schedd(self._helper.call("schedd_name"))
            except BackendError as error:
                one.trouble = str(error)
                return
            survey.declare_lost(subject)
            one.news.observations += subject.observations[before:]

    def _remove_late(self, looks: Mapping[RoundKey, _Look]) -> None:
        for key, one in looks.items():
            if not one.known.to_remove:
                continue
            procs = sorted(one.known.to_remove)
            within, cluster = submission.this_key(key), one.known.cluster
            try:
                self._helper.call(
                    "act", action="remove", cluster=cluster, procs=procs, reason="removed by calib", within=within
                )
                one.known.to_remove.clear()
            except BackendError as error:
                one.trouble = str(error)

    def _tell(self, key: RoundKey, one: _Look) -> RoundObservations:
        finished = len(one.cursor.ended) == len(one.known.procs)
        trouble = one.trouble
        if one.news.paused:
            trouble = (
                trouble or f"the schedd does not materialize the jobs of cluster {one.known.cluster}: {one.news.paused}"
            )
        if finished and not one.known.to_remove:
            self._rounds.pop(key, None)
        observations: list[Observation] = one.news.observations
        return RoundObservations(observations, str(one.cursor), finished, trouble)
