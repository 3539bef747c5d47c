"""What runs are worth, added up."""

from __future__ import annotations

import math
import sys

_LARGEST = sys.float_info.max


def amount(value: object) -> float:
    """A number as a fraction; what is none is 0."""
    return float(value) if isinstance(value, int | float) else 0.0


def is_amount(value: object) -> bool:
    """Whether a value is a number that can be added up."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def add(before: float, more: float) -> float:
    """A sum that can be stored: JSON has no infinity."""
    return max(-_LARGEST, min(before + more, _LARGEST))
