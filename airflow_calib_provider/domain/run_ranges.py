"""Runs as people write them: ``"100-200,205"``, both ends inclusive."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
from airflow_calib_provider.errors import CalibError

LONGEST = 1_000_000
"""Characters that are read."""

SHOWN = 5
"""Mistakes that are told of one text."""

HINT = 'write numbers and ranges like "100-200,205"'


@dataclass(frozen=True)
class RunRanges:
    """Which runs are meant.

    :ivar ranges: in order, none of which meets another.
    :ivar single: numbers that were named one by one.
    """

    ranges: Sequence[tuple[int, int]]
    single: Sequence[int]

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self.ranges, (number, MAX_RUN_NUMBER + 1)) - 1
        return place >= 0 and self.ranges[place][0] <= number <= self.ranges[place][1]


def parse_ranges(text: str) -> RunRanges:
    """Read runs, separated by commas or line breaks.

    :raises CalibError: they are something else; with the first few mistakes.
    """
    if len(text) > LONGEST:
        raise CalibError(f"the runs are a text of {len(text):,} characters", f"at most {LONGEST:,} are read")
    pairs, single, mistakes = [], [], []
    for part in text.replace("\n", ",").split(","):
        if not part.strip() and "\n" in text:
            continue  # an empty line of a form
        found = _pair(part.strip())
        if isinstance(found, str):
            mistakes.append(found)
            continue
        pairs.append(found)
        if "-" not in part:
            single.append(found[0])
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN} more mistakes" if len(mistakes) > SHOWN else ""
        raise CalibError("; ".join(mistakes[:SHOWN]) + more, HINT)
    return RunRanges(_merged(pairs), single)


def _pair(part: str) -> tuple[int, int] | str:
    """Both ends, or what is wrong."""
    first, dash, last = (piece.strip() for piece in part.partition("-"))
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdecimal() for end in ends):
        return f"{part[:80]!r} is neither a run nor a range of runs"
    for end in ends:
        if len(end.lstrip("0")) > len(str(MAX_RUN_NUMBER)) or int(end) > MAX_RUN_NUMBER:
            return f"no run has the number {end[:40]}: the largest possible one is {MAX_RUN_NUMBER}"
    begin, end_ = int(ends[0]), int(ends[1])
    return (begin, end_) if begin <= end_ else f"the range {part[:80]} ends before it begins"


def _merged(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
