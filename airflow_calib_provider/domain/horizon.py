"""Up to where runs are assigned: a pure function of what a source lists, and of the clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta


def horizon(
    runs: Iterable[tuple[int, bool, datetime | None, datetime | None]],
    now: datetime,
    *,
    settle: timedelta | None = None,
    incomplete_after: timedelta | None = None,
    passed: frozenset[int] = frozenset(),
) -> int:
    """The exclusive bound below which runs are assigned (rule 2).

    :param runs: number, completed, start and end of every run that a complete read of the source listed.
    :param settle: completed runs whose end is more recent than this hold the bound back.
    :param incomplete_after: runs not completed for longer than this since their start are passed.
    :param passed: runs that a person skipped.
    :returns: the lowest run that holds, else the highest completed or passed one + 1, else 0.
    """
    highest = -1
    holding: int | None = None
    for number, completed, start, end in runs:
        stuck = incomplete_after is not None and start is not None and now - start > incomplete_after
        settling = completed and settle is not None and end is not None and now - end < settle
        if number in passed or (completed and not settling) or (not completed and stuck):
            highest = max(highest, number)
        elif holding is None or number < holding:
            holding = number
    return holding if holding is not None else highest + 1
