"""A real Airflow for each group of modules that share one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from tests.browser.fixture import person, visitor
from tests.cache import UnavailableError
from tests.cluster.cluster import Cluster
from tests.cluster.fixture import REQUIRED
from tests.integration.harness import Installation
from tests.integration.sharing import SHARED, installation_of
from tests.pool.pool import Pool
from tests.postgres.fixture import running_server

__all__ = ["person", "visitor"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One installation after the other, so that no more than one Airflow runs in a process."""
    mine = [item for item in items if installation_of(item.nodeid)]
    mine.sort(key=lambda item: list(SHARED).index(installation_of(item.nodeid)))
    sorted_ones = iter(mine)
    items[:] = [next(sorted_ones) if installation_of(item.nodeid) else item for item in items]


@dataclass
class Running:
    """The installation that runs; there is one at a time.

    :ivar group: whose it is.
    :ivar ending: ends it.
    """

    group: str = ""
    installation: Installation | None = None
    ending: ExitStack = field(default_factory=ExitStack)


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """What runs."""
    made = Running()
    with made.ending:
        yield made


@pytest.fixture(scope="module")
def installation(
    request: pytest.FixtureRequest, running: Running, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """The one of the module's group, with the ``CRASH_AT`` and ``ENVIRONMENT`` of all modules of the group.

    Its Airflow knows an HTCondor pool where one of them says ``ON_POOL = True``, and a Kubernetes cluster of its own
    where one says ``ON_CLUSTER = True``. Its ledger is on PostgreSQL (if there
    is one) where one says ``ON_POSTGRES = True``.
    """
    group = installation_of(request.node.nodeid)
    if running.installation is None or running.group != group:
        running.ending.close()
        running.installation = None
        running.installation = start(request, group, tmp_path_factory.mktemp(group), running.ending)
        running.group = group
    running.installation.take_runs_from("runs")
    return running.installation


def start(request: pytest.FixtureRequest, group: str, folder: Path, ending: ExitStack) -> Installation:
    """Start an installation as the group's modules want it."""
    items = (item for item in request.session.items if installation_of(item.nodeid) == group)
    modules: list[ModuleType] = list({item.module: None for item in items if isinstance(item, pytest.Function)})
    crashes = [entry for module in modules for entry in getattr(module, "CRASH_AT", [])]
    extra = {"CALIB_CRASH_AT": ",".join(crashes)}
    for module in modules:
        extra |= getattr(module, "ENVIRONMENT", {})
    if any(getattr(module, "ON_POOL", False) for module in modules):
        pool: Pool = request.getfixturevalue("pool")
        assert pool.shared is not None
        # Jobs run as another user than the tests; at a site both are one.
        ending.callback(os.umask, os.umask(0))
        folder = pool.shared / folder.name
        folder.mkdir()
        extra |= pool_environment(pool)
    if any(getattr(module, "ON_CLUSTER", False) for module in modules):
        # Pods run as another user than the tests, too.
        ending.callback(os.umask, os.umask(0))
        extra |= cluster_environment(ending)
    on_postgres = any(getattr(module, "ON_POSTGRES", False) for module in modules)
    made = Installation(folder, extra, new_database(request) if on_postgres else "")
    ending.callback(made.stop)
    made.start()
    return made


def new_database(request: pytest.FixtureRequest) -> str:
    """The address of an empty database on PostgreSQL; nothing if there is no server."""
    servers = request.getfixturevalue("postgres_servers")
    try:
        server = running_server(servers)
    except UnavailableError:
        return ""
    name = f"installation_{secrets.token_hex(6)}"
    server.create(name)
    return server.url(name)


def cluster_environment(ending: ExitStack) -> dict[str, str]:
    """What tells an Airflow of a cluster that may be disturbed, with the rights of deploy/kubernetes and no more."""
    cluster = Cluster()
    try:
        cluster.start()
    except UnavailableError as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))
    ending.callback(cluster.stop)
    namespace = ending.enter_context(cluster.namespace())
    extra = {"kube_config_path": str(namespace.airflow()), "namespace": namespace.name}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": extra}),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "CALIB_KUBERNETES_INTERVAL": "1",
    }


def pool_environment(pool: Pool) -> dict[str, str]:
    """What tells an Airflow of a pool."""
    connection = pool.connection()
    host, _, port = connection.pop("collector").partition(":")
    made = {"conn_type": "calib_condor", "host": host, "port": int(port), "extra": connection}
    return {
        "AIRFLOW_CONN_CALIB_CONDOR": json.dumps(made),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "CALIB_CONDOR_VERIFY_INTERVAL": "5",
    }
