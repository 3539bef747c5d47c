"""Processes of this machine, told apart even when a process id is used again."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MARK = "CALIB_LOCAL_JOB"
"""Variable in each job's environment by which its processes are recognised."""

_MARK_FILE = "calib-local-job"
_MARK_NUMBER = 200
"""The least number of the open file that says the same; programs use the lower ones."""
_LONGEST_MARK = 8_192

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
        """The machine that this process runs on.

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


def die_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this process a signal when its parent dies."""
    _libc().prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent died, so that it can be known when they are gone."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class _Stat(NamedTuple):
    parent: int
    ticks: int
    alive: bool


def _stat(pid: int) -> _Stat | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # A zombie with further threads is a process whose first thread has ended: it runs.
    return _Stat(int(fields[1]), int(fields[19]), fields[0] not in (b"Z", b"X") or int(fields[17]) > 1)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; ``None`` for one that is gone or a zombie."""
    found = _stat(pid)
    return found.ticks if found and found.alive else None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - names are all that is wanted


def families(roots: Collection[int], spared: Collection[int] = ()) -> dict[int, int]:
    """All descendants of some processes, without these themselves, zombies included: process id → start ticks.

    :param spared: processes that are left out, with all that descends from them.
    """
    stats = {pid: found for pid in _pids() if (found := _stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, found in stats.items():
        children.setdefault(found.parent, []).append(pid)
    family: dict[int, int] = {}
    left = list(roots)
    while left:
        for pid in children.get(left.pop(), ()):
            if pid not in family and pid not in spared:
                family[pid] = stats[pid].ticks
                left.append(pid)
    return family


def leave_mark(mark: str) -> None:
    """Hold the mark open, too, for this process and all that it starts: an environment is easily emptied.

    It is a file in memory that nobody else opens. What closes all files, and has no environment either, loses it.
    """
    with contextlib.suppress(OSError):
        file = os.memfd_create(_MARK_FILE)
        os.write(file, mark.encode(errors="surrogateescape"))
        fcntl.fcntl(file, fcntl.F_DUPFD, _MARK_NUMBER)
        os.close(file)


def _held_mark(process: Path) -> str | None:
    """The mark that a process holds open."""
    for name in os.listdir(process / "fd"):  # noqa: PTH208 - names are all that is wanted
        file = process / "fd" / name
        with contextlib.suppress(OSError):
            if os.readlink(file).startswith(f"/memfd:{_MARK_FILE} "):  # noqa: PTH115 - the text as it stands
                with file.open("rb") as stream:
                    return stream.read(_LONGEST_MARK).decode(errors="surrogateescape")
    return None


def marked(marks: Collection[str]) -> list[int]:
    """The processes that carry one of these values of :data:`MARK`."""
    return [pid for pid, mark in all_marked().items() if mark in marks]


def all_marked() -> dict[int, str]:
    """All living processes that carry a :data:`MARK` which this user may read, with its value."""
    start = f"{MARK}=".encode()
    found = {}
    for pid in _pids():
        process = _PROC / str(pid)
        # Gone meanwhile, or of another user: not ours in either case.
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            stated = next((item[len(start) :] for item in variables if item.startswith(start)), None)
            mark = _held_mark(process) if stated is None else stated.decode(errors="surrogateescape")
            if mark is not None:
                found[pid] = mark
    return found


def _send(pid: int, ticks: int, number: signal.Signals) -> bool:
    """Signal a process if it still is the one that started then; whether it is, and may be signalled."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:  # an old kernel, or a container that forbids it: there is a moment in between, then
        file = None
    try:
        # The file is of one process for ever, whatever becomes of its id.
        found = _stat(pid)
        if found is None or found.ticks != ticks:
            return False
        if file is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(file, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if file is not None:
            os.close(file)
    return True


def signal_family(root: int, number: signal.Signals) -> None:
    """Signal everything that descends from a process, but not this one itself."""
    for pid, ticks in families([root]).items():
        _send(pid, ticks, number)


def kill_family(root: int, spared: Collection[int] = ()) -> bool:
    """Kill everything that descends from a process, but not this one itself.

    :param spared: processes that are left alone, with all that descends from them.
    :returns: whether anything is left that could be signalled, if only to be waited for: what was killed takes a moment
        to be gone, and may have had children. What belongs to other users does not count.
    """
    killed = [pid for pid, ticks in families([root], spared).items() if _send(pid, ticks, signal.SIGKILL)]
    return bool(killed)


def kill_leftovers(leaders: Mapping[int, int], marks: Collection[str], patience: float = 5.0) -> bool:
    """Kill what jobs left behind whose supervisor died.

    :param leaders: process id → :func:`start_ticks` of the jobs' keepers; a process id that was used again since is not
        touched. They end by themselves when nothing is left below them, and are killed if they do not.
    :param marks: the jobs' values of :data:`MARK`, for processes whose keeper is gone.
    :param patience: seconds to wait until they are gone.
    :returns: whether they are.
    """
    begin = time.monotonic()
    while True:
        alive = {pid: ticks for pid, ticks in leaders.items() if start_ticks(pid) == ticks}
        others = marked(marks) if marks else []
        found = families([*alive, *others])
        found |= {pid: ticks for pid in others if (ticks := start_ticks(pid)) is not None}
        if not found and time.monotonic() > begin + patience / 2:
            found = alive
        # One that is dead may never be waited for by whoever has inherited it.
        killed = [pid for pid, ticks in found.items() if start_ticks(pid) and _send(pid, ticks, signal.SIGKILL)]
        if not alive and not killed:
            return True
        if time.monotonic() > begin + patience:
            return False
        time.sleep(0.02)
