"""How the credentials stand: whether they hold now, and whether one had expired when a job ended."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_calib_provider.credentials import CALLED, kerberos, proxy, token

_READERS: Mapping[str, Callable[[bytes], datetime | None]] = {
    "proxy": proxy.expiry,
    "token": token.expiry,
    "kerberos": kerberos.expiry,
}

_LONGEST = 1 << 20

AFTERMATH = timedelta(minutes=10)
"""After a renewal: what had begun to fail before it may take as long to end."""

_LAPSE = re.compile(rf"the (?:{'|'.join(CALLED.values())}) /.*? (?:expired at|cannot be used)")


@dataclass(frozen=True)
class _Seen:
    """What a file says.

    :ivar sign: what tells whether it was changed since.
    :ivar until: when it expires; ``None``: never, or that is not known.
    :ivar trouble: why it is not known.
    :ivar renewed: when the file came to be there.
    :ivar before: the expiry of what it replaced, if that had expired by then.
    """

    sign: tuple[int, ...] = ()
    until: datetime | None = None
    trouble: str = ""
    renewed: datetime | None = None
    before: datetime | None = None


_seen: dict[tuple[str, str], _Seen] = {}
"""Kind and path → what was seen last, in this process."""

_lock = threading.Lock()


def _look(kind: str, path: str) -> _Seen:
    """What a file says now; it is read only if it was changed."""
    with _lock:
        last = _seen.get((kind, path), _Seen())
        _seen[kind, path] = found = _read(kind, path, last)
        return found


def _read(kind: str, path: str, last: _Seen) -> _Seen:
    before = last.until or last.before
    try:
        # Whatever lies there must not hold up the step: neither a pipe, nor very much.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            about = os.fstat(opened)
            sign = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
            if sign == last.sign:
                return last
            if not stat.S_ISREG(about.st_mode):
                return _Seen(trouble="it is no file", before=before)
            content = os.read(opened, _LONGEST)
        finally:
            os.close(opened)
        until = _READERS[kind](content)
    except OSError as error:
        return _Seen(trouble=error.strerror or str(error), before=before)
    except ValueError as error:
        return _Seen(sign, trouble=str(error) or "it cannot be read", before=before)
    # When it came to be there: of a copy that may be later than it was written.
    renewed = datetime.fromtimestamp(about.st_ctime, UTC)
    return _Seen(sign, until, "", renewed, before if before is not None and before < renewed else None)


def lapse(credentials: Mapping[str, str], now: datetime) -> str:
    """Why the credentials do not hold, in words; empty: they do.

    :param credentials: kind → path.
    """
    said = []
    for kind, path in sorted(credentials.items()):
        seen = _look(kind, path)
        if seen.trouble:
            said.append(f"the {CALLED[kind]} {path} cannot be used: {seen.trouble}")
        elif seen.until is not None and seen.until <= now:
            said.append(f"the {CALLED[kind]} {path} expired at {as_text(seen.until)}")
    return f"{'; '.join(said)}: no job is submitted until it is renewed" if said else ""


def is_lapse(text: str) -> bool:
    """Whether a text begins with what :func:`lapse` says."""
    return _LAPSE.match(text) is not None


def had_expired(credentials: Mapping[str, str], at: datetime) -> str:
    """Which credential had expired at a time in the past, in words; empty: none of which it is known."""
    for kind, path in sorted(credentials.items()):
        seen = _look(kind, path)
        until = seen.until
        if until is None or until > at:
            until = seen.before
            if seen.renewed is not None and at > seen.renewed + AFTERMATH:
                continue
        if until is not None and until <= at:
            return f"its {CALLED[kind]} had expired at {as_text(until)}"
    return ""


def as_text(moment: datetime) -> str:
    """A time as reasons have it."""
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
