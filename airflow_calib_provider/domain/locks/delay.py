"""A lock that opens some time after the runs, or after the group was closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.locks.base import BESIDE, Foreseen, LockKind
from airflow_calib_provider.domain.quantities import DURATION, format_duration
from airflow_calib_provider.domain.scalars import WHAT, Duration, OneOf, mistake

LONGEST = timedelta(days=365)
"""What is longer is a mistake: nobody waits for years on purpose."""


class DelayKeys(Keys):
    """The block ``delay``."""

    says: ClassVar[str] = "open some time after the end of the last run, or after the group was closed"
    absent: ClassVar[Mapping[str, str]] = BESIDE

    lasts: Annotated[
        Duration | None,
        Words(missing=DURATION),
        Field(alias="for", description="how long, at most 365 days"),
    ] = None
    after: Annotated[
        Annotated[Literal["run_end", "group_closed"], OneOf()],
        Field(
            description="from when on it counts: the end of the group's last run (a group whose runs have no end then "
            "fails, and says so), or when the group was closed"
        ),
    ] = "run_end"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Nobody waits for years."""
        if self.lasts is not None and self.lasts > LONGEST:
            yield ("for",), mistake(f"{WHAT} is {format_duration(self.lasts)}", "at most 365d")


class DelayLockKind(LockKind):
    """Open some time after the end of the last run, or after the group was closed."""

    name = "delay"
    keys = DelayKeys
    example = "{delay: {for: 6h, after: run_end}}"
    once = "one delay"
    loader = "airflow_calib_provider.ledger.locks.delay:LOCK"
    release = "time"
    of_runs = False

    def on(self, keys: DelayKeys) -> str:
        """Two from the same moment are one."""
        return f"the time after {keys.after}"

    def row(self, keys: DelayKeys) -> tuple[str, dict[str, JsonValue]]:
        """With the seconds."""
        seconds = int(keys.lasts.total_seconds()) if keys.lasts is not None else 0
        return self.name, {"for": seconds, "after": keys.after}

    def words(self, parameters: Mapping[str, Any]) -> str:
        """How long, and after what."""
        return f"{format_duration(timedelta(seconds=parameters['for']))} after {parameters['after']}"

    def foreseen(self, parameters: Mapping[str, Any], closed_at: datetime, end: datetime | None) -> Foreseen:
        """Exactly."""
        since = end if parameters["after"] == "run_end" else closed_at
        if since is None:
            return Foreseen("never", None, "the runs of the group have no end")
        return Foreseen("opens", max(closed_at, since + timedelta(seconds=parameters["for"])))


KIND = DelayLockKind()
