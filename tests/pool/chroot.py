"""A Debian root folder that holds HTCondor 25, the version of the Python bindings: built once, kept in the cache.

The machine's own Debian need not have that version; nothing is installed on it but ``mmdebstrap``, if that is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELEASE = "forky"  # the Debian release that has the HTCondor of the Python bindings
PACKAGES = ("minicondor", "python3-minimal")
USER = "calib"  # who jobs run as: HTCondor runs none as root
TOOLS = ("chroot", "mount", "nsenter", "setpriv", "unshare")  # of every Linux
BUILD_SECONDS = 1200  # a slow mirror, not a slow machine, sets this


class PoolUnavailableError(Exception):
    """No pool can be had on this machine; the text says why in one line."""


def cache_folder() -> Path:
    """Where builds and running pools lie: ``$CALIB_CI_CACHE``, else the user's cache folder."""
    named = os.environ.get("CALIB_CI_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "airflow-calib-provider"


def recipe() -> str:
    """All that the built folder depends on; a change of it means a new build."""
    return f"{RELEASE} {' '.join(PACKAGES)} {USER} 1"


def root_folder() -> Path:
    """Where the built root folder is, or will be."""
    digest = hashlib.sha256(recipe().encode()).hexdigest()
    return cache_folder() / f"condor-root-{digest[:12]}"


def build() -> Path:
    """The root folder, built first if there is none yet (about 100 s and 340 MB, once).

    Raises:
        PoolUnavailableError: it cannot be built here, or not be used.
    """
    if os.geteuid():
        raise PoolUnavailableError("an HTCondor pool for the tests needs root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise PoolUnavailableError(f"an HTCondor pool for the tests needs {', '.join(missing)}")
    root = root_folder()
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.parent / "condor-root.lock"):
        if not root.is_dir():  # another process may have built it while this one waited
            _build(root)
    return root


def _build(root: Path) -> None:
    """Build aside, then rename: a build that was interrupted is never taken for a finished one."""
    for leftover in root.parent.glob(f"{root.name}.building-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _install_mmdebstrap()
    sys.stderr.write("building an HTCondor pool (about 100 s, once)\n")
    sys.stderr.flush()
    aside = Path(tempfile.mkdtemp(prefix=f"{root.name}.building-", dir=root.parent))
    aside.chmod(0o755)
    try:
        # A mirror may lag behind the date that its index states.
        options = ["--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"']
        # The keys of a newer release may be unknown to an older one, and nothing but tests runs in here.
        source = f"deb [trusted=yes] {_mirror()} {RELEASE} main"
        # What it mounts, it mounts for itself: whenever it dies, the folder holds nothing but files.
        _run(
            "unshare", "--mount", "mmdebstrap", *options, f"--include={','.join(PACKAGES)}", RELEASE, str(aside), source
        )
        _run("chroot", str(aside), "useradd", "--create-home", USER)
        aside.rename(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _install_mmdebstrap() -> None:
    """Debian's own tool for such folders."""
    if shutil.which("mmdebstrap"):
        return
    if not shutil.which("apt-get"):
        raise PoolUnavailableError("an HTCondor pool for the tests needs mmdebstrap, or apt-get to install it")
    try:
        _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")
    except PoolUnavailableError:  # no package lists yet, as in a fresh container
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")


def _mirror() -> str:
    """The Debian mirror that apt already uses, found by its label: other vendors' sources are passed over."""
    for line in _run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)").splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian" and address:
            return address
    raise PoolUnavailableError("an HTCondor pool for the tests needs a Debian mirror among apt's sources")


def _run(*command: str) -> str:
    """Run a command for its output, and keep what it says for the error."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PoolUnavailableError(f"cannot build an HTCondor pool: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        raise PoolUnavailableError(
            f"cannot build an HTCondor pool: {command[0]} ended with {done.returncode}: {said[-1]}"
        )
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel frees the lock when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
