"""Containers on the test pool: Apptainer in its root folder, and a small image without anything of ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cache import UnavailableError, say

RELEASE = "sid"  # of Debian, the only one that has Apptainer
PACKAGES = ("apptainer", "busybox-static")
IMAGE_NAME = "NAME=image-of-the-tests"
_COMMANDS = ("sh", "cat", "cp", "echo", "grep", "id", "ls", "mkdir", "rm", "sleep", "touch", "test", "base64", "env")


def install(root: Path, mirror: str, run: Callable[..., str]) -> None:
    """Install Apptainer into a pool's root folder; where that cannot be done, a line says so, and the pool has none.

    Args:
        mirror: the Debian mirror.
        run: runs a command for its output.
    """
    source, names = root / "etc/apt/sources.list.d/containers.list", root / "etc/resolv.conf"
    source.write_text(f"deb [trusted=yes] {mirror} {RELEASE} main\n")
    kept = names.read_bytes() if names.is_file() else b""
    shutil.copyfile("/etc/resolv.conf", names)
    try:
        run("chroot", str(root), "apt-get", "-o", "Acquire::Check-Valid-Until=false", "update")
        run("chroot", str(root), "apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES)
        run("chroot", str(root), "apt-get", "clean")
    except UnavailableError as error:
        say(f"the pool has no containers: {error}")
    finally:
        source.unlink()
        names.write_bytes(kept)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def installed(root: Path) -> bool:
    """Whether a root folder has Apptainer, and what an image is made of."""
    return (root / "usr/bin/apptainer").exists() and (root / "usr/bin/busybox").exists()


def make_image(root: Path, folder: Path) -> Path:
    """An image as a folder: a shell, a few commands, and no Python.

    Raises:
        UnavailableError: the pool has no containers.
    """
    if not installed(root):
        raise UnavailableError("the pool has no containers: Apptainer could not be installed")
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var/tmp"):
        (folder / name).mkdir(parents=True)
    shutil.copy2(root / "usr/bin/busybox", folder / "bin" / "busybox")
    for name in _COMMANDS:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/os-release").write_text(f"{IMAGE_NAME}\n")
    for name in ("passwd", "group", "hosts", "resolv.conf", "localtime"):
        (folder / "etc" / name).touch()
    # What `apptainer build` puts into every image; it would need network, or more rights than the pool has.
    actions = folder / ".singularity.d" / "actions"
    actions.mkdir(parents=True)
    for name, text in (("exec", 'exec "$@"'), ("run", 'exec "$@"'), ("test", "exit 0")):
        (actions / name).write_text(f"#!/bin/sh\n{text}\n")
        (actions / name).chmod(0o755)
    return folder
