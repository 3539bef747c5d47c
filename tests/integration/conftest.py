"""One real Airflow for all integration tests: starting it is what costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import test_kills
from tests.integration.harness import Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    crashes = ",".join(test_kills.entries())
    made = Installation(tmp_path_factory.mktemp("installation"), {"CALIB_CRASH_AT": crashes})
    try:
        made.start()
        yield made
    finally:
        made.stop()
