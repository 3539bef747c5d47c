"""The fixtures ``cluster``, ``namespace`` and ``own_cluster``; all that uses them is marked ``kubernetes``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache import UnavailableError
from tests.cluster.api import Api, Namespace
from tests.cluster.building import is_built
from tests.cluster.cluster import Cluster, shared, stop_shared

GIVEN = "CALIB_TESTS_KUBECONFIG"
REQUIRED = "CALIB_REQUIRE_KUBERNETES"
FIXTURES = {"cluster", "namespace", "own_cluster"}
COLD_SECONDS = 3600  # the first test may build it


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a cluster."""
    if FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return
    item.add_marker("kubernetes")
    if not is_built():
        item.add_marker(pytest.mark.timeout(COLD_SECONDS))


def pytest_unconfigure() -> None:
    """Stop the cluster that was started for all processes of this run."""
    stop_shared()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Api:
    """The cluster of all processes of this run, or the user's own, named by ``CALIB_TESTS_KUBECONFIG``.

    It skips with one line that says why there is none; an error if ``CALIB_REQUIRE_KUBERNETES=1``.
    """
    if given := os.environ.get(GIVEN):
        return Api(Path(given))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():  # a build says so
            return shared()
    except UnavailableError as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture
def namespace(cluster: Api) -> Iterator[Namespace]:
    """A new namespace of that cluster, for one test."""
    with cluster.namespace() as made:
        yield made


@pytest.fixture(scope="module")
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of the module's own, for what would disturb others.

    ``FLAGS`` in the module are more flags, for each process; else as :func:`cluster`, but never the user's.
    """
    made = Cluster(flags=getattr(request.module, "FLAGS", None))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            made.start()
    except UnavailableError as error:
        if os.environ.get(REQUIRED) == "1":
            raise
        pytest.skip(str(error))
    try:
        yield made
    finally:
        made.stop()
