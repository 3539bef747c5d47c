"""How long ago a file was written, without trust in the clock of whoever wrote it.

Some file systems (CephFS, Lustre) keep the time that the writer's machine has. Of two looks of one process the later
one tells whether a file has changed in between, whatever its time says; only the first look has nothing but that time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

_MOST = 100_000
"""Files that are remembered."""


@dataclass
class _Seen:
    """A file as it was, how old at which moment of this process's own, and when it was looked at last."""

    stamp: object
    age: float
    at: float
    looked: float


_seen: dict[str, _Seen] = {}


def age_of(file: str, stamp: object, stated: float) -> float:
    """Seconds since a file was written.

    :param file: its name.
    :param stamp: differs whenever it was written.
    :param stated: seconds, by its time and by the clock of whoever keeps it; nonsense if the two differ.
    """
    now, known = time.monotonic(), _seen.get(file)
    if known is None or known.stamp != stamp:
        longest = float("inf") if known is None else now - known.looked
        if len(_seen) >= _MOST:
            _seen.clear()
        known = _seen[file] = _Seen(stamp, stated if 0 <= stated <= longest else 0.0, now, now)
    known.looked = now
    return known.age + now - known.at
