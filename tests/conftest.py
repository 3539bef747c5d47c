"""Fixtures of all tests."""

from tests.influx.fixture import influx, influx1, influx2, influx_servers
from tests.pool.fixture import pool
from tests.postgres.fixture import database, postgres, postgres_servers

__all__ = ["database", "influx", "influx1", "influx2", "influx_servers", "pool", "postgres", "postgres_servers"]
