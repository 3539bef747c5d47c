"""How long and how large an answer may be, how secrets are kept out of messages, and what a server asks us to wait."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote

from airflow_calib_provider.errors import OutsideError

CONNECT = 5.0
"""Seconds within which a connection must be there."""
LONGEST_PAUSE = 600.0
"""Seconds: a server that asks for a longer pause is asked again after this time."""
_SHOWN = 300


@dataclass(frozen=True)
class Deadline:
    """The end of what may take some seconds in all.

    :ivar what: is asked, for the message.
    :ivar seconds: that it may take.
    :ivar end: by the monotonic clock.
    """

    what: str
    seconds: float
    end: float

    @classmethod
    def within(cls, seconds: float, what: str) -> Deadline:
        """One that begins now."""
        return cls(what, seconds, time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that are left, above 0.

        :raises OutsideError: none are.
        """
        found = self.end - time.monotonic()
        if found <= 0:
            raise self.passed()
        return found

    def passed(self) -> OutsideError:
        """The error of one that has passed."""
        return OutsideError(
            f"{self.what}: there is no complete answer within {self.seconds:g} s",
            "see why it is slow, or allow more with `timeout`",
        )


def without_secrets(text: str, secrets: Collection[str], longest: int = _SHOWN) -> str:
    """A text of others as it may be shown: without secrets, on one line, not long.

    A secret is also found as others write it: in addresses, in JSON, in base64.
    """
    forms = {form for secret in filter(None, secrets) for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= longest else f"{line[:longest]}..."


@lru_cache(100)
def _forms(secret: str) -> frozenset[str]:
    in_base64 = b64encode(secret.encode("utf-8", "replace")).decode()
    in_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    in_addresses = [quote(secret, safe, errors="replace") for safe in ("/", "")]
    return frozenset((secret, in_base64, in_base64.rstrip("="), *in_json, *in_addresses))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait, from seconds or a date."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(LONGEST_PAUSE, max(0.0, seconds)) if seconds == seconds else None
