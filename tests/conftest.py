"""Fixtures of all tests."""

from tests.pool.fixture import pool

__all__ = ["pool"]
