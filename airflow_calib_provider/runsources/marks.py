"""Reading on where the last read ended: watermarks, what is read again, and when all is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

from airflow_calib_provider.domain.quantities import parse_duration
from airflow_calib_provider.domain.run import RunListing, RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.outside.strict_json import kind_of
from airflow_calib_provider.runsources.remote_keys import WatermarkKeys
from airflow_calib_provider.runsources.times import TimeRules

OVERLAP = timedelta(hours=1)
LARGEST = 2**63
"""No number of a watermark is as large."""

Height: TypeAlias = int | float | datetime
"""What a watermark is compared by; times have the zone UTC."""
Fetch: TypeAlias = Callable[[Height | None], tuple[Sequence[RunRecord], Height | None]]
"""Reads what is at or above a height, or all: the runs by number, and the highest watermark of them."""


def read_marked(
    keys: WatermarkKeys, times: TimeRules, kept: Mapping[str, object], now: datetime, fetch: Fetch
) -> RunListing:
    """Read what may be new, or all: at first, when it is time, and when the watermark is lower than it was.

    What is read again is what is at most the overlap below the highest watermark: the row that had it is there again,
    or a later one. If neither is, the watermarks have gone backwards (a database that was restored, a clock that was
    set), and nothing that is known of them counts any more.

    :param kept: the mark that the last read has left.
    :raises RunSourceError: the overlap does not fit the watermark.
    """
    known = _Mark.of(kept)
    if known is not None and timedelta(0) <= now - known.all_at < keys.all_every:
        runs, top = fetch(_before(known.top, keys, times))
        if top is not None and _comparable(top, known.top) and top >= known.top:  # type: ignore[operator]
            return RunListing(runs, False, _Mark(_not_later(top, now, times), known.all_at).kept())
    runs, top = fetch(None)
    return RunListing(runs, True, None if top is None else _Mark(_not_later(top, now, times), now).kept())


def highest(values: Iterable[object], times: TimeRules, where: str) -> Height | None:
    """The highest of watermarks as a source has them; null ones are none.

    :raises RunSourceError: they cannot be compared.
    """
    found: Height | None = None
    for value in values:
        if value is None:
            continue
        height = _height(value, times, where)
        if found is not None and not _comparable(found, height):
            raise RunSourceError(f"{where}: watermarks are times and numbers", "let it be one of them")
        if found is None or height > found:  # type: ignore[operator]
            found = height
    return found


def _height(value: object, times: TimeRules, where: str) -> Height:
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < LARGEST:
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        # One that is infinite, or nearly so, would hide all that comes.
        if isinstance(value, Decimal) or not abs(value) < LARGEST:
            said = f"{where}: the watermark is {kind_of(value)}"
            raise RunSourceError(said, "a watermark is a time, or a number below 2^63")
        return value
    if isinstance(value, str | datetime | date):
        try:
            return times.read(value)
        except ValueError as error:
            raise RunSourceError(f"{where}: the watermark {error}", "a watermark is a time or a number") from error
    raise RunSourceError(f"{where}: the watermark is {kind_of(value)}", "a watermark is a time or a number")


def _comparable(one: Height, other: Height) -> bool:
    return isinstance(one, datetime) == isinstance(other, datetime)


def _before(top: Height, keys: WatermarkKeys, times: TimeRules) -> Height:
    overlap = keys.overlap
    if isinstance(top, datetime):
        if isinstance(overlap, int):
            raise RunSourceError(f"overlap is {overlap}, but the watermark is a time", "a duration such as 1h")
        return max(top, datetime(1971, 1, 1, tzinfo=UTC)) - (parse_duration(overlap) if overlap else OVERLAP)
    if times.unit and not isinstance(overlap, int):
        return top - (parse_duration(overlap) if overlap else OVERLAP).total_seconds() / times.unit
    if isinstance(overlap, str):
        raise RunSourceError(f"overlap is {overlap}, but the watermark is a number", "a number, or `epoch`")
    return top - (overlap or 0)


def _not_later(top: Height, now: datetime, times: TimeRules) -> Height:
    """One of the future would hide all that comes until then."""
    if isinstance(top, datetime):
        return min(top, now)
    return min(top, now.timestamp() / times.unit) if times.unit else top


@dataclass(frozen=True)
class _Mark:
    """What a read leaves to the next.

    :ivar top: the highest watermark, :ivar all_at: when all was read last.
    """

    top: Height
    all_at: datetime

    def kept(self) -> dict[str, object]:
        top = {"time": self.top.isoformat()} if isinstance(self.top, datetime) else {"number": self.top}
        return {**top, "all_at": self.all_at.isoformat()}

    @classmethod
    def of(cls, kept: Mapping[str, object]) -> _Mark | None:
        if "all_at" not in kept:
            return None
        number = kept.get("number")
        top = number if isinstance(number, int | float) else datetime.fromisoformat(str(kept["time"]))
        return cls(top, datetime.fromisoformat(str(kept["all_at"])))
