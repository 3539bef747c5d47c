"""Backends on the test cluster, and what the tests of the Kubernetes backend share."""

from __future__ import annotations

import itertools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.kubernetes import static
from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from tests.backends.conformance import Round
from tests.cache import UnavailableError, cache_folder, kept
from tests.golang import GoBuild, compiler

GENERATION = itertools.count(1)
USER = 1000
"""Whose the pods are: not that of the tests, which is mostly root."""


def static_starter(home: Path) -> Path:
    """The program that starts jobs without a shell, where the backend looks for it; built once."""

    def build(folder: Path) -> None:
        work = shutil.copytree(static.SOURCE, folder / "work")
        log = cache_folder() / "starter.log"
        flags = ("-trimpath", "-ldflags", "-s -w")
        GoBuild("the starter", log, compiler(), {"CGO_ENABLED": "0"}).go(
            work, "build", *flags, "-o", folder / "starter", "."
        )
        shutil.rmtree(work)

    try:
        made = kept("starter", static.version(), build) / "starter"
    except UnavailableError as error:
        pytest.skip(str(error))
    place = static.program(home)
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(made, place))


class OnCluster(KubernetesBackend):
    """A backend whose tasks all say the same of their pods, and what a test adds."""

    block: Mapping[str, Any]

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """As any backend, with the block of the tests below that of the test."""
        super().submit(key, jobs, {**self.block, **(options or {})})


class KubernetesBackends:
    """Backends of one spool and one namespace."""

    image = "localhost/shell:1"
    shell = True
    """Whether the image has one, or seems to."""
    spool_at = ""
    """Where the pods have it, if not where this machine does."""

    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """The installation's folder, in which pods may write, as another user than the tests."""
        before = os.umask(0)
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("CALIB_HOME", str(home))
        monkeypatch.setenv("CALIB_KUBERNETES_INTERVAL", "1")
        yield home
        os.umask(before)

    @pytest.fixture
    def root(self, home: Path) -> Path:
        return home / "products"

    @pytest.fixture
    def block(self, home: Path) -> dict[str, Any]:
        """What the tasks say of their pods."""
        spool = {"host_path": str(home), **({"mount": self.spool_at} if self.spool_at else {})}
        if not self.shell:
            static_starter(home)
        # What a node is asked for is little: tests run beside each other on one of few CPUs.
        pods = {"image": self.image, "image_pull_policy": "Never", "run_as_user": USER, "cpu_request": "20m"}
        return {**pods, "spool": spool, **({} if self.shell else {"shell": False})}

    @pytest.fixture
    def make_backend(self, namespace: Any, home: Path, block: dict[str, Any]) -> Callable[..., OnCluster]:
        def make(name: str = "kubernetes_default", **settings: Any) -> OnCluster:
            settings = {"kube_config_path": str(namespace.api.kubeconfig), "namespace": namespace.name, **settings}
            made = OnCluster(KubernetesSettings(name, **settings))
            made.block = block
            return made

        return make

    @pytest.fixture
    def backend(self, make_backend: Callable[..., OnCluster]) -> OnCluster:
        return make_backend()

    @pytest.fixture
    def make_round(self, root: Path) -> Callable[..., Round]:
        campaign = f"c{uuid.uuid4().hex[:8]}"

        def make(group: str = "run-r1") -> Round:
            return Round(root, RoundKey(campaign, "flow", "task", group, next(GENERATION), 0, 1))

        return make
