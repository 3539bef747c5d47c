"""What became of an index, from what is known of its pod and from its record: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.endings import killed_by, why
from airflow_calib_provider.backends.kubernetes.client import Object
from airflow_calib_provider.backends.kubernetes.names import JOB
from airflow_calib_provider.backends.kubernetes.records import PodRecord
from airflow_calib_provider.backends.left import short
from airflow_calib_provider.backends.scripts import NOT_ENTERED
from airflow_calib_provider.domain.observation import AttemptState, FailureClass

KILLED = 137
"""The exit code of what was ended by SIGKILL, by whom is told elsewhere."""

_UNKNOWN = 255
_NEVER_STARTED = ("StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError")

_INTERRUPTED = ("context canceled", "context deadline exceeded", "ttrpc: closed", "transport is closing")
"""In the message of a container that was never started: who was starting it has ended, which is no fault of the job."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    :ivar sure: whether nothing that may still be seen would change it.
    """

    state: AttemptState
    failure: FailureClass | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    sure: bool = True


def by_record(record: PodRecord, folder: Path, timeout: float | None = None) -> Ending | None:
    """How an attempt ended, if its record says so by itself.

    :param folder: of the attempt.
    :returns: ``None`` if the cluster is to be asked too: the pod was stopped, the job killed, or never entered.
    """
    if record.late:
        return Ending(AttemptState.FAILED, FailureClass.TIMEOUT, "time-out" + _after(timeout))
    if record.stopped or record.code in (KILLED, NOT_ENTERED) or record.signal == KILLED - 128:
        return None
    if record.code == 0:
        return Ending(AttemptState.SUCCEEDED, exit_code=0)
    failure, reason = why(folder, record.code, record.signal)
    return Ending(AttemptState.FAILED, failure, reason, record.code, record.signal)


_NO_SHELL = 'exec: "/bin/sh"'
"""In what a node says of a starter that cannot be run."""


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" after {seconds:g} s"


def by_pod(pod: Object | None, record: PodRecord | None, said: str, *, begun: bool) -> Ending:
    """How an attempt ended whose index has failed.

    :param pod: the last one of the index; ``None``: it is not there any more.
    :param record: of its end, one that does not say it all.
    :param said: the last line of the pod's log, or empty.
    :param begun: whether the starter has run.
    """
    if pod is None:
        return _lost("its pod is gone: deleted, or drained from its node", sure=record is not None)
    status = pod.get("status", {})
    ended = terminated(pod)
    message = short(status.get("message", ""))
    if ended.get("reason") == "OOMKilled":
        reason = f"out of memory{_limit(pod)}"
        return Ending(AttemptState.FAILED, FailureClass.MEMORY, reason, exit_code=KILLED)
    disruption = condition(pod, "DisruptionTarget")
    if disruption:
        return _lost(f"{disruption.get('reason')}: {short(disruption.get('message', ''))}".rstrip(": "))
    if status.get("reason") == "Evicted":
        return Ending(AttemptState.FAILED, FailureClass.DISK, message or "evicted: it used more disk than it asked for")
    if status.get("reason") == "DeadlineExceeded":
        return Ending(AttemptState.FAILED, FailureClass.TIMEOUT, f"time-out of its pod: {message}")
    if "deletionTimestamp" in pod.get("metadata", {}):
        return _lost("its pod was deleted", sure=record is not None)
    if ended.get("reason") in _NEVER_STARTED:
        return _never_started(ended)
    if not ended:
        return _lost(f"{status.get('reason', 'its pod ended before it started')}: {message}".rstrip(": "))
    return _by_code(ended.get("exitCode"), record, said, begun=begun)


def _never_started(ended: Mapping[str, Any]) -> Ending:
    whole = ended.get("message", "")
    said = short(whole) or str(ended["reason"])
    if any(words in whole for words in _INTERRUPTED):
        return _lost(f"its node was interrupted while it started the container: {said}")
    if _NO_SHELL in whole:
        said = f"the image has no shell; say kubernetes: {{shell: false}} ({said})"
    return Ending(AttemptState.FAILED, FailureClass.START, said, exit_code=ended.get("exitCode"))


def _by_code(code: int | None, record: PodRecord | None, said: str, *, begun: bool) -> Ending:
    if record is not None and record.stopped:
        return _lost("its pod was stopped")
    if record is not None and record.code == KILLED:
        return Ending(AttemptState.FAILED, FailureClass.EXIT, f"exit code {KILLED}: it was killed", exit_code=KILLED)
    if record is not None and record.signal is not None:
        return Ending(AttemptState.FAILED, FailureClass.SIGNAL, killed_by(record.signal), signal=record.signal)
    if record is None and not begun and code in (2, 127) and "/start.sh" in said:
        said = f"the spool volume is not what Airflow has as CALIB_HOME ({said})"
    words = f"exit code {code}" + (f": {said}" if said else "")
    if record is not None or not (begun or code in (KILLED, 143, _UNKNOWN)):
        # The starter has run, or has not: what it complained of is the reason.
        return Ending(AttemptState.FAILED, FailureClass.START, words, exit_code=code)
    return _lost(f"its container ended without a word of its own ({words})", sure=False)


def _lost(reason: str, *, sure: bool = True) -> Ending:
    return Ending(AttemptState.LOST, FailureClass.LOST, reason, sure=sure)


def terminated(pod: Object) -> Mapping[str, Any]:
    """How the job's container ended; empty if it has not."""
    state = container(pod).get("state", {})
    found: Mapping[str, Any] = state.get("terminated", {})
    return found


def has_run(pod: Object) -> bool:
    """Whether the job's container was started, and has ended: then it may have said something."""
    ended = terminated(pod)
    return bool(ended) and ended.get("reason") not in _NEVER_STARTED


def container(pod: Object) -> Mapping[str, Any]:
    """The status of the job's container; empty if the node has not said anything."""
    statuses: Sequence[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses", ())
    return next((one for one in statuses if one.get("name") == JOB), {})


def condition(item: Object, kind: str) -> Mapping[str, Any] | None:
    """A condition of an object that holds."""
    conditions: Sequence[Mapping[str, Any]] = item.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def _limit(pod: Object) -> str:
    containers = pod.get("spec", {}).get("containers", ())
    limit = next((one.get("resources", {}).get("limits", {}).get("memory") for one in containers), None)
    return f": it may use {limit}" if limit else ""


def moment(text: object) -> datetime | None:
    """A time as Kubernetes writes it."""
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Waiting:
    """Why a pod has not started.

    :ivar since: when it was given to its node; ``None``: it was not.
    :ivar silent: whether the pod itself says no reason; an event may.
    :ivar kind: what it waits for, the same for pods that wait for the same.
    """

    reason: str
    since: datetime | None = None
    silent: bool = False
    kind: str = ""


def is_late(one: Waiting, at: datetime, limit: float) -> bool:
    """Whether a pod has been on its node for more than so many seconds, and has not started."""
    return one.since is not None and (at - one.since).total_seconds() > limit


def waiting(pod: Object) -> Waiting:
    """Why a pod in the phase ``Pending`` does not start."""
    for one in pod.get("status", {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return Waiting(f"{one.get('reason', 'not scheduled')}: {short(one.get('message', ''))}".rstrip(": "))
    scheduled = condition(pod, "PodScheduled")
    if scheduled is None:
        return Waiting("not scheduled yet", silent=True)
    since = moment(scheduled.get("lastTransitionTime"))
    init = pod.get("status", {}).get("initContainerStatuses") or ()
    for one in (container(pod), *init):
        said = one.get("state", {}).get("waiting", {})
        if said and said.get("reason") not in ("ContainerCreating", "PodInitializing"):
            reason = str(said.get("reason"))
            words = f"{reason}: {short(said.get('message', ''))}".rstrip(": ")
            return Waiting(words, since, kind="image" if "Image" in reason else reason)
    return Waiting("its container is being made: image and volumes are awaited", since, silent=True)
