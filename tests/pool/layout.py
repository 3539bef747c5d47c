"""A pool's own folder: what is prepared in it before the start, and what remains of a dead pool's."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.cache import cache_folder
from tests.guard import leftovers
from tests.pool import cgroups
from tests.pool.chroot import USER
from tests.pool.config import CPUS, DOMAIN, FOLDERS, PLACE, configuration

OTHER_SPOOL_MEGABYTES = 64  # small, so that a test can fill it


def pools_folder() -> Path:
    """Where the folders of the running pools are."""
    return cache_folder() / "pools"


def new_folder(name: str | None = None) -> Path:
    """An empty folder for a pool, under a name for one that is found again by hand.

    Raises:
        FileExistsError: a pool of that name runs.
    """
    pools_folder().mkdir(parents=True, exist_ok=True)
    if name is None:
        made = Path(tempfile.mkdtemp(prefix="pool-", dir=pools_folder()))
    else:
        made = pools_folder() / name
        made.mkdir()
    made.chmod(0o755)  # jobs, which are another user's, pass through
    return made


def remove_leftovers() -> None:
    """Remove the folders of pools that were killed."""
    for folder in leftovers(pools_folder()):
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a dead pool's folder and control groups, but keep its log as the last one."""
    cgroups.remove(control_group(folder))
    last = cache_folder() / "condor-log"
    shutil.rmtree(last, ignore_errors=True)
    with suppress(OSError):
        (folder / "log").rename(last)
    shutil.rmtree(folder, ignore_errors=True)


def control_group(folder: Path) -> str:
    """The name of a pool's control groups."""
    return f"calib-{folder.name}"


def prepare(
    folder: Path,
    root: Path,
    shared: Path,
    visible: Iterable[Path],
    cpus: int = CPUS,
    *,
    negotiates_as_usual: bool = False,
) -> int:
    """Write the configuration, the signing keys and the first process's script; the port chosen is returned."""
    port = free_port()
    for name in (*FOLDERS, "root"):
        (folder / name).mkdir(exist_ok=True)
    for name in ("passwords.d", "tokens.d", "token"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    # Text, since HTCondor cuts a key at its first zero byte.
    write_private(folder / "passwords.d" / "POOL", secrets.token_hex(32))
    write_private(folder / "passwords.d" / "STRANGER", secrets.token_hex(32))
    grouped = cgroups.create(control_group(folder))
    group = control_group(folder) if grouped else ""
    text = configuration(port, shared, group, cpus, negotiates_as_usual=negotiates_as_usual)
    (folder / "condor_config").write_text(text)
    (folder / "init.sh").write_text(init_script(folder, root, shared, visible, grouped=grouped))
    return port


def write_private(path: Path, text: str) -> None:
    """Write a secret that no other user could read at any moment."""
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def init_script(folder: Path, root: Path, shared: Path, visible: Iterable[Path], *, grouped: bool) -> str:
    """The first process of the pool's namespaces: it mounts what the pool sees, then becomes its init.

    The root folder itself stays as it was built: what is written over it goes to memory, and goes with the pool.
    """
    base, inside = folder / "root", folder / "root" / "merged"
    layers = f"lowerdir={root},upperdir={base}/upper,workdir={base}/work"
    lines = [
        "set -eu",
        # The /proc of the outside still: it tells this process's number there.
        f"read -r pid rest < /proc/self/stat; echo $pid > {_q(folder / 'init.new')}",
        f"mount -t tmpfs -o mode=755 tmpfs {_q(base)}",
        f"mkdir {_q(base / 'upper')} {_q(base / 'work')} {_q(inside)}",
        f"mount -t overlay -o {_q(layers)} overlay {_q(inside)}",
        f"mount -t proc proc {_q(inside)}/proc",
        f"mount --rbind /dev {_q(inside)}/dev",
        f"mount --rbind /sys {_q(inside)}/sys",
        *(cgroups.mounts(_q(inside)) if grouped else []),
        *_bind(inside, folder, PLACE),
        f"mount -t tmpfs -o size={OTHER_SPOOL_MEGABYTES}m,mode=755 tmpfs {_q(inside)}{PLACE}/other/spool",
        *_bind(inside, shared, str(shared)),
        f"chmod 1777 {_q(shared)}",
    ]
    for path in visible:
        lines += [*_bind(inside, path, str(path)), f"mount -o remount,bind,ro {_q(inside)}{_q(path)}"]
    start = [
        "set -eu",
        "umount -l /outside",
        "rmdir /outside",
        f"cd {PLACE}",
        f"chown -R condor:condor {' '.join(FOLDERS)}",
        f"condor_token_create -identity condor@{DOMAIN} > tokens.d/condor",
        f"condor_token_create -identity {USER}@{DOMAIN} > token/{USER}",
        f"chmod 600 tokens.d/condor token/{USER}",
        f"install -d -m 700 -o {USER} /home/{USER}/.condor /home/{USER}/.condor/tokens.d",
        f"install -m 600 -o {USER} token/{USER} /home/{USER}/.condor/tokens.d/{USER}",
        "mv init.new init.pid",
        "condor_master -f",
        "exit 0",  # not the last command: a shell would give its place to that, and nobody would be init
    ]
    environment = f"PATH=/usr/sbin:/usr/bin:/sbin:/bin CONDOR_CONFIG={PLACE}/condor_config"
    # Who is in a chroot may not create user namespaces, which containers need: so the root is exchanged as a whole.
    lines += [f"cd {_q(inside)}", "mkdir outside", "pivot_root . outside"]
    lines.append(f"exec chroot . /usr/bin/env -i {environment} /bin/sh -c {shlex.quote('; '.join(start))}")
    return "\n".join(lines) + "\n"


def _bind(inside: Path, source: Path, place: str) -> list[str]:
    """Show a folder inside, where every user may pass through the folders above it."""
    target = Path(f"{inside}{place}")
    above = [folder for folder in target.parents if folder.is_relative_to(inside) and folder != inside]
    lines = [f"mkdir -p {_q(target)}", f"mount --bind {_q(source)} {_q(target)}"]
    return [*lines[:1], *(f"chmod a+x {_q(folder)}" for folder in above), *lines[1:]]


def _q(path: Path | str) -> str:
    return shlex.quote(str(path))
