"""Keys of locks on what lies outside of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where
from airflow_calib_provider.domain.locks.base import BESIDE
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import WHAT, Duration, mistake

SHORTEST = timedelta(seconds=10)
LONGEST = timedelta(days=1)


class AskedKeys(Keys):
    """How often it is asked."""

    absent: ClassVar[Mapping[str, str]] = BESIDE

    every: Annotated[
        Duration,
        Field(description="how old an answer may become before it is asked again; once for all that ask the same"),
    ] = timedelta(minutes=1)

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Not too often, and not too rarely."""
        if not SHORTEST <= self.every <= LONGEST:
            yield ("every",), mistake(f"{WHAT} is {format_duration(self.every)}", "10s to 1d")

    def asking(self) -> dict[str, JsonValue]:
        """What the rows of all such locks say."""
        return {"every": int(self.every.total_seconds())}
