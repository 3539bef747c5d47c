"""Intervals of validity: pairs of run numbers, both inclusive (rule 25)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Iov:
    """The first and the last run for which a payload holds.

    :raises ValueError: the last run is below the first, or a run is negative.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < self.first:
            raise ValueError(f"[{self.first}, {self.last}] is no interval of validity")

    def overlaps(self, other: Iov) -> bool:
        """Whether a run lies in both."""
        return self.first <= other.last and other.first <= self.last

    def __contains__(self, run: int) -> bool:
        return self.first <= run <= self.last

    def __str__(self) -> str:
        return f"[{self.first}, {self.last}]"
