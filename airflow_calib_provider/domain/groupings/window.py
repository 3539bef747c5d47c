"""The runs that start in a window of time are a group: a night, a shift, a week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.clocks import (
    EPOCH,
    DayTime,
    ZoneName,
    changed_at,
    instant,
    since_midnight,
)
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.groupings.base import GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.keys import Where, Words
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import WHAT, Duration, mistake

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_END = "window_end"
"""Among the marks of a group: when the newest window of which it has runs is over."""


@dataclass(frozen=True)
class Windows:
    """All windows, one after the other, by the clock of a zone.

    :ivar at: since midnight, where one begins.
    """

    every: timedelta
    at: timedelta
    zone: ZoneInfo

    def of(self, time: datetime) -> tuple[datetime, datetime]:
        """Begin and end, by the clock, of the window in which a moment lies; its end is not in it."""
        local = time.astimezone(self.zone).replace(tzinfo=None)
        begin = EPOCH + self.at + (local - EPOCH - self.at) // self.every * self.every
        return begin, begin + self.every

    def is_edge(self, local: datetime) -> bool:
        """Whether a window begins when the clock shows this."""
        return not (local - EPOCH - self.at) % self.every


@lru_cache(64)
def windows(every: float, at: str, zone: str) -> Windows:
    """:param every: in seconds."""
    return Windows(timedelta(seconds=every), since_midnight(at), ZoneInfo(zone))


class WindowKeys(SeveralRunsKeys):
    """The block ``window``."""

    says: ClassVar[str] = "the runs that start in a window of time: [group_by.window](#group_bywindow)"

    every: Annotated[
        Duration,
        Words(name="{above}.{key}"),
        Field(description="the length of the windows: it divides a day, or is whole days, counted from 1970-01-01"),
    ] = _DAY
    at: Annotated[
        DayTime,
        Words(name="{above}.{key}", default='`"00:00"`'),
        Field(description="when a window begins, by the clock of `zone`"),
    ] = "00:00"
    zone: Annotated[
        ZoneName | None,
        Words(name="{above}.{key}", missing="a time zone such as Europe/Zurich, or UTC"),
        Field(
            description="whose clock it is; each moment at which a window begins must be there exactly once, also when "
            "the clock changes"
        ),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Windows fill days, and begin when the clock says so once."""
        yield from super().check()
        if self.every < _MINUTE or (_DAY % self.every and self.every % _DAY):
            said = f"{WHAT} is {format_duration(self.every)}, which neither divides a day nor is whole days"
            yield ("every",), mistake(said, "expected such as 1h, 8h, 1d or 7d, at least 1m")
            return
        if self.zone is None:
            return
        ours = windows(self.every.total_seconds(), self.at, self.zone)
        if (odd := changed_at(self.zone, ours.is_edge)) is not None:
            hint = "another time, or zone: UTC, whose clock never changes"
            yield (
                ("at",) if self.has("at") else ("every",) if self.has("every") else (),
                mistake(
                    f"a window begins when the clock of {self.zone} changes: {odd}", "a time that is there once", hint
                ),
            )


class WindowKind(GroupingKind):
    """The runs that start in a window of time."""

    name = "window"
    keys = WindowKeys
    until = "closes when a run of a later window completes"
    example = "{window: {every: 1d, zone: Europe/Zurich}}"
    needs_times = True
    waits_from_end = False

    def policy(self, keys: WindowKeys, label: str) -> Grouping:
        """With the windows."""
        options: dict[str, JsonValue] = {"every": keys.every.total_seconds(), "at": keys.at, "zone": keys.zone}
        return Grouping(kind=self.name, label=label, options=options)

    def needed(self, policy: Grouping) -> Sequence[str]:
        """A run of no time is in no window."""
        return ("start",)

    def opens(self, policy: Grouping, run: RunFacts) -> Mapping[str, JsonValue]:
        """The window of its first run."""
        if run.start is None:
            return {}
        begin, end = _windows(policy).of(run.start)
        return {"window": f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, {policy.options['zone']}"}

    def took(self, group: GroupDraft, run: RunFacts) -> None:
        """A run of a later window makes that the newest one; one of an earlier window counts in that which forms."""
        if run.start is not None and ((end := _end(group)) is None or run.start >= end):
            ours = _windows(group.policy)
            group.marks[_END] = instant(ours.of(run.start)[1], ours.zone).isoformat()

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A run of a later window ends the one before."""
        end = _end(group)
        if end is not None and run.start is not None and run.start >= end:
            group.finish("later_window", by=run.number)

    def due(self, group: GroupDraft) -> datetime | None:
        """When its window is over for as long as a later one is waited for."""
        wait, end = group.policy.max_wait, _end(group)
        return end + wait if wait is not None and end is not None else None

    def at_last(self, group: GroupDraft) -> None:
        """Nothing follows, so its window is over: only one that would go on is unfinished."""
        group.finish("last_window")


def _windows(policy: Grouping) -> Windows:
    options: Mapping[str, Any] = policy.options
    return windows(options["every"], options["at"], options["zone"])


def _end(group: GroupDraft) -> datetime | None:
    found = group.marks.get(_END)
    return datetime.fromisoformat(found) if isinstance(found, str) else None


KIND = WindowKind()
