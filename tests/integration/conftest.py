"""A real Airflow for each module of integration tests: run numbers only grow, so modules share no campaign."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import Installation


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    crashes: list[str] = getattr(request.module, "CRASH_AT", [])
    made = Installation(tmp_path_factory.mktemp("installation"), {"CALIB_CRASH_AT": ",".join(crashes)})
    try:
        made.start()
        yield made
    finally:
        made.stop()
