"""Whether the values of a validation are what they should be: pure functions of values and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from airflow_calib_provider.domain.model import Model
from airflow_calib_provider.domain.quantities import format_number


class Limit(Model):
    """What a value must be.

    :ivar target: what it should be, :ivar tolerance: how far from that it may be, in its own unit.
    :ivar low: it must be larger, :ivar high: it must be smaller.
    :ivar inclusive: it may also be equal to these.
    """

    target: float | None = None
    tolerance: float = 0.0
    low: float | None = None
    high: float | None = None
    inclusive: bool = False

    def allows(self, value: float) -> bool:
        """Whether it is met; what is no number meets nothing."""
        if not math.isfinite(value):
            return False
        if self.target is not None:
            # What is written with few digits may lie on the end: a comparison must not depend on the last bit.
            far = abs(value - self.target)
            return far <= self.tolerance or math.isclose(far, self.tolerance, rel_tol=1e-12)
        if self.inclusive:
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return (self.low is None or value > self.low) and (self.high is None or value < self.high)

    def __str__(self) -> str:
        if self.target is not None:
            return f"within {format_number(self.tolerance)} of {format_number(self.target)}"
        if self.low is not None and self.high is not None:
            return f"between {format_number(self.low)} and {format_number(self.high)}"
        if self.low is not None:
            return f"above {format_number(self.low)}"
        return f"below {format_number(self.high)}" if self.high is not None else "anything"


@dataclass(frozen=True)
class Finding:
    """What was found of one value.

    :ivar values: as reported, by whichever jobs; none: nobody reported it.
    :ivar asked: what it must be, in words.
    """

    name: str
    values: tuple[float, ...]
    asked: str
    passed: bool

    def said(self) -> str:
        """In words: ``jump is 0.07, asked is below 0.05``."""
        shown = ", ".join(format_number(value) for value in self.values[:3]) + (", …" if len(self.values) > 3 else "")
        return f"{self.name} {f'is {shown}' if self.values else 'was not reported'}, asked is {self.asked}"

    def as_dict(self) -> dict[str, object]:
        """As the ledger keeps it: what is no number is a text there, as JSON has none."""
        values = [value if math.isfinite(value) else str(value) for value in self.values]
        return {**asdict(self), "values": values}


def judge(limits: Mapping[str, Limit], values: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Compare values with what was asked of them, in the order in which it was asked.

    A value that several jobs report must be right in all of them, and one that nobody reports is wrong.

    :param values: by name.
    """
    found = []
    for name, limit in limits.items():
        here = tuple(values.get(name, ()))
        found.append(Finding(name, here, str(limit), bool(here) and all(limit.allows(value) for value in here)))
    return found
