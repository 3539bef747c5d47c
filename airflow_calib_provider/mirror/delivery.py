"""Lines to an InfluxDB: what it refuses is found by halving, the rest goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from airflow_calib_provider.mirror.client import Answer, InfluxClient, Kind


class Line(NamedTuple):
    """A point as it is written, with the event that it is of."""

    event: int
    measurement: str
    text: str


@dataclass
class Delivery:
    """What became of some lines.

    :ivar refused: those that the server will not have, and why.
    :ivar too_old: how many were older than the retention.
    :ivar trouble: what stopped it; the lines have to be written again then.
    """

    refused: list[tuple[Line, str]] = field(default_factory=list)
    too_old: int = 0
    trouble: Answer | None = None


def deliver(client: InfluxClient, route: str, lines: Sequence[Line]) -> Delivery:
    """Write lines; in any number of requests, if the server does not take them all."""
    made = Delivery()
    _write(client, route, lines, made)
    return made


def _write(client: InfluxClient, route: str, lines: Sequence[Line], made: Delivery) -> None:
    body = "\n".join([line.text for line in lines]).encode("utf-8", "replace")
    answer = client.write(body, route)
    if answer.kind in (Kind.BAD_POINTS, Kind.TOO_LARGE):
        if len(lines) > 1:
            half = len(lines) // 2
            for part in (lines[:half], lines[half:]):
                if made.trouble is None:
                    _write(client, route, part, made)
            return
        # Asked once more, so that what a proxy answers in passing sets nothing aside.
        answer = client.write(body, route)
        if answer.kind in (Kind.BAD_POINTS, Kind.TOO_LARGE):
            made.refused.append((lines[0], answer.said))
            return
    if answer.kind is Kind.TOO_OLD:
        made.too_old += answer.dropped
    elif not answer.ok:
        made.trouble = answer
