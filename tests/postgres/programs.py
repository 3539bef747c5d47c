"""PostgreSQL's programs: those of this machine, else Debian's packages, unpacked once and kept in the cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cache import UnavailableError, kept
from tests.debian import libraries, release, unpack

INSTALLED = Path("/usr/lib/postgresql")


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
    root = root or kept("postgresql", f"{release()} 1", lambda made: unpack(made, "PostgreSQL", "60 MB", "postgresql"))
    folder = _newest(root / "usr" / "lib" / "postgresql")
    if not folder:
        raise UnavailableError(f"PostgreSQL's packages in {root} have no program postgres; remove that folder")
    return Programs(folder, root, {"LD_LIBRARY_PATH": libraries(root)})


def _newest(folder: Path) -> Path | None:
    """Debian's folder of programs of the newest version."""
    found = [path.parent for path in folder.glob("*/bin/postgres") if re.fullmatch(r"\d+", path.parts[-3])]
    return max(found, key=lambda path: int(path.parts[-2])) if found else None
