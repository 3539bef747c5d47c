"""A real Airflow for each module of integration tests: run numbers only grow, so modules share no campaign."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator

import pytest

from tests.cache import UnavailableError
from tests.integration.harness import Installation
from tests.pool.pool import Pool
from tests.postgres.fixture import running_server


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With the module's ``CRASH_AT`` and ``ENVIRONMENT``.

    Its Airflow knows an HTCondor pool where the module says ``ON_POOL = True``. Its ledger is on PostgreSQL (if there
    is one) where it says ``ON_POSTGRES = True``.
    """
    extra = {"CALIB_CRASH_AT": ",".join(getattr(request.module, "CRASH_AT", []))}
    extra |= getattr(request.module, "ENVIRONMENT", {})
    folder = tmp_path_factory.mktemp("installation")
    umask = os.umask(0)
    os.umask(umask)
    if getattr(request.module, "ON_POOL", False):
        pool: Pool = request.getfixturevalue("pool")
        assert pool.shared is not None
        # Jobs run as another user than the tests; at a site both are one.
        os.umask(0)
        folder = pool.shared / folder.name
        folder.mkdir()
        extra |= pool_environment(pool)
    made = Installation(folder, extra, new_database(request) if getattr(request.module, "ON_POSTGRES", False) else "")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        os.umask(umask)


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
