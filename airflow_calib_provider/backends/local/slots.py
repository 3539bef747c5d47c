"""The concurrency limit of a host, shared fairly by supervisors that know nothing of each other.

A slot is a file under flock: the kernel returns the slots of a supervisor that dies. Only the supervisor that holds the
*turn* may take slots, so one that collects several for a job neither deadlocks with nor is starved by the others. Who
has had its turn while others wait steps back for longer than they sleep between two looks: hence a set of one job gets
its turn between the jobs of a set of thousands.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

LOOK = 0.05
"""Seconds between two looks of a supervisor that waits for slots."""

_QUANTUM = 0.1
_STEP_BACK = 3 * LOOK


def _lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Slots:
    """One supervisor's part in the slots of its host.

    :param folder: where the files are; made if needed.
    :param count: the limit, as this supervisor knows it.
    :raises OSError: the files cannot be made.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.count = count
        self._folder = folder
        self._turn = self._open("turn")
        self._waiting = self._open("waiting")
        self._since: float | None = None
        self._not_before = 0.0
        self._collected: list[int] = []

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, wanted: int) -> list[int] | None:
        """Try to get this many slots at once.

        :param wanted: not more than ``count``.
        :returns: the slots, to be given back to :meth:`release`; ``None`` if it is to be tried again after
            :data:`LOOK`.
        """
        _lock(self._waiting, fcntl.LOCK_SH)
        if self._since is None:
            if time.monotonic() < self._not_before or not _lock(self._turn, fcntl.LOCK_EX):
                return None
            self._since = time.monotonic()
        for number in range(self.count):
            if len(self._collected) >= wanted:
                break
            # Too many open files, or a full disk: as good as taken.
            with contextlib.suppress(OSError):
                file = self._open(str(number))
                if _lock(file, fcntl.LOCK_EX):
                    self._collected.append(file)
                else:
                    os.close(file)
        if len(self._collected) < wanted:
            return None
        taken, self._collected = self._collected[:wanted], self._collected[wanted:]
        if time.monotonic() - self._since > _QUANTUM:
            self._let_others()
        return taken

    def _let_others(self) -> None:
        fcntl.flock(self._waiting, fcntl.LOCK_UN)
        if _lock(self._waiting, fcntl.LOCK_EX):
            fcntl.flock(self._waiting, fcntl.LOCK_UN)
            return
        self._give_up_turn()
        self._not_before = time.monotonic() + _STEP_BACK

    def _give_up_turn(self) -> None:
        self.release(self._collected)
        self._collected = []
        if self._since is not None:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            self._since = None

    def release(self, taken: list[int]) -> None:
        """Give slots back."""
        for file in taken:
            os.close(file)

    def withdraw(self) -> None:
        """Stop waiting: there is nothing to start now."""
        self._give_up_turn()
        fcntl.flock(self._waiting, fcntl.LOCK_UN)


class WorkersSlots:
    """The part of a supervisor of reserved workers in the slots of its host.

    They keep for days what they have: all of them never take the last slot, so that their own updates, and the jobs of
    others, can run. A worker takes one of the places that workers may have, and only then waits for a slot: it never
    has the turn to wait for one that another worker keeps.

    :param folder: as that of :class:`Slots`.
    :param count: slots of the host.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count - 1
        self._slots = Slots(folder, count)
        self._places = Slots(folder / "workers", self.count)
        self._place: list[int] = []

    def take(self, wanted: int) -> list[int] | None:
        """As :meth:`Slots.take`."""
        if len(self._place) != wanted:
            self._give_up_place()
            self._place = self._places.take(wanted) or []
        if not self._place:
            self._slots.withdraw()
            return None
        if (taken := self._slots.take(wanted)) is None:
            return None
        place, self._place = self._place, []
        return [*taken, *place]

    def _give_up_place(self) -> None:
        self._places.release(self._place)
        self._place = []

    def release(self, taken: list[int]) -> None:
        """Give slots back, and the place with them."""
        self._slots.release(taken)

    def withdraw(self) -> None:
        """Stop waiting: there is nothing to start now."""
        self._give_up_place()
        self._places.withdraw()
        self._slots.withdraw()
