"""Whether a lock's deadline passes while it is shut, and what there is to go on with then (rule 61)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from airflow_calib_provider.planning.records import (
    NEVER,
    OPENS,
    OVERDUE,
    UNKNOWN,
    PlannedDeadline,
    PlannedGroup,
    PlannedLock,
)


def with_deadline(
    leaves: Sequence[PlannedLock], at: datetime, until: datetime, outcome: Callable[[], str]
) -> list[PlannedLock]:
    """Locks of which one is enough, as their deadline lets them be.

    :param until: the end of the plan.
    :param outcome: what happens at the deadline.
    """
    opens = [leaf.opens_at for leaf in leaves if leaf.state == OPENS and leaf.opens_at is not None]
    passed: bool | None
    if opens and min(opens) <= at:
        passed = False
    elif any(leaf.state == UNKNOWN for leaf in leaves) or (at > until and not opens):
        passed = None
    else:
        passed = True
    deadline = PlannedDeadline(at, outcome(), passed)
    return [
        leaf if leaf.state == NEVER else replace(leaf, deadline=deadline, state=OVERDUE if passed else leaf.state)
        for leaf in leaves
    ]


class FirstPublished:
    """When a payload was there first that begins with a run, or before it.

    :param recorded: first run and time of publications.
    """

    def __init__(self, recorded: Sequence[tuple[int, datetime]]) -> None:
        ordered = sorted(recorded)
        self._runs = [run for run, _ in ordered]
        self._since: list[datetime] = []
        for _, at in ordered:
            self._since.append(at if not self._since else min(at, self._since[-1]))

    def since(self, run: int) -> datetime | None:
        """``None``: there was none."""
        place = bisect_right(self._runs, run)
        return self._since[place - 1] if place else None


class FirstPlanned:
    """When a task could first have published for a group that begins with a run, or before it.

    Groups are asked one after the other from the oldest on, so that none asks its way back through all of them.

    :param groups: in the order of their runs.
    :param begins: when the task of a group could begin, and whether that holds whoever asks, as it is in no circle.
    """

    def __init__(
        self, groups: Sequence[PlannedGroup], begins: Callable[[PlannedGroup], tuple[datetime | None, bool]]
    ) -> None:
        self._groups, self._begins = groups, begins
        self._runs = [group.runs[0] for group in groups]
        self._since: list[datetime | None] = []

    def since(self, run: int) -> datetime | None:
        """``None``: there could have been none."""
        wanted = bisect_right(self._runs, run)
        first = self._since[min(wanted, len(self._since)) - 1] if wanted and self._since else None
        settled = True
        for place in range(len(self._since), wanted):
            begins, holds = self._begins(self._groups[place])
            first = min((one for one in (first, begins) if one is not None), default=None)
            settled = settled and holds
            if settled and len(self._since) == place:
                self._since.append(first)
        return first
