"""What is known of a round from look to look: nothing that a restart could not read again from the round's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.kubernetes import records
from airflow_calib_provider.backends.kubernetes.classify import Ending, by_record
from airflow_calib_provider.backends.kubernetes.folder import ALL, End, Part, Plan, RoundFolder
from airflow_calib_provider.backends.kubernetes.records import PodRecord
from airflow_calib_provider.backends.kubernetes.starting import BEGUN
from airflow_calib_provider.domain.observation import AttemptState, FailureClass

NEVER = float("-inf")


@dataclass
class PartState:
    """What is known of one Job.

    :ivar uid: of the Job as it was created.
    :ivar warnings: what the server said then.
    :ivar begun: index → pod of those that have begun.
    :ivar running_since: index → when that was seen, in seconds since 1970, of those that have not ended.
    :ivar ended: the indexes whose end is on record.
    :ivar unclear: indexes whose own record does not say it all.
    :ivar unexplained: failed index → when that was first seen (monotonic), as long as nothing says why.
    :ivar waiting_since: since when pods wait, or none can be made (monotonic).
    :ivar told: index → why it waits, as it was last told, and when (monotonic).
    :ivar asked: question → when it was asked last (monotonic).
    """

    part: Part
    uid: str
    warnings: Sequence[str]
    listing: records.Listing
    begun: dict[int, str] = field(default_factory=dict)
    running_since: dict[int, float] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    unclear: set[int] = field(default_factory=set)
    unexplained: dict[int, float] = field(default_factory=dict)
    waiting_since: float | None = None
    told: dict[int, tuple[str, float]] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether an index has not ended."""
        return len(self.ended) < len(self.part.jobs)

    def due(self, question: str, now: float, pause: float) -> bool:
        """Whether this may be asked again; if so, it is taken as asked now."""
        if now - self.asked.get(question, NEVER) < pause:
            return False
        self.asked[question] = now
        return True

    # Events, as the round's log has them

    def event(self, n: int, state: AttemptState, **values: object) -> log.LogEvent:
        """An event of the job of an index."""
        job, attempt, _ = self.part.jobs[n]
        return log.event(state.value, index=job, attempt=attempt, **values)

    def end(self, n: int, ending: Ending, record: PodRecord | None, host: str | None = None) -> log.LogEvent:
        """The event of an end; the index has ended then."""
        self.ended.add(n)
        self.unclear.discard(n)
        self.unexplained.pop(n, None)
        # Clocks of machines differ: what was seen is never before what it tells of.
        last = record.end or record.start if record else None
        now = datetime.now(UTC)
        made = self.event(
            n,
            ending.state,
            exit_code=ending.exit_code,
            signal=ending.signal,
            host=(record.host if record else host) or None,
            start=record.start if record else None,
            end=last or now,
            reason=ending.reason,
            failure=ending.failure.value if ending.failure else None,
            memory=record.memory if record else None,
        )
        if last is not None and last > now:
            made["at"] = last.isoformat()
        return made

    def from_records(self) -> Iterator[log.LogEvent]:
        """What the pods themselves tell that is not on record yet.

        :raises OSError: their folder cannot be read.
        """
        begun: list[tuple[int, str]] = []
        ended: set[int] = set()
        for n, pod, kind in self.listing.names():
            if n >= len(self.part.jobs) or n in self.ended:
                continue
            if kind != BEGUN:
                ended.add(n)
            elif self.begun.get(n) != pod:
                begun.append((n, pod))
        # That it was started again is told, also where it has ended since.
        again = [(n, pod) for n, pod in begun if n in self.begun]
        for n, pod in again:
            yield from self._begun(n, pod)
        for n in sorted(ended):
            if n not in self.unclear and (event := self._ended(n)) is not None:
                yield event
        for n, pod in begun:
            if n not in self.ended and (n, pod) not in again:
                yield from self._begun(n, pod)

    def _ended(self, n: int) -> log.LogEvent | None:
        record = records.ended(self.listing.folder, n)
        if record is None:
            return None
        ending = by_record(record, self.part.jobs[n][2], self.part.timeout)
        if ending is None:
            self.unclear.add(n)
            return None
        return self.end(n, ending, record)

    def _order(self, n: int, begun: PodRecord) -> tuple[datetime, int]:
        # A shell knows whole seconds, and a fast cluster starts a pod twice in one.
        return begun.start, self.listing.written(n, begun.pod)

    def _begun(self, n: int, pod: str) -> Iterator[log.LogEvent]:
        record = records.read(self.listing.file(n, pod))
        if record is None or record.pod != pod:
            return
        if n in self.begun:
            before = records.read(self.listing.file(n, self.begun[n]))
            if before is not None and self._order(n, before) >= self._order(n, record):
                return
            reason = "the cluster has started it again"
            yield self.event(n, AttemptState.EVICTED, reason=reason, failure=FailureClass.LOST.value)
            self.unclear.discard(n)
        self.begun[n] = pod
        yield self.event(n, AttemptState.RUNNING, host=record.host, start=record.start, pod=pod)


@dataclass
class RoundState:
    """What is known of a round.

    :ivar looked_at: when it was last looked at (monotonic).
    :ivar read: how many bytes of its log are in here.
    :ivar trouble: what kept the cluster from being asked about it, when that was tried last.
    """

    folder: RoundFolder
    parts: list[PartState]
    submitted_at: float
    plan: Plan
    looked_at: float
    read: int = 0
    trouble: str = ""
    _places: dict[int, tuple[PartState, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: RoundFolder, now: float) -> RoundState | None:
        """What the folder says; ``None`` if the round is not known to be submitted.

        :raises BackendError: the folder is damaged.
        """
        jobs = folder.submitted()
        if jobs is None:
            return None
        plan = folder.plan()
        try:
            parts = [
                PartState(
                    part,
                    str(jobs[part.name]["uid"]),
                    tuple(jobs[part.name]["warnings"]),
                    records.Listing(folder.records(part.number)),
                )
                for part in plan.parts
            ]
        except (KeyError, TypeError) as error:
            raise folder.damaged("submitted", error) from error
        places = {job: (state, n) for state in parts for n, (job, _, _) in enumerate(state.part.jobs)}
        return cls(folder, parts, folder.submitted_at(), plan, now, _places=places)

    @property
    def open(self) -> bool:
        """Whether a job has not ended."""
        return any(part.open for part in self.parts)

    def catch_up(self) -> None:
        """Take in what others have written.

        :raises BackendError, OSError: the log is damaged, or cannot be read.
        """
        if self.folder.events.stat().st_size == self.read:
            return
        lines = log.read(self.folder.events, self.read)
        self.read = lines.end
        for line in lines.events:
            if not log.is_of_job(line) or line["index"] not in self._places:
                continue
            part, n = self._places[line["index"]]
            if AttemptState(line["event"]).final:
                part.ended.add(n)
                part.running_since.pop(n, None)
            elif line["event"] == AttemptState.RUNNING and "pod" in line:
                part.begun[n] = line["pod"]
                part.running_since[n] = datetime.fromisoformat(line["at"]).timestamp()

    def decided(self) -> dict[tuple[int, int | None], End]:
        """(part, index) → how what was removed ends; without an index: all of it.

        :raises BackendError: the file is damaged.
        """
        found: dict[tuple[int, int | None], End] = {}
        for name, end in self.folder.ends().items():
            part, _, n = name.partition(".")
            found[int(part), None if n == ALL else int(n)] = end
        return found


def as_ending(end: End) -> Ending:
    """A decision as an ending."""
    failure = FailureClass(end["failure"]) if end["failure"] else None
    return Ending(AttemptState(end["state"]), failure, end["reason"])


def attempt_folder(part: PartState, n: int) -> Path:
    """Where the attempt of an index writes."""
    return part.part.jobs[n][2]
