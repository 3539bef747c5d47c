"""The browser's program: that of this machine, else Debian's package, installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cache import UnavailableError, cache_folder, locked, say

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")
SECONDS = 600  # of one command of apt


def chromium() -> Path:
    """The program, installed first if there is none.

    Raises:
        UnavailableError: it cannot be had here.
    """
    if found := _installed():
        return found
    if os.geteuid() or not shutil.which("apt-get"):
        raise UnavailableError("there is no chromium, and only root can install Debian's with apt-get")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "chromium.log"
    with locked(folder / "chromium.lock", "waiting for another process that installs chromium"):
        if not (found := _installed()):
            say(f"installing chromium (about 100 MB, once; it writes {log})")
            _install(log)
            found = _installed()
    if not found:
        raise UnavailableError(f"Debian's package of chromium brought no such program (log: {log})")
    return found


def _installed() -> Path | None:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else None


def _install(log: Path) -> None:
    log.write_text("")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES)
    try:
        _run(log, *install)
    except UnavailableError:  # no package lists yet, as in a fresh container
        _run(log, "apt-get", "update")
        _run(log, *install)


def _run(log: Path, *command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        with log.open("a") as said:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=SECONDS, env=environment
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"chromium cannot be installed (log: {log}): {error}") from error
    if done.returncode:
        said_last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        raise UnavailableError(f"chromium cannot be installed (log: {log}): {said_last}")
