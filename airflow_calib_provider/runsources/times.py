"""When something was, whatever a source writes for it: the one place where times of runs are read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from airflow_calib_provider.domain.clocks import ZoneName
from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.quantities import parse_time
from airflow_calib_provider.domain.scalars import OneOf

EXPECTED = "ISO 8601 such as 2026-03-01T12:00:00Z"

_HAS_ZONE = re.compile(r"(?:Z|[+-]\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d+)?)?)?)$", re.IGNORECASE)
_DATE_ONLY = re.compile(r"\d{4}-?(?:\d{2}-?\d{2}|W\d{2}(?:-?\d)?)$", re.IGNORECASE)
_NUMBER = re.compile(r"\d{9,}(?:\.\d+)?")


def zone_of(name: str) -> tzinfo | None:
    """A time zone by its name; ``None``: there is none of this name on this machine."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):  # unknown ones; names that are no names; folders of names
        return None


class ClockChange(ValueError):
    """A time that a clock change leaves out."""


class TimesKeys(Keys):
    """How a source writes times."""

    zone: Annotated[
        ZoneName,
        Field(description="the zone of times that have none: [times](run-sources.md#times)"),
    ] = "UTC"
    epoch: Annotated[
        Annotated[Literal["seconds", "milliseconds"], OneOf()] | None,
        Words(type="`seconds` or `milliseconds`", default="numbers are no times"),
        Field(description="numbers are times: so many of these since 1970-01-01T00:00:00Z"),
    ] = None

    def times(self) -> TimeRules:
        """How they are read."""
        return TimeRules(zone_of(self.zone) or UTC, {"seconds": 1.0, "milliseconds": 1e-3}.get(self.epoch or "", 0.0))


@dataclass(frozen=True)
class TimeRules:
    """How a source's times are read.

    :ivar zone: of times that have none.
    :ivar unit: seconds that a number counts; 0: numbers are no times.
    """

    zone: tzinfo = UTC
    unit: float = 0.0

    def read(self, value: object, *, later: bool = False) -> datetime:
        """A time.

        :param value: a text, a number, or what a database gives.
        :param later: of an hour that a clock change repeats, the second one.
        :returns: with the time zone UTC.
        :raises ValueError: it is not a time, or one that a clock change leaves out; says so.
        """
        if isinstance(value, str):
            value = value.strip()
            if self.unit and _NUMBER.fullmatch(value):
                return self._counted(float(value))
            return self._written(value, later)
        if isinstance(value, datetime):
            return _in_utc(value) if value.tzinfo is not None else self._local(value, later)
        if isinstance(value, date):
            return self._local(datetime(value.year, value.month, value.day), later)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            if not self.unit:
                raise ValueError(f"{str(value)[:60]} is a number; say with `epoch` what it counts")
            return self._counted(value)
        raise ValueError(f"{str(value)[:60]!r} is no time")

    def _counted(self, number: float | Decimal) -> datetime:
        try:
            if not math.isfinite(number):
                raise ValueError
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(number) * self.unit)
        except (ValueError, OverflowError):
            raise ValueError(f"{str(number)[:60]} is no time") from None

    def _written(self, text: str, later: bool) -> datetime:
        found = parse_time(text)
        if self.zone is UTC or (_HAS_ZONE.search(text) and not _DATE_ONLY.fullmatch(text)):
            return found
        return self._local(found.replace(tzinfo=None), later)

    def _local(self, local: datetime, later: bool) -> datetime:
        found = local.replace(tzinfo=self.zone, fold=int(later))
        try:
            there = found.astimezone(UTC)
            if there.astimezone(self.zone).replace(tzinfo=None, fold=0) != local.replace(fold=0):
                raise ClockChange(f"{local.isoformat(' ')} does not exist in {self.zone}: the clock was changed")
        except OverflowError:
            raise ValueError(f"{local.isoformat(' ')} is no time") from None
        return there


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{at.isoformat(' ')} is no time") from None


def read_span(rules: TimeRules, start: object, end: object) -> tuple[datetime | None, datetime | None]:
    """Start and end of a run; of an hour that a clock change repeats the first is meant, as far as the run can be so.

    :raises ValueError: as :meth:`TimeRules.read`.
    """
    first = None if start is None else rules.read(start)
    last = None if end is None else rules.read(end)
    if first is not None and last is not None and last < first:
        last = rules.read(end, later=True)
    return first, last
