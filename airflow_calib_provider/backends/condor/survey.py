"""What the schedd knows of rounds that their event logs do not explain: asked for all of a connection at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_calib_provider.backends.condor import outcomes
from airflow_calib_provider.backends.condor.calls import Ad, of_round
from airflow_calib_provider.backends.condor.cursor import Cursor
from airflow_calib_provider.backends.condor.folder import Procs
from airflow_calib_provider.backends.condor.helper import Helper
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError

_PAUSED = ("JobMaterializePaused", "JobFactoryPaused")

SETTLE = 5.0
"""Seconds for which queue, history and event log may each not yet know what another one knows already."""


@dataclass
class SurveyedRound:
    """A round that is asked about.

    :ivar trusted: whether its event log is complete as far as it goes.
    :ivar observations: what the schedd says; to be told after the log's.
    :ivar paused: why the schedd does not materialize its jobs.
    :ivar idle: whether jobs are waiting for a machine.
    """

    key: RoundKey
    cluster: int
    procs: Procs
    cursor: Cursor
    submitted_at: float
    trusted: bool
    observations: list[Observation] = field(default_factory=list)
    paused: str = ""
    idle: bool = False
    missing: list[int] = field(default_factory=list)


def ask(helper: Helper, subjects: Sequence[SurveyedRound], reasons: IdleReasons, now: float) -> None:
    """One query for the queue, and one for the history if jobs are in it no more.

    :param now: of a monotonic clock.
    :raises BackendError: the schedd does not answer.
    """
    ads: list[Ad] = helper.call("query", clusters=[one.cluster for one in subjects])
    by_cluster: dict[int, list[Ad]] = defaultdict(list)
    for ad in ads:
        by_cluster[int(ad["ClusterId"])].append(ad)
    idle = []
    for one in subjects:
        own = of_round(by_cluster[one.cluster], one.key)
        _from_queue(one, own, reasons.known(one.key))
        if (proc := _first_idle(one, own)) is not None:
            idle.append((one, proc))
    reasons.update(helper, idle, now)
    gone = [one for one in subjects if one.missing]
    if gone:
        since = min(one.submitted_at for one in gone)
        past: list[Ad] = helper.call("history", procs=[(one.cluster, one.missing) for one in gone], since=since)
        of_proc = {(str(ad.get("CalibRound")), int(ad["ClusterId"]), int(ad.get("ProcId", -1))): ad for ad in past}
        for one in gone:
            _from_history(one, of_proc)


def _from_queue(one: SurveyedRound, ads: Sequence[Ad], idle_reason: str) -> None:
    now = datetime.now(UTC)
    jobs = {int(ad["ProcId"]): ad for ad in ads if "ProcId" in ad and int(ad["ProcId"]) >= 0}
    of_cluster = next((ad for ad in ads if int(ad.get("ProcId", -1)) < 0), None)
    following = int(of_cluster.get("JobMaterializeNextProcId", 0)) if of_cluster is not None else len(one.procs)
    if of_cluster is not None and following < len(one.procs) and any(int(of_cluster.get(name, 0)) for name in _PAUSED):
        one.paused = str(of_cluster.get("JobMaterializePauseReason", "") or "no reason given")
    for number in range(len(one.procs)):
        if number in one.cursor.ended:
            continue
        ad = jobs.get(number)
        if ad is None:
            if number < following:
                one.missing.append(number)
            continue
        seen = outcomes.from_ad(one.procs[number], ad, now)
        if seen is None:
            continue
        if seen.state is AttemptState.SUBMITTED:
            one.idle = True
            seen = _idle(seen, ad, idle_reason, trusted=one.trusted)
        _tell(one, number, seen)


def _idle(seen: Observation, ad: Ad, reason: str, *, trusted: bool) -> Observation:
    # Without a log, that it ran before is all that tells of an eviction.
    again = not trusted and int(ad.get("JobRunCount", 0)) > 0
    state = AttemptState.EVICTED if again else AttemptState.SUBMITTED
    return Observation(seen.index, seen.attempt, state, seen.at, reason=seen.reason or reason or None)


def _from_history(one: SurveyedRound, past: Mapping[tuple[str, int, int], Ad]) -> None:
    now = datetime.now(UTC)
    unknown = []
    for number in one.missing:
        ad = past.get((str(one.key), one.cluster, number))
        if ad is None:
            unknown.append(number)
        else:
            _tell(one, number, outcomes.from_history(one.procs[number], ad, now))
    one.missing = unknown


def _tell(one: SurveyedRound, number: int, seen: Observation) -> None:
    one.observations.append(seen)
    if seen.state.final:
        one.cursor.ended.add(number)


def declare_lost(one: SurveyedRound) -> None:
    """Nobody knows of these jobs, nor did a while ago."""
    now = datetime.now(UTC)
    for number in one.missing:
        proc = one.procs[number]
        reason = "neither the queue nor the history of the schedd knows of it"
        _tell(one, number, Observation(proc.index, proc.attempt, AttemptState.LOST, now, reason=reason))


def _first_idle(one: SurveyedRound, ads: Sequence[Ad]) -> int | None:
    idle = [int(ad["ProcId"]) for ad in ads if "ProcId" in ad and int(ad.get("JobStatus", 0)) == 1]
    return min(idle, default=None)


class IdleReasons:
    """Why the jobs of a round do not start: of one of them, and not asked again all the time."""

    _LASTS = 300.0
    _AT_ONCE = 5

    def __init__(self) -> None:
        self._said: dict[RoundKey, tuple[float, str]] = {}

    def known(self, key: RoundKey) -> str:
        """Why jobs of the round are idle, as it was last told; empty if it was not."""
        return self._said.get(key, (0.0, ""))[1]

    def update(self, helper: Helper, idle: Sequence[tuple[SurveyedRound, int]], now: float) -> None:
        """Ask for the rounds of which it is not known, or not lately, a few at once."""
        keys = {one.key for one, _ in idle}
        due = [(one, proc) for one, proc in idle if now - self._said.get(one.key, (-1e9, ""))[0] > self._LASTS]
        seconds = max(1, int(helper.settings.timeout / 4))
        for one, proc in due[: self._AT_ONCE]:
            try:
                told = helper.call("idle_reason", cluster=one.cluster, proc=proc, seconds=seconds)
            except BackendError:
                # The collector may be down while the schedd is up: no reason is no reason to fail.
                told = ""
            if told is None:
                # Nor is it a reason to wait as long for each of the others, or again soon.
                self._said |= {other.key: (now, self.known(other.key)) for other, _ in due}
                return
            said = str(told)
            self._said[one.key] = (now if said else now - self._LASTS + 30, said)
            one.observations = [
                Observation(seen.index, seen.attempt, seen.state, seen.at, reason=said)
                if said and seen.state is AttemptState.SUBMITTED and not seen.reason
                else seen
                for seen in one.observations
            ]
        for key in self._said.keys() - keys:
            if now - self._said[key][0] > 2 * self._LASTS:
                del self._said[key]
