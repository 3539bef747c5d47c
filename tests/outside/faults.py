"""Calls of a store that fail, or of which the caller dies, before or after they have done something."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


class CallFaults:
    """Counts the calls that it wraps; one of them is armed.

    :param before: what a call raises that has done nothing.
    :param after: what a call raises that has done it.
    """

    def __init__(self, before: Exception, after: Exception) -> None:
        self.before, self.after = before, after
        self.count = 0
        self.armed: tuple[int, str, int] | None = None

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """As the call, but for faults."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            what, pid = self.armed[1:] if self.armed is not None and self.armed[0] == self.count else ("", 0)
            if what == "kill_before":
                os.kill(pid, signal.SIGKILL)
            if what == "before":
                raise self.before
            found = call(*args, **kwargs)
            if what == "kill_after":
                os.kill(pid, signal.SIGKILL)
            if what == "after":
                raise self.after
            return found

        return run

    def arm(self, number: int, what: str, pid: int) -> None:
        """Let the call so many calls from now have a fault."""
        self.armed = (self.count + number, what, pid)

    def calls(self) -> int:
        """How many there were."""
        return self.count

    def disarm(self) -> None:
        """No call has a fault any more."""
        self.armed = None
