"""The cluster, whose requests are counted, and the folders that its pods see."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.settings import number
from tests.cache import cache_folder
from tests.cluster.api import Namespace
from tests.cluster.cluster import Cluster
from tests.cluster.images import SHELL
from tests.jobsets.world import World

CONTROLLER = ["--kube-api-qps", "400", "--kube-api-burst", "500"]
"""As a large cluster's controller manager: with its defaults of 20 requests a second it makes 9 pods a second."""


class Place:
    """A running cluster, a namespace of it, and a folder that pods may write to, all gone at the end."""

    def __init__(self) -> None:
        self.cluster = Cluster(flags={"controller-manager": CONTROLLER}, counted=True)
        roomy = cache_folder() / "bench"
        roomy.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="kubernetes-", dir=roomy))
        self._umask = 0
        self._ending = ExitStack()
        self.namespace: Namespace

    def __enter__(self) -> Self:
        # Jobs are another user's than the benchmarks, which are root's; at a site both are one.
        self._umask = os.umask(0)
        self.folder.chmod(0o777)
        self.cluster.start()
        self.namespace = self._ending.enter_context(self.cluster.namespace())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()
        self.cluster.stop()
        os.umask(self._umask)
        shutil.rmtree(self.folder, ignore_errors=True)

    def version(self) -> str:
        """Kubernetes' version."""
        return str(self.cluster.call("GET", "/version")["gitVersion"])

    def account(self, name: str) -> Path:
        """A service account that may do everything in the namespace, and whose requests are counted."""
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        self.namespace.create("serviceaccounts", {"metadata": {"name": name}})
        self.namespace.create("roles", {"metadata": {"name": name}, "rules": rules})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace.name}
        self.namespace.create("rolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})
        return self.namespace.account(name)

    def requests(self, name: str) -> int:
        """How many requests a service account has made so far."""
        return self.cluster.requests()[f"system:serviceaccount:{self.namespace.name}:{name}"]

    def block(self, home: Path, **more: Any) -> dict[str, Any]:
        """What our tasks say of their pods."""
        spool = {"host_path": str(home)}
        return {"image": SHELL, "image_pull_policy": "Never", "run_as_user": 1000, "spool": spool, **more}

    def empty(self) -> None:
        """Remove all Jobs and pods, and wait until they are gone."""
        self.cluster.call(
            "DELETE", self.namespace.path("jobs"), {"propagationPolicy": "Background", "kind": "DeleteOptions"}
        )
        self.cluster.call("DELETE", self.namespace.path("pods"), {"kind": "DeleteOptions"})
        wait(lambda: not self.namespace.list("pods", limit=1), 900, "the namespace to be empty")


class Set(World):
    """One of our job sets on the cluster, without an Airflow.

    :param folder: of the installation.
    :param account: a service account's kubeconfig.
    """

    def __init__(self, place: Place, folder: Path, account: Path, script: str, n_jobs: int, **options: Any) -> None:
        folder.mkdir()
        os.environ["CALIB_HOME"] = str(folder)
        settings = KubernetesSettings(kube_config_path=str(account), namespace=place.namespace.name)
        super().__init__(folder, script, n_jobs, KubernetesBackend(settings), **options)

    def watched(self, patience: float) -> str:
        """Run it as a triggerer does, to its end; returns how that is."""
        begun = self.begin().generation_id
        until = time.monotonic() + patience
        while (standing := self.step([begun])[begun]).state == "running":
            if time.monotonic() > until:
                raise TimeoutError(f"the job set is not done after {patience:g} s: {standing}")
            time.sleep(number("WATCH_INTERVAL"))
        return str(standing.state)


def wait(condition: Callable[[], object], patience: float, what: str, pause: float = 1.0) -> None:
    """Wait for something.

    :raises TimeoutError: it did not come.
    """
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        time.sleep(pause)


def progress(text: str) -> None:
    """Say what is going on, beside the figures."""
    sys.stderr.write(f"{text}\n")
