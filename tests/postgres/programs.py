"""PostgreSQL's programs: those of this machine, else Debian's packages, unpacked once and kept in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cache import UnavailableError, cache_folder, kept, say

INSTALLED = Path("/usr/lib/postgresql")
SECONDS = 600  # of one command of apt


@dataclass(frozen=True)
class Programs:
    """Where the programs are, and what they need around them.

    Attributes:
        folder: of ``postgres`` and ``initdb``.
        root: of the unpacked packages; none for programs of this machine.
        environment: what must be set for them.
    """

    folder: Path
    root: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def programs() -> Programs:
    """The newest ones that there are, unpacked first if there are none.

    Raises:
        UnavailableError: none can be had here.
    """
    if folder := _newest(INSTALLED):
        return Programs(folder)
    if found := shutil.which("postgres"):
        return Programs(Path(found).resolve().parent)
    return unpacked()


def unpacked(root: Path | None = None) -> Programs:
    """Those of Debian's packages, from this folder or else from the cache, unpacked first if there are none.

    Raises:
        UnavailableError: they cannot be had here.
    """
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    root = root or kept("postgresql", f"{release} 1", _unpack)
    folder = _newest(root / "usr" / "lib" / "postgresql")
    if not folder:
        raise UnavailableError(f"PostgreSQL's packages in {root} have no program postgres; remove that folder")
    libraries = sorted({str(path.parent) for path in (root / "usr" / "lib").glob("*/lib*.so.*")})
    return Programs(folder, root, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})


def _newest(folder: Path) -> Path | None:
    """Debian's folder of programs of the newest version."""
    found = [path.parent for path in folder.glob("*/bin/postgres") if re.fullmatch(r"\d+", path.parts[-3])]
    return max(found, key=lambda path: int(path.parts[-2])) if found else None


def _unpack(folder: Path) -> None:
    """Fetch what this machine lacks for PostgreSQL, and unpack it; nothing is installed."""
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]:
        raise UnavailableError(f"PostgreSQL for the tests is not installed, and cannot be without {', '.join(missing)}")
    log = cache_folder() / "postgresql.log"
    say(f"fetching PostgreSQL (about 60 MB, once; it writes {log})")
    log.write_text("")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    fetch = ["apt-get", "install", "--yes", "--no-install-recommends", "--download-only"]
    fetch += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "postgresql"]
    try:
        _run(log, *fetch)
    except UnavailableError:  # no package lists yet, as in a fresh container
        _run(log, "apt-get", "update")
        _run(log, *fetch)
    for archive in archives.glob("*.deb"):
        _run(log, "dpkg-deb", "--extract", str(archive), str(folder))
    shutil.rmtree(archives)


def _run(log: Path, *command: str) -> None:
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
        raise UnavailableError(f"cannot fetch PostgreSQL (log: {log}): {error}") from error
    if done.returncode:
        said_last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        raise UnavailableError(f"cannot fetch PostgreSQL (log: {log}): {said_last}")
