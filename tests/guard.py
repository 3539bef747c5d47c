"""The process that stands over a pool or a cluster: ``python guard.py FOLDER OWNER``, with the standard library alone.

All of it lives in process and mount namespaces of its own. When their first process ends, the kernel ends every
other one and unmounts everything; so ending that one process is all there is to do, and it happens in any case:

- stopped in the ordinary way: the guard gets a SIGTERM;
- the owner died, by whatever: the guard watches it;
- the guard died, by whatever: the kernel then kills its child, and with it the namespaces.

The guard holds a lock on ``FOLDER/guard.lock``, which has this name only once it is locked: a folder whose lock is free
was left by the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

MAKING_SECONDS = 60.0  # a folder without a guard is no younger than this if its maker died


def alive(folder: Path) -> bool:
    """Whether a guard stands over what runs in this folder: it holds the lock as long as it lives."""
    try:
        with (folder / "guard.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def leftovers(folders: Path) -> Iterator[Path]:
    """Those folders whose guards are dead; the kernel has ended their processes and mounts."""
    for folder in folders.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
            being_made = not (folder / "guard.lock").exists() and time.time() - folder.stat().st_mtime < MAKING_SECONDS
            if not being_made and not alive(folder):
                yield folder


def main(folder: Path, owner: int) -> int:
    """Start what the folder's ``init.sh`` describes, and end it when the owner (0: nobody) ends, or on SIGTERM."""
    lock = (folder / "guard.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "guard.new").rename(folder / "guard.lock")
    signal.signal(signal.SIGTERM, _stop)
    ends = [os.pidfd_open(owner)] if owner else []
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(folder / "init.sh")),
    ]
    with (folder / "init.log").open("w") as said:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    try:
        ends.append(os.pidfd_open(child.pid))
        select.select(ends, [], [])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(folder, child)
    return 0


def _end(folder: Path, child: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the namespace and wait: its parent ends only when every process inside has ended."""
    with contextlib.suppress(OSError, ValueError):
        if child.poll() is None:
            os.kill(int((folder / "init.pid").read_text()), signal.SIGKILL)
            child.wait(20)
    with contextlib.suppress(OSError):
        child.kill()
    child.wait()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
