"""Durations, sizes, times and numbers as people write them, and read them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

DURATION = "a duration such as 30s, 10m, 36h, 2d or 1h30m"
SIZE = "a size such as 500MB, 2GB or 4GiB"

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"(?:(?P<d>\d{1,6}) ?d)?(?:(?P<h>\d{1,8}) ?h)?(?:(?P<m>\d{1,9}) ?m(?:in)?)?(?:(?P<s>\d{1,10}) ?s)?", re.ASCII
)
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,6})?) ?(?P<unit>[kKMGT]?i?B)", re.ASCII)
_LEAP = re.compile(r"(?P<before>.*[T ]\d\d:?\d\d:?)60(?:[.,]\d+)?(?P<zone>Z|[+-].*|)", re.ASCII)
_LARGEST = 10**18
_WHOLE = 10**15
"""Of larger ones a float does not know every digit."""
_LONGEST = timedelta(days=3_650)


def parse_duration(text: str) -> timedelta:
    """``1h30m`` → 1.5 hours.

    :raises ValueError: it is not a duration, or longer than ten years.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration")
    value = timedelta(seconds=sum(int(match[unit] or 0) * seconds for unit, seconds in _SECONDS.items()))
    if value > _LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return value


def format_duration(value: timedelta) -> str:
    """The inverse of :func:`parse_duration`, to the second."""
    rest = int(value.total_seconds())
    parts = []
    for unit, seconds in _SECONDS.items():
        amount, rest = divmod(rest, seconds)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """``2GB`` → 2,000,000,000 bytes; ``2GiB`` → 2,147,483,648 bytes.

    :raises ValueError: it is not a size, or beyond what a ledger holds.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match["unit"] not in _BYTES:
        raise ValueError(f"{text!r} is not a size")
    value = round(float(match["number"]) * _BYTES[match["unit"]])
    if value > _LARGEST:
        raise ValueError(f"{text!r} is more than a million TB")
    return value


def format_time(at: datetime | str | None) -> str:
    """``2026-05-01 09:13 UTC``, as people read it: to the minute.

    :param at: a time with its zone, also as ISO 8601 has it; what is none stays as it is.
    """
    if isinstance(at, str):
        try:
            at = parse_time(at)
        except ValueError:
            return str(at)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at is not None else ""


def format_number(value: float) -> str:
    """``355872`` and ``4,000,000`` and ``0.0314``: no ``.0`` behind what is whole, no ``4e+06``."""
    if math.isfinite(value) and value == int(value) and abs(value) < _WHOLE:
        return f"{int(value):,}"
    return f"{value:.6g}"


def value_text(value: object) -> str:
    """A value of a run's field: ``true``, ``355872`` and not ``355872.0``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < _WHOLE:
        return str(int(value))
    return " ".join(map(value_text, value)) if isinstance(value, list) else str(value)


def parse_time(text: str) -> datetime:
    """A time in ISO 8601; one without a time zone is UTC. A leap second is the second after it, as in conditions.

    :returns: with the time zone UTC.
    :raises ValueError: it is not a time.
    """
    wanted = text.strip().upper()
    leap = _LEAP.fullmatch(wanted)
    try:
        if leap is not None:
            value = datetime.fromisoformat(f"{leap['before']}59{leap['zone']}") + timedelta(seconds=1)
        else:
            value = datetime.fromisoformat(wanted)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time") from None
