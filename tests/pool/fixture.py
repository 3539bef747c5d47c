"""The fixture ``pool``: one real HTCondor pool for all tests of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cache import UnavailableError
from tests.pool.pool import Pool


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool, or a skip with one line that says why there is none; an error if ``CALIB_REQUIRE_POOL=1``."""
    made = Pool(tmp_path_factory.mktemp("shared"))
    try:
        made.start()
    except UnavailableError as error:
        if os.environ.get("CALIB_REQUIRE_POOL") == "1":
            raise
        pytest.skip(str(error))
    try:
        yield made
    finally:
        made.stop()
