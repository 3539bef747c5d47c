"""How often somebody may ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

MOST_KNOWN = 1_000
"""Of whom it is remembered when they asked; those who have asked least lately are forgotten."""


class RateLimit:
    """At most so many requests within a time, by whoever asks; in this process.

    :param most: requests.
    :param seconds: within these.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()
        self._turn = threading.Lock()

    def admits(self, who: str) -> bool:
        """Whether somebody may ask now; then it counts."""
        now = time.monotonic()
        with self._turn:
            asked = self._asked.setdefault(who, deque())
            self._asked.move_to_end(who)
            while len(self._asked) > MOST_KNOWN:
                self._asked.popitem(last=False)
            while asked and now - asked[0] > self._seconds:
                asked.popleft()
            if len(asked) >= self._most:
                return False
            asked.append(now)
            return True
