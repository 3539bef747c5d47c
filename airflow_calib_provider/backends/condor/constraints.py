"""Constraints: how jobs are named to a schedd, short whatever their number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

_HISTORY_MARGIN = 30 * 86_400
"""Seconds: the longest time for which another job that has ended may stay in the queue, and clocks may differ."""


def of_clusters(clusters: Sequence[int]) -> str:
    """A constraint for all jobs of these clusters."""
    return ranges("ClusterId", clusters)


def ranges(attribute: str, numbers: Sequence[int]) -> str:
    """A constraint for these numbers, short where they follow each other."""
    parts: list[str] = []
    ordered = sorted(set(numbers))
    start = 0
    for position in range(1, len(ordered) + 1):
        if position == len(ordered) or ordered[position] != ordered[position - 1] + 1:
            first, last = ordered[start], ordered[position - 1]
            one = f"{attribute} == {first}" if first == last else f"({attribute} >= {first} && {attribute} <= {last})"
            parts.append(one)
            start = position
    return " || ".join(parts)


def few_ranges(attribute: str, numbers: Sequence[int], most: int = 50) -> tuple[str, int]:
    """A constraint that is true for these numbers, and for those in the narrowest gaps if there are many gaps.

    :returns: the constraint, and for how many numbers it is true.
    """
    ordered = sorted(set(numbers))
    gaps = sorted(range(1, len(ordered)), key=lambda place: ordered[place] - ordered[place - 1], reverse=True)
    cuts = [0, *sorted(gaps[: most - 1]), len(ordered)]
    ranges = [(ordered[a], ordered[b - 1]) for a, b in itertools.pairwise(cuts) if a < b]
    constraint = " || ".join(f"({attribute} >= {first} && {attribute} <= {last})" for first, last in ranges)
    return constraint, sum(last - first + 1 for first, last in ranges)


def history_end(submitted: float) -> str:
    """Where to stop in the history, from the latest back, when jobs are looked for that were submitted then.

    It is in the order in which jobs left the queue, in which they may be kept long after their end: ten days by
    ``condor_submit -spool``.
    """
    return f"CompletionDate > 0 && CompletionDate < {int(submitted) - _HISTORY_MARGIN}"


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The items in their order, at most so many at once: a constraint has no room for any number of them."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
