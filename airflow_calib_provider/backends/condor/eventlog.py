"""News from HTCondor's event log of a cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.condor import outcomes
from airflow_calib_provider.backends.condor.calls import Ad
from airflow_calib_provider.backends.condor.cursor import Cursor
from airflow_calib_provider.backends.condor.outcomes import Proc
from airflow_calib_provider.domain.observation import AttemptState, Observation

_SUBMIT, _EXECUTE, _EVICTED, _TERMINATED, _IMAGE_SIZE, _SHADOW_EXCEPTION = 0, 1, 4, 5, 6, 7
_ABORTED, _SUSPENDED, _UNSUSPENDED, _HELD, _RELEASED = 9, 10, 11, 12, 13
_DISCONNECTED, _RECONNECTED, _RECONNECT_FAILED = 22, 23, 24
_CLUSTER_REMOVED, _FACTORY_PAUSED, _FACTORY_RESUMED = 36, 37, 38
"""Event numbers of the HTCondor manual, section "Job Event Log Codes"."""

AT_ONCE = 10_000
"""Events that one look reads: a watcher that was away for long catches up look by look, and stores each."""

_END_OF_EVENT = b"\n...\n"
_LONGEST_EVENT = 1 << 20

_FIRST_VACATE_CODE = 1000
"""Codes below it in an eviction are those of a hold."""


@dataclass
class News:
    """What was read.

    :ivar observations: in the order of the log.
    :ivar materialized: procs that entered the queue.
    :ivar gone_after: the cluster has left the queue when so many procs were materialized: no other ever will be.
    :ivar paused: why the schedd has stopped to materialize jobs; ``None`` where the log does not say.
    :ivar doubt: why the log cannot be trusted to be complete; empty if it can.
    :ivar missing: it is not there.
    """

    observations: list[Observation] = field(default_factory=list)
    materialized: list[int] = field(default_factory=list)
    gone_after: int | None = None
    paused: str | None = None
    doubt: str = ""
    missing: bool = False


def read(file: Path, cursor: Cursor, procs: Sequence[Proc]) -> News:
    """Read what is new, and advance the cursor.

    A log that is missing, was truncated or replaced, or cannot be read is told as ``doubt``, and read from its begin if
    it is there: everything is told again then, which does no harm.
    """
    news = News()
    try:
        status = file.stat()
    except FileNotFoundError:
        news.doubt = "there is no event log" + (" any more" if cursor.offset else "")
        news.missing = True
        return news
    except OSError as error:
        news.doubt = f"the event log cannot be read: {error}"
        return news
    if status.st_size < cursor.offset or (cursor.inode and status.st_ino != cursor.inode):
        news.doubt = "the event log was truncated or replaced"
        cursor.offset = 0
    cursor.inode = status.st_ino
    try:
        complete = _complete(file, cursor.offset, status.st_size)
    except OSError as error:
        news.doubt = f"the event log cannot be read: {error}"
        return news
    before = set(cursor.vacated)
    if complete > cursor.offset:
        _read_events(file, cursor, procs, news, complete)
    # A whole look later there is no event of a hold: they were evicted.
    now = datetime.now(UTC)
    for proc in sorted(before & cursor.vacated.keys()):
        news.observations.append(_alive(procs[proc], now, AttemptState.EVICTED, cursor.vacated.pop(proc)))
    if news.doubt:
        # Told twice, an eviction counts twice. That a job does not run any more the schedd tells.
        news.observations = [one for one in news.observations if one.state is not AttemptState.EVICTED]
    return news


def _complete(file: Path, offset: int, size: int) -> int:
    """Up to where events are written as a whole.

    The bindings wait for the rest of one for a second, and lose it in silence if no more than its first characters are
    there.
    """
    with file.open("rb") as stream:
        first = max(offset, size - _LONGEST_EVENT)
        stream.seek(first)
        end = stream.read(size - first).rfind(_END_OF_EVENT)
    if end >= 0:
        return first + end + len(_END_OF_EVENT)
    return offset if first == offset else size


def _read_events(file: Path, cursor: Cursor, procs: Sequence[Proc], news: News, complete: int) -> None:
    log = _open(file, cursor.offset)
    try:
        position = before = cursor.offset
        # What is told again is told as a whole: the next look would not know that it was.
        for event in islice(log.events(0), None if news.doubt else AT_ONCE):
            _interpret(event, procs, cursor, news)
            position = log.__getstate__()[1]
            if position >= complete:
                break
        if position == before:
            raise ValueError("what is new in it is no event")
        cursor.offset = position
    except Exception as error:  # noqa: BLE001 - the bindings raise several kinds for a log that is damaged
        # Never to be read again: the schedd is asked instead.
        news.doubt = f"the event log is damaged: {error}"
        cursor.offset = complete
    finally:
        log.close()


def _open(file: Path, offset: int) -> Any:
    # Without a configuration file the bindings complain on standard error when they are imported.
    if not Path("/etc/condor/condor_config").exists():
        os.environ.setdefault("CONDOR_CONFIG", "ONLY_ENV")
    from htcondor2 import JobEventLog

    log = JobEventLog(str(file))
    if offset:
        state, _ = log.__getstate__()
        log.close()
        log = JobEventLog.__new__(JobEventLog)
        log.__setstate__((state, offset))
    return log


def _interpret(event: Ad, procs: Sequence[Proc], cursor: Cursor, news: News) -> None:
    number = int(event["EventTypeNumber"])
    _note_cluster(number, event, procs, news)
    proc_number = int(event.get("Proc", event.get("proc", -1)))
    if not 0 <= proc_number < len(procs):
        return
    if number == _SUBMIT:
        news.materialized.append(proc_number)
    if proc_number in cursor.ended:
        return
    seen = _observation(number, event, procs[proc_number])
    if _is_vacated(number, event):
        cursor.vacated[proc_number] = _why_evicted(number, event)
    elif number in (_EXECUTE, _HELD, _ABORTED, _TERMINATED):
        why = cursor.vacated.pop(proc_number, None)
        if why is not None and number == _EXECUTE:
            news.observations.append(_alive(procs[proc_number], _time(event), AttemptState.EVICTED, why))
    if seen is not None:
        news.observations.append(seen)
        if seen.state.final:
            cursor.ended.add(proc_number)


def _note_cluster(number: int, event: Ad, procs: Sequence[Proc], news: News) -> None:
    """Note what an event tells of the cluster as a whole."""
    if number == _CLUSTER_REMOVED:
        news.gone_after = int(event.get("NextProcId", len(procs)))
    elif number == _FACTORY_PAUSED:
        news.paused = str(event.get("Reason", "") or event.get("Notes", "") or "no reason given")
    elif number == _FACTORY_RESUMED:
        news.paused = ""


def _is_vacated(number: int, event: Ad) -> bool:
    """Whether it is an eviction with the code of a hold.

    The event of the hold follows at once, unless the job was put back into the queue, as where its container could not
    be started.
    """
    return number == _EVICTED and 0 < int(event.get("ReasonCode", 0)) < _FIRST_VACATE_CODE


def _observation(number: int, event: Ad, proc: Proc) -> Observation | None:
    at = _time(event)
    if number == _TERMINATED:
        normally = bool(event.get("TerminatedNormally", True))
        return outcomes.ended(
            proc,
            at,
            exit_code=int(event.get("ReturnValue", 0)) if normally else None,
            signal=None if normally else int(event.get("TerminatedBySignal", 0)),
            memory=outcomes.megabytes(event.get("MemoryUsage")),
        )
    if number == _HELD:
        code = int(event.get("HoldReasonCode", 0))
        if code in outcomes.NO_HOLD:
            return None
        reason = str(event.get("HoldReason", ""))
        return outcomes.held(proc, at, code, int(event.get("HoldReasonSubCode", 0)), reason)
    if number == _ABORTED:
        return outcomes.gone(proc, at, str(event.get("Reason", "")))
    if number in (_EVICTED, _SHADOW_EXCEPTION, _RECONNECT_FAILED):
        evicted = not _is_vacated(number, event)
        return _alive(proc, at, AttemptState.EVICTED, _why_evicted(number, event)) if evicted else None
    return _living(number, event, proc, at)


def _living(number: int, event: Ad, proc: Proc, at: datetime) -> Observation | None:
    """What an event tells of an attempt that goes on."""
    if number == _EXECUTE:
        return _alive(proc, at, AttemptState.RUNNING, host=_host(event), start=at)
    if number == _SUSPENDED:
        return _alive(proc, at, AttemptState.RUNNING, "suspended")
    if number == _DISCONNECTED:
        why = str(event.get("DisconnectReason", "") or event.get("Reason", ""))
        return _alive(proc, at, AttemptState.RUNNING, f"disconnected: {why}"[:300])
    if number in (_UNSUSPENDED, _RECONNECTED):
        return _alive(proc, at, AttemptState.RUNNING)
    if number == _RELEASED:
        return _alive(proc, at, AttemptState.SUBMITTED)
    if number == _IMAGE_SIZE and (memory := outcomes.megabytes(event.get("MemoryUsage"))):
        return _alive(proc, at, AttemptState.RUNNING, memory=memory)
    return None


def _alive(
    proc: Proc,
    at: datetime,
    state: AttemptState,
    reason: str | None = None,
    *,
    host: str | None = None,
    start: datetime | None = None,
    memory: int | None = None,
) -> Observation:
    return Observation(proc.index, proc.attempt, state, at, host=host, start=start, reason=reason, memory=memory)


def _why_evicted(number: int, event: Ad) -> str:
    what = {_EVICTED: "evicted", _SHADOW_EXCEPTION: "its shadow failed", _RECONNECT_FAILED: "lost its machine"}[number]
    why = str(event.get("Reason", "") or event.get("Message", ""))
    return (f"{what}: {why}" if why else what)[:300]


def _host(event: Ad) -> str | None:
    slot = str(event.get("SlotName", ""))
    if "@" in slot:
        return slot.partition("@")[2]
    # <10.0.0.7:9618?addrs=...&alias=worker.example.org&...>
    address = str(event.get("ExecuteHost", ""))
    alias = re.search(r"alias=([^&>]+)", address)
    return alias[1] if alias else address.strip("<>").partition(":")[0] or None


def _time(event: Ad) -> datetime:
    # A schedd writes local time unless it is configured for UTC; then there is a Z.
    made = datetime.fromisoformat(str(event["EventTime"]).replace("Z", "+00:00"))
    return made.astimezone(UTC) if made.tzinfo else made.astimezone().astimezone(UTC)
