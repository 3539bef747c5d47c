"""A server that ends with its owner, by whatever that dies: ``python owned.py OWNER COMMAND...``.

This process stands between them. It writes the number of the server's process as its first line, and ends it when the
owner (0: nobody) has ended. If this process itself is killed, the kernel kills the server. It needs the standard
library alone.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ENDING_SECONDS = 5.0


@dataclass
class Owned:
    """A server's process, as its owner sees it.

    Attributes:
        number: its process number.
    """

    number: int
    _guard: subprocess.Popen[str]

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._guard.poll() is None

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.running():
            os.kill(self.number, number)

    def wait(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        self._guard.wait(seconds)


def start(
    command: list[str],
    log: Path,
    *,
    owner: int | None = None,
    user: str = "",
    environment: dict[str, str] | None = None,
) -> Owned:
    """Start a server.

    Args:
        command: the program and its arguments.
        log: the file that gets what it says, at the end.
        owner: the process with whose end it ends; by default this one; 0 for none.
        user: as whom it runs, by number, with the group of that number; by default as who calls this.
        environment: its whole environment, if not this process's.
    """
    owner = os.getpid() if owner is None else owner
    # All by one setpriv: the kernel forgets the signal when the user changes.
    change = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    command = ["setpriv", "--pdeathsig", "KILL", *change, *command]
    with log.open("a") as said:
        guard = subprocess.Popen(
            [sys.executable, "-I", __file__, str(owner), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
            env=environment,
        )
    stdout: IO[str] = guard.stdout  # type: ignore[assignment]
    with stdout:
        return Owned(int(stdout.readline() or 0), guard)


def main(owner: int, command: list[str]) -> int:
    """Start the command, and end it when the owner ends."""
    try:
        ends = [os.pidfd_open(owner)] if owner else []
    except ProcessLookupError:
        return 1
    # What it says goes where the guard's errors go, not where its number is read.
    server = subprocess.Popen(command, stdout=sys.stderr)
    ended = os.pidfd_open(server.pid)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.close()
    ready, _, _ = select.select([*ends, ended], [], [])
    if ended not in ready:
        server.send_signal(signal.SIGTERM)
        select.select([ended], [], [], ENDING_SECONDS)
        server.kill()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
