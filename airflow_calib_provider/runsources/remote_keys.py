"""Keys of sources that are asked over a network: the connection, how long it may take, what is read again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.quantities import parse_duration
from airflow_calib_provider.domain.scalars import Duration, Filled, Reads, integer, mistake, text, unlike

LONGEST = timedelta(minutes=30)
"""That a source may take: the others of its injection wait as long."""


def _overlap(value: object) -> str | int:
    if isinstance(value, nodes.Scalar) and value.kind == "int":
        return integer(value, 0, 10**9)
    found = text(value, "a duration such as 1h, or a whole number")
    try:
        parse_duration(found)
    except ValueError as error:
        raise unlike(value, "a duration such as 1h, or a whole number") from error
    return found


_Overlap = Annotated[
    str | int, Reads(_overlap, {"type": ["string", "integer"], "minimum": 0}, "duration, or whole number")
]


class WatermarkKeys(Keys):
    """How the next read goes on where the last one ended."""

    watermark: Annotated[
        Filled | None,
        Words(default="everything is read every time"),
        Field(description="what grows whenever a run is new or changes: [watermarks](run-sources.md#watermarks)"),
    ] = None
    overlap: Annotated[
        _Overlap | None,
        Words(default="`1h`; of numbers 0"),
        Field(description="so much before the highest watermark is read again"),
    ] = None
    all_every: Annotated[Duration, Field(description="after this long everything is read again")] = timedelta(days=1)
    timeout: Annotated[Duration, Field(description="a read may take this long in all")] = timedelta(minutes=1)

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What belongs to a watermark needs one."""
        for name in ("overlap", "all_every"):
            if self.watermark is None and not self.has("watermark") and self.has(name):
                yield (name,), mistake(f"{name} belongs to a watermark", "a watermark", at_key=True)
        if self.timeout > LONGEST:
            yield ("timeout",), mistake(f"timeout is longer than {LONGEST.seconds // 60} minutes", "at most 30m")
