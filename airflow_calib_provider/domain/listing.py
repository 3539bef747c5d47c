"""Lists in texts."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5
"""How many runs a text names before it says "and N more"."""


def listed(items: Sequence[object], shown: int = SHOWN) -> str:
    """``"1, 2, 3 and 4 more"``."""
    text = ", ".join(str(item) for item in items[:shown])
    return f"{text} and {len(items) - shown} more" if len(items) > shown else text
