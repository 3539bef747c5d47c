"""The control groups of a node: all pods are in one group, of both versions of control groups."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.pool.cgroups import MOUNTED, remove_all

CPUS = ("cpuset.mems", "cpuset.cpus")


def name(folder: Path) -> str:
    """The group of the cluster in this folder."""
    return f"calib-{hashlib.sha256(str(folder).encode()).hexdigest()[:10]}"


def create(group: str) -> None:
    """Make it in each hierarchy; the kubelet wants to find it there."""
    for root in _roots():
        (root / group).mkdir(exist_ok=True)
        for file in CPUS:
            # Version 1: without these, no process may come into it.
            if (root / group / file).exists() and not (root / group / file).read_text().strip():
                (root / group / file).write_text((root / file).read_text())


def remove(group: str) -> None:
    """Remove it with all groups in it, when no process is left."""
    remove_all(places(group))


def places(group: str) -> list[Path]:
    """Where it is, or would be."""
    return [root / group for root in _roots()]


def _roots() -> list[Path]:
    """Where hierarchies are mounted: one with version 2, one for each controller with version 1."""
    if (MOUNTED / "cgroup.controllers").exists():
        return [MOUNTED]
    return sorted({path.resolve() for path in MOUNTED.glob("*/") if (path / "cgroup.procs").exists()})
