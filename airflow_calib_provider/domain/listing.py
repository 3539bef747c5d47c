"""Lists in texts."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5
"""How many runs a text names before it says "and N more"."""


def of_runs(first: int, last: int) -> str:
    """``"run 3"``, or ``"runs 3–9"``."""
    return f"run {first}" if first == last else f"runs {first}–{last}"


def counted(n: int, what: str) -> str:
    """``"1 job"``, ``"1,234 jobs"``.

    :param what: one of it, whose plural has an s.
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def listed(items: Sequence[object], shown: int = SHOWN) -> str:
    """``"1, 2, 3 and 4 more"``."""
    text = ", ".join(str(item) for item in items[:shown])
    return f"{text} and {len(items) - shown} more" if len(items) > shown else text
