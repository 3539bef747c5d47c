"""SciTokens and other JSON Web Tokens: what they say of their expiry. Whether they are signed is not looked at."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime


def expiry(content: bytes) -> datetime | None:
    """When a token expires; ``None``: never.

    :raises ValueError: it is none.
    """
    parts = content.strip().split(b".")
    if len(parts) != 3:
        raise ValueError("it is no JSON Web Token")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        # What was read is not told: it is secret.
        raise ValueError("it is no JSON Web Token") from None
    until = claims.get("exp") if isinstance(claims, dict) else None
    if until is None:
        return None
    if isinstance(until, bool) or not isinstance(until, int | float):
        raise ValueError("its expiry (exp) is no number")
    try:
        return datetime.fromtimestamp(until, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError("its expiry (exp) is no time") from None
