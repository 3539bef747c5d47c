"""The fixtures ``influx1``, ``influx2`` and ``influx``: real servers, with a new database for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cache import UnavailableError
from tests.influx.building import is_built
from tests.influx.server import Influx

VERSION_1, VERSION_2 = "1.8.10", "2.7.12"
COLD_SECONDS = 3600  # the first test may build a server


def _version(version: str) -> Any:
    """A fixture's parameter: whoever uses it needs a real InfluxDB."""
    slow = [] if is_built(version) else [pytest.mark.timeout(COLD_SECONDS)]
    return pytest.param(version, marks=[pytest.mark.influx, *slow])


@pytest.fixture(scope="session")
def influx_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Influx | UnavailableError]]:
    """The servers of this process, by version: each started when first wanted, or why there is none."""
    servers: dict[str, Influx | UnavailableError] = {}
    yield servers
    for server in servers.values():
        if isinstance(server, Influx):
            server.stop()


def _fresh(version: str, request: pytest.FixtureRequest) -> Iterator[Influx]:
    servers = request.getfixturevalue("influx_servers")
    if version not in servers:
        folder = request.getfixturevalue("tmp_path_factory").mktemp(f"influxdb-{version}")
        capture = request.config.pluginmanager.getplugin("capturemanager")
        try:
            with capture.global_and_fixture_disabled():  # a build says so
                servers[version] = Influx(version, folder).start()
        except UnavailableError as error:
            servers[version] = error
    server = servers[version]
    if isinstance(server, UnavailableError):
        if os.environ.get("CALIB_REQUIRE_INFLUX") == "1":
            raise server
        pytest.skip(str(server))
    server.start()  # the test before may have left it dead
    name = server.new_database()
    yield server
    if server.running():
        server.resume()
    server.start()
    server.drop_database(name)


@pytest.fixture(params=[_version(VERSION_1)])
def influx1(request: pytest.FixtureRequest) -> Iterator[Influx]:
    """InfluxDB 1.8 with a new database.

    It skips with one line that says why there is none; an error if ``CALIB_REQUIRE_INFLUX=1``. The server is the same
    for all tests of a process.
    """
    yield from _fresh(request.param, request)


@pytest.fixture(params=[_version(VERSION_2)])
def influx2(request: pytest.FixtureRequest) -> Iterator[Influx]:
    """InfluxDB 2.7 with a new bucket and its mapping for InfluxQL; else as :func:`influx1`."""
    yield from _fresh(request.param, request)


@pytest.fixture(params=[_version(VERSION_1), _version(VERSION_2)])
def influx(request: pytest.FixtureRequest) -> Iterator[Influx]:
    """Each of the two, one after the other."""
    yield from _fresh(request.param, request)
