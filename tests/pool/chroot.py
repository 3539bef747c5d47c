"""A Debian root folder that holds HTCondor 25, the version of the Python bindings: built once, kept in the cache.

The machine's own Debian need not have that version; nothing is installed on it but ``mmdebstrap``, if that is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cache import UnavailableError, kept, say
from tests.pool import containers

RELEASE = "forky"  # the Debian release that has the HTCondor of the Python bindings
PACKAGES = ("minicondor", "python3-minimal")
USER = "calib"  # who jobs run as: HTCondor runs none as root
TOOLS = ("chroot", "mount", "nsenter", "pivot_root", "setpriv", "unshare")  # of every Linux
BUILD_SECONDS = 1200  # a slow mirror, not a slow machine, sets this


def recipe() -> str:
    """All that the built folder depends on; a change of it means a new build."""
    return f"{RELEASE} {' '.join(PACKAGES)} {containers.RELEASE} {' '.join(containers.PACKAGES)} {USER} 1"


def build() -> Path:
    """The root folder, built first if there is none yet (about 100 s and 480 MB, once).

    Raises:
        UnavailableError: it cannot be built here, or not be used.
    """
    if os.geteuid():
        raise UnavailableError("an HTCondor pool for the tests needs root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise UnavailableError(f"an HTCondor pool for the tests needs {', '.join(missing)}")
    return kept("condor-root", recipe(), _build)


def _build(root: Path) -> None:
    _install_mmdebstrap()
    say("building an HTCondor pool (about 100 s, once)")
    # A mirror may lag behind the date that its index states.
    options = ["--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"']
    # The keys of a newer release may be unknown to an older one, and nothing but tests runs in here.
    mirror = _mirror()
    source = f"deb [trusted=yes] {mirror} {RELEASE} main"
    # What it mounts, it mounts for itself: whenever it dies, the folder holds nothing but files.
    _run("unshare", "--mount", "mmdebstrap", *options, f"--include={','.join(PACKAGES)}", RELEASE, str(root), source)
    _run("chroot", str(root), "useradd", "--create-home", USER)
    containers.install(root, mirror, _run)


def _install_mmdebstrap() -> None:
    """Debian's own tool for such folders."""
    if shutil.which("mmdebstrap"):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError("an HTCondor pool for the tests needs mmdebstrap, or apt-get to install it")
    try:
        _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")
    except UnavailableError:  # no package lists yet, as in a fresh container
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")


def _mirror() -> str:
    """The Debian mirror that apt already uses, found by its label: other vendors' sources are passed over."""
    for line in _run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)").splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian" and address:
            return address
    raise UnavailableError("an HTCondor pool for the tests needs a Debian mirror among apt's sources")


def _run(*command: str) -> str:
    """Run a command for its output, and keep what it says for the error."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"cannot build an HTCondor pool: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        raise UnavailableError(f"cannot build an HTCondor pool: {command[0]} ended with {done.returncode}: {said[-1]}")
    return done.stdout
