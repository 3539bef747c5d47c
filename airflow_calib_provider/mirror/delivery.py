"""Lines to an InfluxDB: what it refuses is found by halving, the rest goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    :ivar cut: it was asked to stop; here, too.
    """

    refused: list[tuple[Line, str]] = field(default_factory=list)
    too_old: int = 0
    trouble: Answer | None = None
    cut: bool = False

    @property
    def stopped(self) -> bool:
        """Whether something was not sent: time was up, or the target is in trouble."""
        return self.cut or self.trouble is not None


def deliver(
    client: InfluxClient, route: str, lines: Sequence[Line], *, stop: Callable[[], bool] = lambda: False
) -> Delivery:
    """Write lines; in any number of requests, if the server does not take them all.

    :param stop: asked before each request: thousands may be needed where much is refused.
    """
    made = Delivery()
    _write(client, route, lines, made, stop)
    return made


def _write(client: InfluxClient, route: str, lines: Sequence[Line], made: Delivery, stop: Callable[[], bool]) -> None:
    if stop():
        made.cut = True
        return
    body = "\n".join([line.text for line in lines]).encode("utf-8", "replace")
    answer = client.write(body, route)
    if answer.kind in (Kind.BAD_POINTS, Kind.TOO_LARGE):
        if len(lines) > 1:
            half = len(lines) // 2
            for part in (lines[:half], lines[half:]):
                if not made.stopped:
                    _write(client, route, part, made, stop)
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
