"""What HTCondor says of a job, as observations; from the event log and from a job's ad alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.backends.condor.calls import Ad
from airflow_calib_provider.backends.endings import why
from airflow_calib_provider.backends.left import last_line, short
from airflow_calib_provider.backends.scripts import NOT_ENTERED
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation

_HOLD_CLASSES = {
    1: FailureClass.PERSON,
    4: FailureClass.START,
    6: FailureClass.START,
    7: FailureClass.TRANSFER,
    12: FailureClass.TRANSFER,
    13: FailureClass.TRANSFER,
    14: FailureClass.START,
    34: FailureClass.MEMORY,
    40: FailureClass.DISK,
    46: FailureClass.TIMEOUT,
    47: FailureClass.TIMEOUT,
    48: FailureClass.START,
    49: FailureClass.START,
    104: FailureClass.DISK,
}
"""HoldReasonCode → class; the codes are those of the HTCondor manual, job ClassAd attribute HoldReasonCode."""

NO_HOLD = (16,)
"""Codes of jobs that are held only until their input has arrived."""

_SITE_POLICY = 26
"""The code of a hold by ``SYSTEM_PERIODIC_HOLD``."""

_PERSON = "(by user "
"""What the schedd adds to the reason of a removal that somebody asked for, be it this package."""

_TOO_MUCH_MEMORY = (
    "memory usage",
    "exceeded memory",
    "memory limit",
    "out of memory",
    "request_memory",
    "requestmemory",
)
_TOO_MUCH_DISK = ("disk usage", "exceeded disk", "request_disk", "requestdisk")


@dataclass(frozen=True)
class Proc:
    """Which attempt of which job a proc of a cluster is, and where it writes."""

    number: int
    index: int
    attempt: int
    folder: Path


def hold_class(code: int, reason: str) -> FailureClass:
    """The class of a hold. A site's own policies (codes 3 and 26) tell it in words only."""
    if code in (3, 21, 26, 35):
        text = reason.lower()
        if any(words in text for words in _TOO_MUCH_MEMORY):
            return FailureClass.MEMORY
        if any(words in text for words in _TOO_MUCH_DISK):
            return FailureClass.DISK
    return _HOLD_CLASSES.get(code, FailureClass.HOLD)


def held(proc: Proc, at: datetime, code: int, subcode: int, reason: str, memory: int | None = None) -> Observation:
    """A job that waits for a decision."""
    kind = hold_class(code, reason)
    return Observation(
        proc.index,
        proc.attempt,
        AttemptState.HELD,
        at,
        reason=f"held ({code}): {short(reason)}" + ("; time-out" if kind is FailureClass.TIMEOUT else ""),
        failure=kind,
        hold_code=code,
        hold_subcode=subcode,
        memory=memory,
    )


def removed(proc: Proc, at: datetime, reason: str) -> Observation:
    """A job that somebody removed."""
    return Observation(
        proc.index,
        proc.attempt,
        AttemptState.REMOVED,
        at,
        reason=short(reason) or "removed from the queue",
        failure=FailureClass.PERSON,
    )


def gone(proc: Proc, at: datetime, reason: str) -> Observation:
    """A job that left the queue without an end of its own: by somebody's wish, or by the pool's policy."""
    if not reason or _PERSON in reason:
        return removed(proc, at, reason)
    kind, said = hold_class(_SITE_POLICY, reason), f"removed by the pool: {short(reason)}"
    return Observation(proc.index, proc.attempt, AttemptState.FAILED, at, reason=said, failure=kind)


def ended(
    proc: Proc,
    at: datetime,
    *,
    exit_code: int | None,
    signal: int | None,
    host: str | None = None,
    start: datetime | None = None,
    memory: int | None = None,
) -> Observation:
    """A job that ended by itself."""
    good = exit_code == 0 and signal is None
    failure, reason = (None, None) if good else _why(proc, exit_code, signal)
    return Observation(
        proc.index,
        proc.attempt,
        AttemptState.SUCCEEDED if good else AttemptState.FAILED,
        at,
        exit_code=exit_code,
        signal=signal,
        host=host,
        start=start,
        end=at,
        reason=reason,
        failure=failure,
        memory=memory,
    )


def _why(proc: Proc, exit_code: int | None, signal: int | None) -> tuple[FailureClass, str]:
    if signal is None and exit_code == NOT_ENTERED and (said := last_line(proc.folder / "condor.err")):
        return FailureClass.START, f"exit code {exit_code}: {said}"
    return why(proc.folder, exit_code, signal)


def from_ad(proc: Proc, ad: Ad, now: datetime) -> Observation | None:
    """What a job's ad in the queue or in the history says; ``None`` for a job that is being removed."""
    status = int(ad.get("JobStatus", 0))
    host = _host(ad.get("RemoteHost") or ad.get("LastRemoteHost"))
    start = _time(ad.get("JobCurrentStartDate"))
    memory = megabytes(ad.get("MemoryUsage"))
    if status == 5:
        code = int(ad.get("HoldReasonCode", 0))
        if code in NO_HOLD:
            return Observation(proc.index, proc.attempt, AttemptState.SUBMITTED, now, reason="its input is on the way")
        since = _time(ad.get("EnteredCurrentStatus")) or now
        return held(proc, since, code, int(ad.get("HoldReasonSubCode", 0)), str(ad.get("HoldReason", "")), memory)
    if status == 4:
        by_signal = bool(ad.get("ExitBySignal", False))
        at = _time(ad.get("CompletionDate")) or now
        return ended(
            proc,
            at,
            exit_code=None if by_signal else _integer(ad.get("ExitCode")),
            signal=_integer(ad.get("ExitSignal")) if by_signal else None,
            host=host,
            start=start,
            memory=memory,
        )
    if status == 3:
        # In the queue it may be running still; only the history knows that it is gone.
        return None
    states = {1: AttemptState.SUBMITTED, 2: AttemptState.RUNNING, 6: AttemptState.RUNNING, 7: AttemptState.RUNNING}
    state = states.get(status)
    if state is None:
        return None
    reason = "suspended" if status == 7 else None
    return Observation(proc.index, proc.attempt, state, now, host=host, start=start, reason=reason, memory=memory)


def from_history(proc: Proc, ad: Ad, now: datetime) -> Observation:
    """What the history says of a job that has left the queue."""
    if int(ad.get("JobStatus", 0)) == 4 and (seen := from_ad(proc, ad, now)) is not None:
        return seen
    return gone(proc, _time(ad.get("EnteredCurrentStatus")) or now, str(ad.get("RemoveReason", "")))


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None


def megabytes(value: object) -> int | None:
    """Bytes, from HTCondor's mebibytes."""
    return int(value) * (1 << 20) if isinstance(value, int | float) and value > 0 else None


def _host(value: object) -> str | None:
    # slot1_3@worker.example.org
    return str(value).partition("@")[2] or str(value) if value else None


def _time(value: object) -> datetime | None:
    return datetime.fromtimestamp(int(value), UTC) if isinstance(value, int | float) and value > 0 else None
