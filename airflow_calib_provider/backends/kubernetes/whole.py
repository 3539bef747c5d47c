"""What must hold of a task's block over that of the defaults, taken together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_calib_provider.backends.kubernetes.patch import Found, elements, loose_in
from airflow_calib_provider.domain.scalars import mistake


def mistakes_of_block(block: Mapping[str, Any]) -> Found:
    """What is wrong with the block of a task, each with its place in it.

    :param block: what is stated, as JSON has it.
    """
    if "image" not in block:
        expected = "kubernetes: {image: registry.example.org/calib/fit:1.2}, here or in defaults"
        yield (), mistake("a task on Kubernetes does not say which image its jobs run in", expected)
    if "spool" not in block:
        yield (
            (),
            mistake(
                "a task on Kubernetes has no spool volume, by which jobs and Airflow see the same files",
                "kubernetes: {spool: {pvc: <claim>}}, here or in defaults",
                "host_path and nfs do too: the volume is what Airflow's machines have as CALIB_HOME",
            ),
        )
    restricted = block.get("restricted", True)
    if restricted and block.get("run_as_user") == 0:
        yield ("run_as_user",), mistake("run_as_user is 0, and restricted pods are not root's", "restricted: false")
    yield from _mounts(block)
    for key in {key: None for patch in block.get("patch", ()) for key in loose_in(patch)} if restricted else ():
        yield ("patch",), mistake(f"a patch sets {key}, and the pods are restricted", "restricted: false")


def _mounts(block: Mapping[str, Any]) -> Found:
    spool = block.get("spool", {}).get("mount")
    taken = {spool: "the spool"} if spool else {}
    for name, volume in block.get("volumes", {}).items():
        mount = volume["mount"]
        if mount in taken:
            said = f"the volume {name!r} is mounted where {taken[mount]} is: {mount}"
            yield ("volumes", name, "mount"), mistake(said, "a place of its own")
        taken.setdefault(mount, f"the volume {name!r}")
    yield from _over_mounts(block, taken)


def _over_mounts(block: Mapping[str, Any], taken: Mapping[str, str]) -> Found:
    for patch in block.get("patch", ()):
        for path in _paths(patch):
            if path in taken:
                yield ("patch",), mistake(f"a patch mounts over {taken[path]}: {path}", "a place of its own")


def _paths(patch: Mapping[str, Any]) -> Iterator[str]:
    """Where a patch mounts something in the job's container."""
    for _, item in elements(patch.get("spec"), "containers"):
        yield from (str(mount["mountPath"]) for _, mount in elements(item, "volumeMounts"))
