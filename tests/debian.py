"""Debian's packages, unpacked into a folder: nothing is installed on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cache import UnavailableError, cache_folder, say

SECONDS = 600  # of one command of apt


def release() -> str:
    """What this machine runs: packages are of its own release."""
    file = Path("/etc/os-release")
    return file.read_text() if file.exists() else ""


def libraries(folder: Path) -> str:
    """The value of ``LD_LIBRARY_PATH`` with which unpacked programs find their unpacked libraries."""
    return os.pathsep.join(sorted({str(path.parent) for path in (folder / "usr" / "lib").glob("*/lib*.so.*")}))


def unpack(folder: Path, what: str, size: str, *packages: str) -> None:
    """Fetch packages, and what they need and this machine lacks, and unpack them.

    Args:
        folder: where, a new one.
        what: what that is, for people.
        size: how much is fetched, for people.
        packages: their names; they are fetched also if they are installed.

    Raises:
        UnavailableError: they cannot be had here.
    """
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]:
        raise UnavailableError(f"{what} for the tests is not installed, and cannot be without {', '.join(missing)}")
    log = cache_folder() / f"{packages[0]}.log"
    say(f"fetching {what} (about {size}, once; it writes {log})")
    log.write_text("")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    fetch = ["apt-get", "install", "--reinstall", "--yes", "--no-install-recommends", "--download-only"]
    fetch += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", *packages]
    try:
        _run(what, log, *fetch)
    except UnavailableError:  # no package lists yet, as in a fresh container
        _run(what, log, "apt-get", "update")
        _run(what, log, *fetch)
    for archive in archives.glob("*.deb"):
        _run(what, log, "dpkg-deb", "--extract", str(archive), str(folder))
    shutil.rmtree(archives)


def _run(what: str, log: Path, *command: str) -> None:
    try:
        with log.open("a") as said:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=SECONDS,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"cannot fetch {what} (log: {log}): {error}") from error
    if done.returncode:
        said_last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        raise UnavailableError(f"cannot fetch {what} (log: {log}): {said_last}")
