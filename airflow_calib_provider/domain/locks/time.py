"""A lock that is shut between two times of the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, time
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.clocks import DayTime, ZoneName, odd_moment, odd_words, range_ends
from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.locks.base import BESIDE, Foreseen, LockKind
from airflow_calib_provider.domain.scalars import WHAT, mistake

_A_TIME = 'a time of the day such as "22:00"'
_A_ZONE = "a time zone such as Europe/Zurich or UTC"
_FROM = 2026
"""The first year whose changes of the clock count: a lock is about now."""


class TimeKeys(Keys):
    """The block ``time``."""

    says: ClassVar[str] = "shut between two times of the day; it opens at the second one"
    absent: ClassVar[Mapping[str, str]] = BESIDE

    not_from: Annotated[
        DayTime | None, Words(missing=_A_TIME), Field(description="from then on it is shut, by the clock of `zone`")
    ] = None
    not_until: Annotated[
        DayTime | None,
        Words(missing=_A_TIME),
        Field(description="then it is open again; earlier than `not_from`: on the next day"),
    ] = None
    zone: Annotated[
        ZoneName | None,
        Words(missing=_A_ZONE),
        Field(
            description="whose clock it is; both times must be there exactly once on each day, also when the clock "
            "changes"
        ),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A range that is none, or whose ends a change of the clock repeats or leaves out."""
        if self.not_from is not None and self.not_from == self.not_until:
            yield ("not_until",), mistake(f"{WHAT} is {self.not_until!r}, as not_from is", "another time")
        if self.zone is None:
            return
        for key, at in (("not_from", self.not_from), ("not_until", self.not_until)):
            if at is not None and (said := odd_hour(at, self.zone)):
                hint = "another time, or zone: UTC, whose clock never changes"
                yield (key,), mistake(f"{WHAT} is {at!r}, which {said}", hint)


@cache
def odd_hour(at: str, zone: str) -> str:
    """Whether a change of the clock repeats a time of the day, or leaves it out; empty: it never does from now on."""
    wanted = time.fromisoformat(at)
    found = odd_moment(zone, lambda moment: moment.time() == wanted, since=_FROM)
    if found is None:
        return ""
    return f"{odd_words(found[1])} in {zone} on {found[0]:%Y-%m-%d}, when the clock changes"


class TimeLockKind(LockKind):
    """Shut between two times of the day."""

    name = "time"
    keys = TimeKeys
    example = '{time: {not_from: "08:00", not_until: "18:00", zone: UTC}}'
    once = "each range once"
    loader = "airflow_calib_provider.ledger.locks.time:LOCK"
    release = "time"
    of_runs = False
    may_shut = True

    def on(self, keys: TimeKeys) -> str:
        """The range."""
        return f"the time from {keys.not_from} to {keys.not_until}"

    def row(self, keys: TimeKeys) -> tuple[str, dict[str, JsonValue]]:
        """As it is written."""
        return self.name, {"not_from": keys.not_from, "not_until": keys.not_until, "zone": keys.zone}

    def words(self, parameters: Mapping[str, Any]) -> str:
        """Its hours."""
        return f"not from {parameters['not_from']} until {parameters['not_until']} {parameters['zone']}"

    def foreseen(self, parameters: Mapping[str, Any], closed_at: datetime, end: datetime | None) -> Foreseen:
        """Exactly."""
        begin, until, zone = (str(parameters[name]) for name in ("not_from", "not_until", "zone"))
        return Foreseen("opens", range_ends(begin, until, zone, closed_at) or closed_at)


KIND = TimeLockKind()
