"""What pods leave in the spool: records of the begin and of the end of each index, read without asking the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.kubernetes.starting import BEGUN, ENDED

_LONGEST = 4096
_FIRST_YEAR, _LAST_YEAR = 1970, 2200
# A number is written in one way only: each record is read once.
_NAME = re.compile(rf"(0|[1-9][0-9]*)\.(?:([^.]+)\.{BEGUN}|{ENDED})")
_SETTLES = 1_000_000_000
"""Nanoseconds in which a file system may give two changes of a folder the same time."""


@dataclass(frozen=True)
class PodRecord:
    """What the starter of an index says.

    :ivar pod: the uid of the pod.
    :ivar code: the exit code; ``None``: it has only begun, or was ended by a signal.
    :ivar late: it reached its time limit.
    :ivar stopped: its pod was told to end.
    :ivar memory: the peak of its largest process, in bytes.
    """

    pod: str
    host: str
    start: datetime
    end: datetime | None = None
    code: int | None = None
    signal: int | None = None
    late: bool = False
    stopped: bool = False
    memory: int | None = None


def read(file: Path) -> PodRecord | None:
    """A record; ``None`` if there is none, or what is there is none."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = json.loads(os.read(opened, _LONGEST))
        finally:
            os.close(opened)
        start = _moment(found["start"])
        end = max(start, _moment(found["end"])) if "end" in found else None
        return PodRecord(
            _name(found["pod"]),
            _name(found["host"]),
            start,
            end,
            _whole(found.get("code"), 255),
            _whole(found.get("signal"), 127),
            found.get("late") is True,
            found.get("stopped") is True,
            _whole(found.get("memory"), 2**62),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # The folder is one to which jobs may write: what they leave there is nothing.
        return None


def _moment(value: Any) -> datetime:
    found = datetime.fromtimestamp(float(value), UTC)
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise ValueError(value)
    return found


def _name(value: object) -> str:
    # A NUL, or half of a character, is what no database takes.
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(value)
    return value


def _whole(value: object, most: int) -> int | None:
    if value is not None and not (type(value) is int and 0 <= value <= most):
        raise ValueError(value)
    return value


def ended(folder: Path, index: int) -> PodRecord | None:
    """How an index ended, as its pod says."""
    found = read(folder / f"{index}.{ENDED}")
    if found is None or found.end is None:
        return None
    says_how = found.code is not None or found.signal is not None or found.late or found.stopped
    return found if says_how else None


@dataclass
class Listing:
    """The names of a folder of records, read again only when they may have changed."""

    folder: Path
    _changed: int = -1
    _read: int = 0

    def names(self) -> Iterator[tuple[int, str, str]]:
        """Index, pod and kind of each record; nothing where nothing is new.

        :raises OSError: the folder cannot be read.
        """
        changed = self.folder.stat().st_mtime_ns
        if changed == self._changed and self._read - changed > _SETTLES:
            return
        self._changed, self._read = changed, time.time_ns()
        for name in os.listdir(self.folder):  # noqa: PTH208 - names are all that is needed of very many
            if found := _NAME.fullmatch(name):
                yield int(found[1]), found[2] or "", BEGUN if found[2] else ENDED

    def file(self, index: int, pod: str) -> Path:
        """The record of a begin."""
        return self.folder / f"{index}.{pod}.{BEGUN}"

    def written(self, index: int, pod: str) -> int:
        """When the record of a begin was written, in ns of the file system's clock; 0: it is not there."""
        with contextlib.suppress(OSError):
            return self.file(index, pod).lstat().st_mtime_ns
        return 0
