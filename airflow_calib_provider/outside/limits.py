"""How long and how large an answer may be, how secrets are kept out of messages, and what a server asks us to wait."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
    """A text of others as it may be shown: without secrets, on one line, not long."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= longest else f"{line[:longest]}..."


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
