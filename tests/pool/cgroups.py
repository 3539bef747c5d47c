"""Control groups for the jobs of a pool, so that the kernel holds them to the memory that they asked for.

HTCondor takes its control groups only where ``memory``, ``freezer``, ``devices`` and ``cpu,cpuacct`` are mounted under
these names. Version 1 is served here: the pool gets its own view of ``/sys/fs/cgroup`` with these four. Elsewhere (and
with version 2, which wants a delegated subtree) the pool does without, and the startd's policy holds the job after a
few seconds, with another hold code: see :attr:`tests.pool.pool.Pool.memory_hold`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")


def controllers() -> dict[str, Path]:
    """The controllers, by the names that HTCondor wants, and where they are; empty if some are missing."""
    # The accounting is what HTCondor reads; that weights cannot be set where cpu is apart, it takes lightly.
    accounting = next((MOUNTED / name for name in ("cpu,cpuacct", "cpuacct") if (MOUNTED / name).is_dir()), None)
    found = {name: MOUNTED / name for name in ("memory", "freezer", "devices")}
    if accounting is None or not all((path / "cgroup.procs").is_file() for path in found.values()):
        return {}
    return found | {"cpu,cpuacct": accounting}


def create(name: str) -> bool:
    """Make the pool's own groups; whether it has them now."""
    found = controllers()
    try:
        for path in found.values():
            (path / name).mkdir(exist_ok=True)
    except OSError:
        remove(name)
        return False
    return bool(found)


def mounts(inside: str) -> list[str]:
    """The lines of a shell script that make the pool's view of the control groups."""
    place = f"{inside}/sys/fs/cgroup"
    lines = [f"mount -t tmpfs -o mode=755 tmpfs {place}"]
    for name, path in controllers().items():
        lines += [f"mkdir {place}/{name}", f"mount --bind {path} {place}/{name}"]
    return lines


def remove(name: str) -> None:
    """Remove the groups of a pool that has ended."""
    remove_all([path / name for path in controllers().values()])


def remove_all(groups: Sequence[Path], seconds: float = 5) -> None:
    """Remove groups and those in them; the kernel may take a moment to empty them."""
    end = time.monotonic() + seconds
    while left := [group for group in groups if group.is_dir()]:
        for group in left:
            for folder in sorted(group.rglob("*/"), reverse=True):
                with suppress(OSError):
                    folder.rmdir()
            with suppress(OSError):
                group.rmdir()
        if time.monotonic() > end:
            return
        time.sleep(0.02)
