"""The static program that starts jobs where an image has no shell: where it lies, and how it is built.

It lies in the installation's folder, which the pods see, so that no image has to bring it; its source is a part of this
package.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
from functools import cache
from pathlib import Path

from airflow_calib_provider.errors import SubmissionRefused

SOURCE = Path(__file__).with_name("starter")

_KINDS = {"x86_64": "amd64", "aarch64": "arm64"}


@cache
def version() -> str:
    """What tells a program of this source from that of another."""
    texts = [(SOURCE / name).read_bytes() for name in ("go.mod", "main.go")]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


def program(home: Path) -> Path:
    """Where the program is, for nodes of this machine's kind.

    :param home: the installation's folder.
    """
    machine = platform.machine()
    return home / "starter" / f"{version()}-{_KINDS.get(machine, machine)}"


def build_command(home: Path) -> str:
    """What a person types to build it; it needs Go and nothing else."""
    target = shlex.quote(str(program(home)))
    return f"cd {shlex.quote(str(SOURCE))} && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o {target} ."


def check(home: Path) -> None:
    """:raises SubmissionRefused: the program is not there."""
    if not program(home).is_file():
        raise SubmissionRefused(
            f"the image has no shell, and what starts jobs there is not built: {program(home)}",
            f"on a machine with Go: {build_command(home)}",
        )
