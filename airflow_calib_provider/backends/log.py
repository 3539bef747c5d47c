"""The event log of a round: lines of JSON, appended by whoever holds the round's lock."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.errors import BackendError

CREATED = "created"
SUPERVISED = "supervisor started"
_STATES = frozenset(state.value for state in AttemptState)


class LogEvent(TypedDict, total=False):
    """A line of the log; which keys it has depends on ``event``."""

    event: str
    at: str
    jobs: int
    index: int
    attempt: int
    pid: int
    ticks: int
    exit_code: int
    signal: int
    host: str
    pod: str
    start: str
    end: str
    reason: str
    failure: str
    memory: int


def event(name: str, **values: object) -> LogEvent:
    """An event at the current time, without the values that are ``None``; times become text."""
    stated = {key: value for key, value in values.items() if value is not None}
    texts = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in stated.items()}
    return cast("LogEvent", {"event": name, "at": datetime.now(UTC).isoformat(), **texts})


def is_of_job(line: LogEvent) -> bool:
    """Whether an event tells the state of a job."""
    return line["event"] in _STATES


def observation(line: LogEvent) -> Observation:
    """What an event says about a job.

    :raises KeyError, TypeError, ValueError: it is not an event of a job.
    """
    return Observation(
        index=int(line["index"]),
        attempt=int(line["attempt"]),
        state=AttemptState(line["event"]),
        at=datetime.fromisoformat(line["at"]),
        exit_code=line.get("exit_code"),
        signal=line.get("signal"),
        host=line.get("host"),
        start=datetime.fromisoformat(line["start"]) if "start" in line else None,
        end=datetime.fromisoformat(line["end"]) if "end" in line else None,
        reason=line.get("reason"),
        failure=FailureClass(line["failure"]) if "failure" in line else None,
        memory=line.get("memory"),
    )


class LogLines(NamedTuple):
    """Events read from a log, and the offsets in bytes where they begin and end."""

    events: list[LogEvent]
    begin: int
    end: int


def read(path: Path, offset: int = 0) -> LogLines:
    """The complete lines from an offset on; a partial last line is left for later.

    :param path: the log.
    :param offset: bytes; where an earlier read ended. Where no line begins there (a power cut took the end of the log
        with it), the log is read from its beginning.
    :raises BackendError: a complete line is not an event.
    :raises OSError: the log cannot be read.
    """
    with path.open("rb") as file:
        if offset:
            file.seek(offset - 1)
            if file.read(1) != b"\n":
                offset = 0
                file.seek(0)
        data = file.read()
    events = []
    end = offset
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            value = json.loads(line)
            if value["event"] in _STATES:
                observation(value)
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"{path}: the line at byte {end} is damaged ({error!r})",
                f"repair or delete this line; or end the supervisor and move {path.parent} out of the spool, "
                "then its jobs are unknown to the backend",
            ) from error
        events.append(value)
        end += len(line)
    return LogLines(events, offset, end)


@dataclass
class LogCursor:
    """How far a log was read, with what had been counted until there: a finished round need not be read again."""

    offset: int = 0
    ended: int = 0
    jobs: int = -1

    @classmethod
    def parse(cls, text: str) -> LogCursor:
        """A cursor from its text; from one that cannot be read a fresh one."""
        try:
            return cls(*(int(part) for part in text.split("/", 2))) if text else cls()
        except ValueError:
            # To be told everything again does no harm.
            return cls()

    def __str__(self) -> str:
        return f"{self.offset}/{self.ended}/{self.jobs}"

    @property
    def finished(self) -> bool:
        """Whether all jobs of the round have ended."""
        return self.ended == self.jobs

    def advance(self, lines: LogLines) -> None:
        """Count what was read."""
        if lines.begin < self.offset:
            self.ended = 0
        self.offset = lines.end
        for line in lines.events:
            if line["event"] == CREATED:
                self.jobs = int(line["jobs"])
            elif is_of_job(line):
                self.ended += AttemptState(line["event"]).final


@dataclass
class Record:
    """What a log says about a round.

    :ivar supervised: a supervisor has started.
    :ivar ended: jobs that have a final state.
    :ivar running: index → (process id, start ticks) of jobs that started and have not ended.
    :ivar starts: index → start of the jobs that started and have not ended.
    """

    supervised: bool = False
    ended: set[int] = field(default_factory=set)
    running: dict[int, tuple[int, int]] = field(default_factory=dict)
    starts: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Record:
        """Read a whole log.

        :raises BackendError: it is damaged.
        """
        record = cls()
        for line in read(path).events:
            record.supervised |= line["event"] == SUPERVISED
            if not is_of_job(line):
                continue
            index = line["index"]
            if AttemptState(line["event"]).final:
                record.ended.add(index)
                record.running.pop(index, None)
                record.starts.pop(index, None)
            elif line["event"] == AttemptState.RUNNING:
                record.running[index] = (line["pid"], line["ticks"])
                record.starts[index] = line["start"]
        return record


class Writer:
    """Appends to a log. Only for who holds the round's lock.

    What a writer before left of a line that it could not finish is removed first.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        size = os.fstat(self._file).st_size
        os.ftruncate(self._file, self._end_of_last_line(size))

    def _end_of_last_line(self, size: int) -> int:
        while size:
            begin = max(0, size - 4096)
            cut = os.pread(self._file, size - begin, begin).rfind(b"\n")
            if cut >= 0:
                return begin + cut + 1
            size = begin
        return 0

    def write(self, line: LogEvent) -> None:
        """Append one event; it is durable after :meth:`sync`.

        :raises OSError: it could not be written; then nothing of it is in the log.
        """
        data = (json.dumps(line) + "\n").encode()
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise

    def sync(self) -> None:
        """Return when everything that was written is on disk.

        :raises OSError: it is not.
        """
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
