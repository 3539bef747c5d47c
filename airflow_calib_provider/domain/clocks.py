"""Times of the day in a time zone, whose clock may change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from airflow_calib_provider.domain.scalars import Reads, filled, is_text, text, unlike

EPOCH = datetime(1970, 1, 1)
"""From which days are counted, by the clock of any zone."""

YEARS = (2000, 2050)
"""Between which changes of the clock are looked for; before and after, an hour that is left out is the first moment
after it, and one that is there twice the first of the two."""

_NOW = 2025
"""Changes from this year on are named rather than earlier ones."""
_NOWHERE = ("localtime", "posixrules", "Factory")
"""Names under which each machine has another clock, or none."""
_DAY = timedelta(days=1)
_DAY_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_EXPECTED = 'a time of the day such as "06:00"'


def _day_time(value: object) -> str:
    found = text(value, _EXPECTED) if is_text(value) else ""
    if not _DAY_TIME.fullmatch(found):
        raise unlike(value, _EXPECTED, "" if is_text(value) else "put it into quotes")
    return found


def _zone(value: object) -> str:
    found = filled(value, "a time zone")
    if found in _NOWHERE:
        raise unlike(value, "the name of a time zone such as Europe/Zurich, or UTC", "each machine has its own")
    try:
        ZoneInfo(found)
    except (ValueError, KeyError, OSError):  # unknown ones; names that are no names; folders of names
        options = tuple(sorted(available_timezones()))
        raise unlike(
            value, "the name of a time zone such as Europe/Zurich, or UTC", word=found, options=options
        ) from None
    return found


DayTime = Annotated[str, Reads(_day_time, {"type": "string", "pattern": f"^{_DAY_TIME.pattern}$"}, "time of the day")]
ZoneName = Annotated[str, Reads(_zone, {"type": "string", "pattern": r"\S"}, "name of a time zone")]


def since_midnight(at: str) -> timedelta:
    """``"06:30"`` → six hours and a half."""
    hours, _, minutes = at.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """When a clock shows this, in UTC."""
    return local.replace(tzinfo=zone).astimezone(UTC)


def changed_at(zone: str, is_meant: Callable[[datetime], bool]) -> str | None:
    """A moment that is meant and that a change of the clock repeats or leaves out, in words; ``None``: there is none.

    :param is_meant: asked for each minute that clocks show twice or never.
    """
    found = odd_moment(zone, is_meant)
    return None if found is None else f"{found[0]:%Y-%m-%d %H:%M} {odd_words(found[1])}"


def odd_moment(zone: str, is_meant: Callable[[datetime], bool], since: int = YEARS[0]) -> tuple[datetime, bool] | None:
    """As :func:`changed_at`: the moment, and whether it is there twice.

    :param since: the first year that counts.
    """
    found = [one for one in _odd_minutes(zone) if one[0].year >= since and is_meant(one[0])]
    return next((one for one in found if one[0].year >= _NOW), found[0]) if found else None


def odd_words(twice: bool) -> str:
    """What a change of the clock does to a moment."""
    return "is there twice" if twice else "is left out"


@cache
def _odd_minutes(zone: str) -> tuple[tuple[datetime, bool], ...]:
    """The minutes that the clock of a zone shows twice, or never."""
    return tuple(
        (begin + timedelta(minutes=n), twice)
        for begin, length, twice in _changes(ZoneInfo(zone))
        for n in range(int(length / timedelta(minutes=1)))
    )


def _changes(zone: ZoneInfo) -> Iterator[tuple[datetime, timedelta, bool]]:
    """From when on, by the clock, how long, and whether it is there twice."""
    day = datetime(YEARS[0], 1, 1, tzinfo=UTC)
    before = _offset(day, zone)
    while day.year <= YEARS[1]:
        after = _offset(day + _DAY, zone)
        if after != before:
            moment = _change_between(day, day + _DAY, zone).replace(tzinfo=None)
            yield moment + min(before, after), abs(after - before), after < before
        day, before = day + _DAY, after


def _change_between(begin: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    was = _offset(begin, zone)
    while end - begin > timedelta(minutes=1):
        middle = (begin + (end - begin) / 2).replace(second=0, microsecond=0)
        begin, end = (middle, end) if _offset(middle, zone) == was else (begin, middle)
    return end


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def range_ends(not_from: str, not_until: str, zone: str, now: datetime) -> datetime | None:
    """When a range of hours ends that it is in now; ``None``: it is in none.

    :returns: in UTC.
    """
    clock = ZoneInfo(zone)
    here = now.astimezone(clock)
    begin, end = time.fromisoformat(not_from), time.fromisoformat(not_until)
    wall = here.time().replace(tzinfo=None)
    over_night = begin > end
    is_inside = (wall >= begin or wall < end) if over_night else begin <= wall < end
    if not is_inside:
        return None
    day = here.date() + timedelta(days=1 if over_night and wall >= begin else 0)
    return instant(datetime.combine(day, end), clock)
