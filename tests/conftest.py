"""Fixtures of all tests, and which tests run in the same process."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.cluster.fixture import cluster, namespace, own_cluster, pytest_itemcollected, pytest_unconfigure
from tests.influx.fixture import influx, influx1, influx2, influx_servers
from tests.integration.sharing import installation_of
from tests.marks import check_named
from tests.pool.fixture import pool
from tests.postgres.fixture import database, postgres, postgres_servers

__all__ = [
    "cluster",
    "database",
    "influx",
    "influx1",
    "influx2",
    "influx_servers",
    "namespace",
    "own_cluster",
    "pool",
    "postgres",
    "postgres_servers",
    "pytest_itemcollected",
    "pytest_unconfigure",
]


# How long an example takes says how busy the machine is; what examples share is a folder that each empties.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")


class FilesThatShare(LoadFileScheduling):
    """``--dist loadfile``, but that files which share an Airflow are as one: marks of groups get lost with pytest 9."""

    def _split_scope(self, nodeid: str) -> str:
        return installation_of(nodeid) or super()._split_scope(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks are where :mod:`tests.stages` looks for them."""
    check_named(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Ours for ``--dist loadfile``."""
    return FilesThatShare(config, log) if config.getvalue("dist") == "loadfile" else None
