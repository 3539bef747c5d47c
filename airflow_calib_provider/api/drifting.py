"""Values that are not like those before them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from airflow_calib_provider.api.reading import PROMPT, group_values
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.results import GroupValue

AGAINST, LIMIT, LEAST = 20, 5.0, 5
"""Groups before it that a value is compared with, spreads that it may differ by, and the groups that this needs."""

_NORMAL = 1.4826
"""From the median of absolute deviations to the width of a normal distribution."""


@dataclass(frozen=True)
class Drift:
    """The newest point of a trend beside those before it.

    :ivar expected: the median of these.
    :ivar spread: how much they scatter, or the newest one's own error if that is more.
    :ivar n: how many they are.
    """

    point: GroupValue
    expected: float
    spread: float
    n: int

    @property
    def deviation(self) -> float:
        """In spreads; infinite for a value that never changed before."""
        difference = self.point.value - self.expected
        if self.spread:
            return difference / self.spread
        return math.copysign(math.inf, difference) if difference else 0.0


def drift_of(points: Sequence[GroupValue]) -> Drift | None:
    """The last of these points beside the others; ``None``: they are too few."""
    *before, newest = points
    if len(before) < LEAST:
        return None
    numbers = [point.value for point in before]
    expected = median(numbers)
    spread = _NORMAL * median([abs(number - expected) for number in numbers])
    return Drift(newest, expected, max(spread, newest.error or 0.0), len(before))


def value_drift(
    ledger: Ledger,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    against: int = AGAINST,
) -> list[Drift]:
    """The newest group of each value beside the groups before it.

    :param against: so many of them; values of fewer than five are left out.
    :raises NotFound: there is no such campaign, workflow or task.
    """
    series: dict[tuple[str, str, str], list[GroupValue]] = defaultdict(list)
    for point in group_values(ledger, campaign=campaign, workflow=workflow, task=task, name=name, last=against + 1):
        series[point.workflow, point.task, point.name].append(point)
    found = [drift_of(points) for points in series.values()]
    return [item for item in found if item is not None]
