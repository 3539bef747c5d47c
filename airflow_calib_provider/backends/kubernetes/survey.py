"""What the cluster says of the Jobs of a round, and of their pods where there is something new."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.kubernetes import classify, records
from airflow_calib_provider.backends.kubernetes.classify import Ending
from airflow_calib_provider.backends.kubernetes.client import Api, ApiRefusal, Object
from airflow_calib_provider.backends.kubernetes.folder import End, Plan
from airflow_calib_provider.backends.kubernetes.names import QUEUE
from airflow_calib_provider.backends.kubernetes.numbering import INDEX, JOB_NAME, indexes, one_of
from airflow_calib_provider.backends.kubernetes.records import PodRecord
from airflow_calib_provider.backends.kubernetes.state import PartState, RoundState, as_ending, attempt_folder
from airflow_calib_provider.backends.left import leave, short
from airflow_calib_provider.backends.scripts import NOT_ENTERED
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.errors import BackendError

RECORD_PATIENCE = 10.0
"""Seconds in which what a pod wrote last may not be seen here yet, on a file system that others share."""

_AT_ONCE = 200
"""Indexes that one request asks about."""

_PENDING = 50
"""Pods that are looked at to know why they wait: they are all alike."""

_LOGS, _LOGS_TIME = 3, 2.0
"""Logs of pods that are fetched in one look at a Job, and the seconds of a look in which more of them are."""

LOG_PATIENCE = 600.0
"""Seconds in which the logs of pods are fetched, over the looks that follow, before an end is told without."""

_NOT_READ = "its log was not read, as very many failed together"

_PAUSE, _EVENTS_PAUSE, _RETOLD = 15.0, 30.0, 300.0
"""Seconds between two looks at the pods that wait, at events, and between two tellings of much the same reason."""

_OVERDUE = 60.0
"""Seconds after its time limit in which a job has ended, and said so, where its node lives."""

_NOT_FOUND = 404

_SOON = 5.0
"""Seconds in which a Job gets its pods, and a pod its node and its image, where nothing is in the way."""


@dataclass
class Survey:
    """One look at one Job.

    :ivar now: monotonic.
    :ivar logs: of pods, fetched so far.
    """

    api: Api
    state: RoundState
    part: PartState
    decided: Mapping[tuple[int, int | None], End]
    now: float
    logs: int = 0

    def news(self, job: Object | None) -> Iterator[log.LogEvent]:
        """What is to be written into the round's log.

        :param job: as the list of Jobs has it; ``None``: it is not in it.
        :raises BackendError: the server does not answer.
        """
        if not self.part.open:
            return
        if job is None:
            yield from self._gone()
            return
        status = job.get("status", {})
        completed = indexes(status.get("completedIndexes", ""))
        failed = indexes(status.get("failedIndexes", ""))
        yield from self._completed(completed - self.part.ended)
        yield from self._failed(failed - self.part.ended)
        if "deletionTimestamp" in job.get("metadata", {}):
            return
        if over := classify.condition(job, "Failed") or classify.condition(job, "Complete"):
            yield from self._never_run(over, completed | failed)
            return
        yield from self._overdue()
        yield from self._waiting(job)

    # Ends

    def _completed(self, new: set[int]) -> Iterator[log.LogEvent]:
        for n in sorted(new):
            record = self._record(n)
            if record is not None or self._patience_is_over(n):
                yield self.part.end(n, Ending(AttemptState.SUCCEEDED, exit_code=0), record)

    def _failed(self, new: set[int]) -> Iterator[log.LogEvent]:
        unknown: dict[int, PodRecord | None] = {}
        for n in sorted(new):
            end = self._decided(n)
            record = self._record(n)
            if end is not None:
                yield self.part.end(n, as_ending(end), record)
            elif record is not None and (ending := self._by_record(n, record)) is not None:
                yield self.part.end(n, ending, record)
            else:
                unknown[n] = record
                self.part.unexplained.setdefault(n, self.now)
        asked = list(unknown)[:_AT_ONCE]
        if not asked:
            return
        pods = self._pods_of(asked)
        for n in asked:
            pod, record = pods.get(n), unknown[n]
            said = self._said(n, pod, record)
            if said is None:
                continue
            ending = classify.by_pod(pod, record, said, begun=n in self.part.begun)
            if ending.sure or self._patience_is_over(n):
                host = pod.get("spec", {}).get("nodeName") if pod is not None else None
                yield self.part.end(n, ending, record or self._begin(n), host)

    def _by_record(self, n: int, record: PodRecord) -> Ending | None:
        return classify.by_record(record, attempt_folder(self.part, n), self.part.part.timeout)

    def _record(self, n: int) -> PodRecord | None:
        return records.ended(self.part.listing.folder, n)

    def _begin(self, n: int) -> PodRecord | None:
        pod = self.part.begun.get(n)
        return records.read(self.part.listing.file(n, pod)) if pod else None

    def _decided(self, n: int) -> End | None:
        number = self.part.part.number
        return self.decided.get((number, n)) or self.decided.get((number, None))

    def _patience_is_over(self, n: int, patience: float | None = None) -> bool:
        since = self.part.unexplained.setdefault(n, self.now)
        return self.now - since >= (RECORD_PATIENCE if patience is None else patience)

    def _pods_of(self, asked: list[int]) -> dict[int, Object]:
        """The last pod of each of these indexes."""
        selector = f"{JOB_NAME}={self.part.part.name},{one_of(INDEX, asked)}"
        found: dict[int, Object] = {}
        for pod in self.api.items("pods", labelSelector=selector):
            n = _index(pod)
            if n not in found or _created(found[n]) <= _created(pod):
                found[n] = pod
        return found

    def _said(self, n: int, pod: Object | None, record: PodRecord | None) -> str | None:
        """The end of a pod's log, where only that says why; it is kept in place of what the job has not written.

        :returns: ``None``: this look has fetched so many logs that it is another one's turn.
        """
        if pod is None or not classify.has_run(pod) or (record is not None and record.code != NOT_ENTERED):
            return ""
        if self.logs >= _LOGS and time.monotonic() - self.now > _LOGS_TIME:
            return _NOT_READ if self._patience_is_over(n, LOG_PATIENCE) else None
        self.logs += 1
        fetched = self._log(pod)
        if fetched.strip():
            folder = attempt_folder(self.part, n)
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                leave(folder, "stderr", fetched)
        lines = fetched.strip().splitlines()
        return short(lines[-1]) if lines else ""

    def _log(self, pod: Object) -> str:
        with contextlib.suppress(ApiRefusal):  # gone, or its node is
            return self.api.text(f"pods/{pod['metadata']['name']}/log", tailLines=100, limitBytes=100_000)
        return ""

    def _never_run(self, over: Mapping[str, object], known: set[int]) -> Iterator[log.LogEvent]:
        """The Job has ended before all of its indexes have: somebody gave it a limit of its own.

        :param known: the indexes that have ended by themselves, and are told as that.
        """
        words = f"{over.get('reason', '')}: {short(str(over.get('message', '')))}"
        reason = f"its Job has ended without it: {words}".rstrip(": ")
        for n in range(len(self.part.part.jobs)):
            if n not in self.part.ended and n not in known and self._patience_is_over(n):
                record = self._record(n)
                ending = self._by_record(n, record) if record is not None else None
                lost = Ending(AttemptState.LOST, FailureClass.LOST, reason)
                yield self.part.end(n, ending or lost, record or self._begin(n))

    def _gone(self) -> Iterator[log.LogEvent]:
        """The Job is not there any more.

        :raises BackendError: it may be, where the connection has led before; or it is not known.
        """
        name = self.part.part.name
        try:
            if self.api.get(f"jobs/{name}")["metadata"]["uid"] == self.part.uid:
                return
        except ApiRefusal as error:
            if error.status != _NOT_FOUND:
                raise
        if said := elsewhere(self.api, self.state.plan):
            raise BackendError(said)
        left = [n for n in range(len(self.part.part.jobs)) if n not in self.part.ended]
        reason = f"its Job {name} was deleted, and not by this installation"
        by_a_person = Ending(AttemptState.REMOVED, FailureClass.PERSON, reason)
        for n in left:
            end, record = self._decided(n), self._record(n)
            ending = as_ending(end) if end is not None else by_a_person
            if record is not None:
                ending = self._by_record(n, record) or ending
            yield self.part.end(n, ending, record or self._begin(n))

    def _overdue(self) -> Iterator[log.LogEvent]:
        """Give up what should have ended by its own time limit, on a node that does not answer.

        Where no node is left that does, Kubernetes itself waits for ever.
        """
        limit, now = self.part.part.timeout, time.time()
        if limit is None:
            return
        late = [n for n, since in self.part.running_since.items() if now - since > limit + _OVERDUE][:_AT_ONCE]
        if not late or not self.part.due("overdue", self.now, _EVENTS_PAUSE):
            return
        for n, pod in self._pods_of(late).items():
            # One whose node died before it said so is Pending still, although its job has begun.
            over = pod["status"].get("phase") in ("Succeeded", "Failed")
            if not over and classify.condition(pod, "Ready") is None:
                node = pod["spec"].get("nodeName")
                reason = f"beyond its time limit of {limit:g} s, and its node {node} does not answer"
                lost = End(state=AttemptState.LOST.value, reason=reason, failure=FailureClass.LOST.value)
                self.state.folder.decide(self.part.part.number, [n], lost)
                self.api.delete(f"pods/{pod['metadata']['name']}")
                yield self.part.end(n, as_ending(lost), self._begin(n), node)

    # What waits

    def _waiting(self, job: Object) -> Iterator[log.LogEvent]:
        status = job.get("status", {})
        active, ready = int(status.get("active", 0)), int(status.get("ready", 0))
        suspended = bool(job.get("spec", {}).get("suspend"))
        if not suspended and active and active <= ready:
            self.part.waiting_since = None
            return
        if self.part.waiting_since is None:
            self.part.waiting_since = self.now
        if not suspended and self.now - self.part.waiting_since < _SOON:
            return
        try:
            if suspended:
                yield from self._tell(_queued(job), range(len(self.part.part.jobs)))
            elif active:
                yield from self._pending(active, ready)
            elif reason := self._refused(job):
                yield from self._tell(reason, range(len(self.part.part.jobs)))
        except ApiRefusal:
            # To see why something waits is a right that one may not have: it waits all the same.
            return

    def _tell(self, reason: str, waiting: Iterable[int]) -> Iterator[log.LogEvent]:
        """Say why jobs wait; what is said in other numbers only is not said again soon."""
        kind = reason.partition(":")[0]
        for n in waiting:
            told, at = self.part.told.get(n, ("", 0.0))
            same = told == reason or (told.partition(":")[0] == kind and self.now - at < _RETOLD)
            if not same and n not in self.part.begun and n not in self.part.ended:
                self.part.told[n] = (reason, self.now)
                yield self.part.event(n, AttemptState.SUBMITTED, reason=reason)

    def _pending(self, active: int, ready: int) -> Iterator[log.LogEvent]:
        """Say why pods wait, and give up those that do not start.

        :param active: so many pods of the Job exist that have not ended, and so many of them are ready.
        """
        if not self.part.due("pending", self.now, _PAUSE):
            return
        at = self.api.now()
        found = [(pod, classify.waiting(pod)) for pod in self._some_pending() if _has_waited(pod, at)]
        if not found:
            return
        limit = self.state.plan.start_within
        late = [(pod, one) for pod, one in found if classify.is_late(one, at, limit)]
        pod, first = (late or found)[0]
        warned = self._last_warning("Pod", str(pod["metadata"]["uid"]), soon=bool(late)) if first.silent else ""
        for pod, one in found:
            yield from self._tell((warned if one.silent else "") or one.reason, [_index(pod)])
        if late and not ready and self._are_alike(first, active, at):
            self.state.folder.decide(self.part.part.number, None, self._not_started(first, warned))
            self.api.delete(f"jobs/{self.part.part.name}", propagationPolicy="Background")
            return
        for pod, one in late:
            self.state.folder.decide(self.part.part.number, [_index(pod)], self._not_started(one, warned))
            self.api.delete(f"pods/{pod['metadata']['name']}")

    def _are_alike(self, one: classify.Waiting, active: int, at: datetime) -> bool:
        """Whether no pod of the Job has ever started, and all that there are are late for the same reason.

        Then those that it has not made yet would wait for the same, such as an image that is not there. A pod that
        waits for room is not late.
        """
        if self.part.begun or self.part.ended:
            return False
        alike = 0
        for pod in self.api.items("pods", **self._are_pending()):
            if "deletionTimestamp" in pod["metadata"]:
                continue
            other = classify.waiting(pod)
            if other.kind != one.kind or not classify.is_late(other, at, self.state.plan.start_within):
                return False
            alike += 1
        # Of those that are not pending, one may have started and not said so yet.
        return alike >= active

    def _some_pending(self) -> Iterator[Object]:
        """Pods that wait; of many also such as have a node: those of which one may be late."""
        found = self.api.get("pods", **self._are_pending(), limit=_PENDING)
        yield from found.get("items", ())
        if found.get("metadata", {}).get("continue"):
            known = {pod["metadata"]["uid"] for pod in found["items"]}
            placed = self.api.get("pods", **self._are_pending(",spec.nodeName!="), limit=_PENDING)
            yield from (pod for pod in placed.get("items", ()) if pod["metadata"]["uid"] not in known)

    def _are_pending(self, where: str = "") -> dict[str, str]:
        selector = f"{JOB_NAME}={self.part.part.name}"
        return {"labelSelector": selector, "fieldSelector": f"status.phase=Pending{where}"}

    def _not_started(self, one: classify.Waiting, warned: str) -> End:
        words = (warned if one.silent else "") or one.reason
        reason = f"did not start within {self.state.plan.start_within:g} s: {words}"
        return End(state=AttemptState.FAILED.value, reason=reason, failure=FailureClass.START.value)

    def _refused(self, job: Object) -> str:
        """Why no pod can be made: a quota, a limit, Pod Security; only an event says it."""
        said = "; ".join(self.part.warnings)
        with contextlib.suppress(ApiRefusal):  # without that right, what was said to begin with is all
            said = self._last_warning("Job", str(job["metadata"]["uid"])) or said
        return f"no pod can be made: {said}" if said else ""

    def _last_warning(self, kind: str, uid: str, *, soon: bool = False) -> str:
        """What an event says; :param soon: it is the last time that it is asked."""
        if not self.part.due("warnings", self.now, 0.0 if soon else _EVENTS_PAUSE):
            return ""
        selector = f"involvedObject.kind={kind},involvedObject.uid={uid},type=Warning"
        found = list(self.api.items("events", fieldSelector=selector))
        if not found:
            return ""
        last = max(found, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))
        return f"{last.get('reason')}: {short(last.get('message', ''))}"


def _created(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _index(pod: Object) -> int:
    return int(pod["metadata"]["labels"][INDEX])


def _has_waited(pod: Object, at: datetime) -> bool:
    created = classify.moment(_created(pod))
    known = created is not None and "deletionTimestamp" not in pod["metadata"]
    return known and created is not None and (at - created).total_seconds() >= _SOON


def _queued(job: Object) -> str:
    queue = job.get("metadata", {}).get("labels", {}).get(QUEUE)
    return f"queued by Kueue, in {queue}" if queue else "its Job is suspended"


def elsewhere(api: Api, plan: Plan) -> str:
    """What to say of Jobs that are not found where the connection leads; empty if it has led there all the time."""
    if (api.namespace, api.host) == (plan.namespace, plan.host):
        return ""
    return (
        f"its Jobs were created in the namespace {plan.namespace} of {plan.host}, and the connection leads to "
        f"{api.namespace} of {api.host} now: what has become of them is not known"
    )


def of_installation(api: Api, selector: str) -> dict[str, Object]:
    """All Jobs with these labels, by name.

    :raises BackendError: the server does not answer.
    """
    return {str(job["metadata"]["name"]): job for job in api.items("jobs", labelSelector=selector)}
