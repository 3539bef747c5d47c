"""Text of others, shown to people."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """Text without characters that a terminal or a browser would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
