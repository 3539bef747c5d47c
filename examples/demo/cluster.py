"""A Kubernetes cluster for the demonstration: one of one node, of this machine, which is started for it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"
IMAGE = "localhost/machine:1"
USER = 1000
"""Whose the pods are, if the demonstration is root's: root's they may not be."""

_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """A cluster for as long as this lasts.

    :param folder: the demonstration's, which the pods see.
    :returns: the Airflow connection, the block ``kubernetes`` of the specs, and the backend.
    :raises UnavailableError: it cannot be had here.
    """
    from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
    from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
    from tests.cluster.cluster import Cluster

    # Pods are another user's, who must be able to write into the folders of their attempts.
    before = os.umask(0)
    folder.chmod(0o755)
    try:
        with Cluster() as started, started.namespace() as namespace:
            _load_image(started)
            where = {"kube_config_path": str(namespace.airflow()), "namespace": namespace.name}
            backend = KubernetesBackend(KubernetesSettings(**where))
            yield json.dumps({"conn_type": "kubernetes", "extra": where}), block(folder), backend
    finally:
        os.umask(before)


def block(folder: Path) -> dict[str, Any]:
    """The block ``kubernetes`` of the specs: this machine's programs, its Python and the example as volumes.

    :param folder: the demonstration's.
    """
    seen = {"usr": Path("/usr"), "demo": folder, "examples": TOP / "examples"}
    prefixes = {"environment": Path(sys.prefix), "python": Path(sys.base_prefix)}
    seen |= {name: path for name, path in prefixes.items() if not path.is_relative_to("/usr")}
    return {
        "image": IMAGE,
        "image_pull_policy": "Never",
        "cpu_request": "250m",
        "run_as_user": os.getuid() or USER,
        "spool": {"host_path": str(folder / "calib")},
        "volumes": {
            name: {"host_path": str(path), "mount": str(path), "read_only": True} for name, path in seen.items()
        },
    }


def _load_image(started: Any) -> None:
    """An image that holds nothing but the places for this machine's programs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for place in ("dev", "etc", "proc", "sys", "tmp", "usr"):
            (root / place).mkdir()
        (root / "tmp").chmod(0o1777)
        for link, target in _LINKS.items():
            (root / link).symlink_to(target)
        started.load(IMAGE, root, ["sh"])
