"""Processes of this machine, told apart even when a process id is used again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

MARK = "CALIB_LOCAL_JOB"
"""Variable in each job's environment by which its processes are recognised."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Host:
    """A machine between two boots.

    :ivar name: its host name.
    :ivar boot: changes with every boot; containers on one machine share it.
    """

    name: str
    boot: str

    @classmethod
    def here(cls) -> Host:
        """This machine.

        :raises OSError: the machine has no boot id (it is not Linux).
        """
        return cls(socket.gethostname(), BOOT_ID.read_text().strip())

    def is_same_machine(self, other: Host) -> bool:
        """Whether the other is this machine, perhaps before a reboot.

        The boot id alone is enough: within one boot, locks are seen by all containers of a machine.
        """
        return self.name == other.name or self.boot == other.boot


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies."""
    _libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent died, so that it can be known when they are gone."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; ``None`` for one that is gone or a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def marked(marks: Collection[str]) -> list[int]:
    """The processes that carry one of these values of :data:`MARK` in their environment."""
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            # Gone meanwhile, or of another user: not ours in either case.
            with contextlib.suppress(OSError):
                if not wanted.isdisjoint((folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
    return found


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a whole process group; it is no error when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_leftovers(leaders: Mapping[int, int], marks: Collection[str], patience: float = 5.0) -> bool:
    """Kill what jobs left behind whose supervisor died.

    :param leaders: process id → :func:`start_ticks` of the jobs' first processes; a process id that was used again
        since is not touched.
    :param marks: the jobs' values of :data:`MARK`, for processes whose leader is gone.
    :param patience: seconds to wait until they are gone.
    :returns: whether they are.
    """
    deadline = time.monotonic() + patience
    while True:
        alive = [pid for pid, ticks in leaders.items() if start_ticks(pid) == ticks]
        for pid in alive:
            signal_group(pid, signal.SIGKILL)
        others = marked(marks) if marks else []
        for pid in others:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not alive and not others:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
