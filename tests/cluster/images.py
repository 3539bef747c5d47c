"""Images for the tests, made from folders: no registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.cluster.building import Programs

SHELL: Final = "localhost/shell:1"
"""Busybox: a shell and its commands."""
PLAIN: Final = "localhost/plain:1"
"""No shell, no folder: one program, ``/plain OUT CODE [ARGUMENT...]`` (see ``programs/plain``)."""

_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var/tmp")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def shell_folder(folder: Path, found: Programs) -> None:
    """Fill a folder with busybox under all of its names."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (folder / name).chmod(0o1777)
    busybox = shutil.copy2(found.find("busybox"), folder / "bin" / "busybox")
    said = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout
    for name in set(said.split()) - {"busybox"}:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\njob:x:1000:1000::/home:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\njob:x:1000:\n")


def program_folder(name: str) -> Callable[[Path, Programs], None]:
    """What fills a folder with one of our programs and nothing else."""
    return lambda folder, found: shutil.copy2(found.folder / name, folder / name) and None


def archive(name: str, folder: Path, command: Sequence[str]) -> bytes:
    """An image as the archive that ``ctr images import`` reads, the same for the same folder.

    Args:
        name: with its tag.
        folder: the root of its files.
        command: what is run where nothing else is said.
    """
    layer = _tar(dict.fromkeys(sorted(folder.rglob("*"))), folder)
    config = {
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/sbin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    texts = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode()}
    return _tar({Path(name): text for name, text in (texts | {"layer.tar": layer}).items()})


def _tar(files: dict[Path, bytes | None], root: Path = Path()) -> bytes:
    """An archive of files, with their contents or as they are below a folder."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as made:
        for path, content in files.items():
            if content is None:
                made.add(path, str(path.relative_to(root)), recursive=False, filter=_anonymous)
            else:
                entry = tarfile.TarInfo(str(path))
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry
