"""Fixtures of all tests."""

from tests.influx.fixture import influx, influx1, influx2, influx_servers
from tests.pool.fixture import pool

__all__ = ["influx", "influx1", "influx2", "influx_servers", "pool"]
